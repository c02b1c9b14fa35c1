package message

// A language is one that shares its script with others, with the small words by which it is known: those that stand in
// nearly every text, whatever it is about.
type language struct{ code, script, words string }

var languages = []language{
	{code: "en", script: "latin", words: "the of and to in is that it for you was with on are this be have your from at or by not we as will our can if an my has please all i me but they would which their"},
	{code: "de", script: "latin", words: "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über wir ich ihr ihre uns oder bitte haben kann wenn zum zur mein"},
	{code: "fr", script: "latin", words: "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec vous votre nous notre je mon cette aux ou mais être ont c'est elle merci veuillez vos son ses leur"},
	{code: "es", script: "latin", words: "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin sobre este ya entre cuando todo esta ser son está usted nuestro mi nos hay fue gracias"},
	{code: "it", script: "latin", words: "di e il la che in un a per è una non del si con da sono le dei al i della come lo nel alla ha più gli anche ma o se ci delle questo mi suo nella essere dal tuo vostro nostro sua questa grazie"},
	{code: "pt", script: "latin", words: "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou quando muito nos já eu também só pelo pela até isso você seus foi está são obrigado nosso"},
	{code: "nl", script: "latin", words: "de het een en van in is op te dat die voor met niet zijn aan er om ook als dan maar bij of uit nog naar heeft hij ze wordt door over ik je u uw wij we onze kan worden deze dit meer tot was geen mijn"},
	{code: "sv", script: "latin", words: "och i att det som en på är av för med den till inte har de ett om vi jag kan så men din du från var eller när ska vår alla nu mig dig här efter detta vid hej tack er sig"},
	{code: "da", script: "latin", words: "og i at det er en til på som for med af den de der ikke har vi et kan du jeg om din fra så men eller vil var når dig vores skal også hej efter være os hvis bliver mig tak nu sig"},
	{code: "no", script: "latin", words: "og i å det er en til på som for med av den de ikke har vi et kan du jeg om din fra så men eller vil var når deg vår skal også hei etter være oss hvis blir meg takk nå seg"},
	{code: "fi", script: "latin", words: "ja on ei että se hän oli ovat mutta niin kun kuin myös tai jos sinun voit ole olla tämä minä te me he joka nyt vain kanssa mitä sen mukaan jonka hyvä ovat teidän kaikki sekä saat voi"},
	{code: "pl", script: "latin", words: "i w na z do się nie że to jest o za po jak od a dla co ale przez czy tak być ten są oraz jego tym może już lub państwa pani pan proszę przy które który ma nas bardzo twoje ich"},
	{code: "cs", script: "latin", words: "a je v se na to že s z do o i ve k pro za by ale si po jako jsou tak aby při už jen od nebo který které jsem podle být bude vám vás náš není také však prosím"},
	{code: "sk", script: "latin", words: "a je v sa na to že s z do o i vo k pre za by ale si po ako sú tak aby pri už len od alebo ktorý ktoré som podľa byť bude vám vás náš nie je tiež však prosím"},
	{code: "hu", script: "latin", words: "a az és hogy nem is egy ez meg de már csak vagy volt van mint ha el még fel be ki sem kell lehet azt ezt minden ön az önnek szerint után kérjük illetve nagyon vannak most hozzá itt"},
	{code: "ro", script: "latin", words: "și de în la a cu pe nu o din că se este un pentru sau mai ce ca prin fi dar au care sunt al ai cel după fost dumneavoastră vă am ne lui noi acest această poate ale să"},
	{code: "hr", script: "latin", words: "i u je na se da za su od s a o kao što koji ne to nije iz po bi ali biti te do kako ili sam možete vas vam naš li će samo ako jer već još prema"},
	{code: "tr", script: "latin", words: "ve bir bu için de da ile çok olarak daha en o ne gibi var olan kadar ama sonra değil ya her size sizin biz ben mi olduğu veya tüm lütfen ise şey nasıl bize bunu olur"},
	{code: "id", script: "latin", words: "yang dan di untuk dengan ini dari dalam tidak akan pada anda itu kami juga ke karena ada oleh saya atau bisa sebagai telah dapat lebih kita sudah adalah tersebut jika hanya"},
	{code: "vi", script: "latin", words: "và của là có trong được cho không một những với các người để này đã tôi bạn khi đến về như vào từ chúng sẽ hay thì nhưng quý cũng tại ra làm hoặc"},
	{code: "ca", script: "latin", words: "de la i el que a en els un per les amb del una és no al dels es més són ha com o però seva seu si aquest va aquesta molt també ens vostè fins hi ser sobre gràcies nostre"},
	{code: "et", script: "latin", words: "ja on ei et see ta oli aga kui ka või mis ning oma siis nii teie meie ma selle kes mida saab olen seda üle välja väga ole palun ainult juba"},
	{code: "lv", script: "latin", words: "un ir ar no uz par ka kas lai bet vai kā tas to šo jūs jūsu mēs pie pēc nav arī ja es tā tikai var lūdzu šis mūsu vēl tiek būt"},
	{code: "lt", script: "latin", words: "ir yra kad su į iš tai bet ar kaip už nuo jūsų jūs mes aš per apie tik dar jau buvo ne šis prašome arba jei bus mūsų savo kurie taip pat"},
	{code: "sl", script: "latin", words: "in je v se na da za so z s od a o kot ki ne to ni po bi ali biti te do kako sem vas vam naš če že še pri tudi samo lahko bo ker prosimo"},
	{code: "ru", script: "cyrillic", words: "и в не на что с по как это к у из за но для от вы мы я он все то о так бы же ваш вас если или только при было был до вам их мой есть уже может нет быть"},
	{code: "uk", script: "cyrillic", words: "і в не на що з та у до як це за для від ви ми я він але про ваш вас якщо або тільки при було був вам їх є вже може немає бути й із його цей"},
	{code: "bg", script: "cyrillic", words: "и на да за се не е с от в по че са това като са към ще но или при до ви вие ние аз си бъде може само ако няма има вашата вашия след също който тази"},
	{code: "sr", script: "cyrillic", words: "и у је на се да за су од са а о као што који не то није из по би али бити те до како или сам можете вас вам наш ће само ако јер већ још"},
	{code: "mk", script: "cyrillic", words: "и на да за се не е со од во по дека се ова како кон ќе но или при до ве вие ние јас си може само ако нема има вашата вашиот по исто што кој оваа"},
	{code: "ar", script: "arabic", words: "في من على إلى أن هذا التي هذه عن مع ما لا هو كان قد أو ذلك كل هي لم بعد بين غير لكم لك نحن الذي حيث إذا و أي"},
	{code: "fa", script: "arabic", words: "و در به از که این را با است برای آن یک شما ما می خود تا بر هم نیز یا باید شده اگر هر من آنها کرد است های دارد"},
	{code: "ur", script: "arabic", words: "کے کی میں ہے اور سے کا کو نے پر یہ کہ ہیں کیا آپ تھا بھی جو اس وہ ہم ایک تو نہیں گے لیے ہو تک اپنے"},
	{code: "hi", script: "devanagari", words: "के में है की और से का को ने पर यह कि हैं एक आप भी जो इस वह हम तो नहीं लिए हो तक अपने था कर या साथ"},
	{code: "mr", script: "devanagari", words: "आहे आणि या व हे ते ही तर की च्या मध्ये आहेत नाही होते केले साठी पण त्या असे एक आपल्या करून तुम्ही आम्ही काही"},
}
