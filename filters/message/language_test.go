package message

import (
	"slices"
	"strings"
	"testing"
)

func TestLanguageAndScript(t *testing.T) {
	tests := []struct{ why, text, language, scripts string }{
		{"English", "Thank you for your order. It is on its way to you and will be with you by Friday.", "en", "latin"},
		{"German", "Vielen Dank für Ihre Bestellung. Wir haben sie heute verschickt, und sie wird bis Freitag bei Ihnen sein.", "de", "latin"},
		{"French", "Merci pour votre commande. Nous l'avons envoyée et elle sera chez vous avant la fin de la semaine.", "fr", "latin"},
		{"Spanish", "Gracias por su pedido. Lo hemos enviado hoy y estará con usted antes de que termine la semana.", "es", "latin"},
		{"Portuguese", "Obrigado pelo seu pedido. Ele já foi enviado e você vai receber até o fim da semana, não se preocupe.", "pt", "latin"},
		{"Italian", "Grazie per il suo ordine. Lo abbiamo spedito oggi e sarà da lei prima della fine della settimana, non dopo.", "it", "latin"},
		{"Dutch", "Bedankt voor uw bestelling. Wij hebben het vandaag verzonden en het is voor het einde van de week bij u.", "nl", "latin"},
		{"Swedish", "Tack för din beställning. Vi har skickat den idag och den är hos dig innan veckan är slut.", "sv", "latin"},
		{"Polish", "Dziękujemy za zamówienie. Zostało wysłane dziś i będzie u państwa do końca tygodnia, proszę się nie martwić o to.", "pl", "latin"},
		{"Turkish", "Siparişiniz için teşekkürler. Bugün gönderdik ve bu hafta size ulaşmış olacak, lütfen bize bir mesaj yazın.", "tr", "latin"},
		{"Russian", "Спасибо за ваш заказ. Мы отправили его сегодня, и он будет у вас до конца недели, если всё будет хорошо.", "ru", "cyrillic"},
		{"Ukrainian", "Дякуємо за ваше замовлення. Ми вже надіслали його, і він буде у вас до кінця тижня, якщо все буде добре.", "uk", "cyrillic"},
		{"Greek", "Ευχαριστούμε για την παραγγελία σας.", "el", "greek"},
		{"Japanese with more Han than Kana", "東京都渋谷区株式会社の請求書在中", "ja", "han hiragana"},
		{"Chinese", "感谢您的订购，我们今天已经发货。", "zh", "han"},
		{"Korean", "주문해 주셔서 감사합니다.", "ko", "hangul"},
		{"Arabic", "شكرا لكم على الطلب. لقد تم إرساله اليوم من المستودع إلى العنوان الذي قدمته في هذا الطلب.", "ar", "arabic"},
		{"Hebrew", "תודה על ההזמנה שלך, שלחנו אותה היום.", "he", "hebrew"},
		{"Thai", "ขอบคุณสำหรับคำสั่งซื้อของคุณ เราได้จัดส่งแล้ววันนี้", "th", "thai"},
		{"Hindi", "आपके आदेश के लिए धन्यवाद। हम इसे आज ही भेज रहे हैं और यह आप को इस सप्ताह में मिल जाएगा।", "hi", "devanagari"},
		{"too short to be told", "ok, thanks", "", "latin"},
		{"nothing but names and numbers", "Invoice 4711 Smith Miller Johnson Williams Brown Davis Wilson", "", "latin"},
		{"no letters at all", "12345 !!! 67890 https", "", "latin"},
		{"two languages in equal parts", "the order is on the way to you and it is for you. " + "die Bestellung ist auf dem Weg zu Ihnen und sie ist für Sie. ", "", "latin"},
		{"one letter of another script is not told", "the letter " + strings.Repeat("and it is for you ", 20) + "я", "en", "latin"},
		{"letters of another script among words", "Yоur pаypаl аccоunt", "", "latin cyrillic"},
		{"nothing", "", "", ""},
	}
	for _, tt := range tests {
		m := read(t, []byte("From: a@example.org\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"+tt.text+"\r\n"))
		if got := m.Language(); got != tt.language {
			t.Errorf("%s: language %q, want %q", tt.why, got, tt.language)
		}
		if got := strings.Join(m.Scripts(), " "); got != tt.scripts {
			t.Errorf("%s: scripts %q, want %q", tt.why, got, tt.scripts)
		}
	}
}

func FuzzLanguage(f *testing.F) {
	f.Add("the order is on its way to you")
	f.Add("спасибо за ваш заказ\xff\xf0\x9f")
	f.Add("東京の")
	f.Fuzz(func(t *testing.T, text string) {
		r := readLanguage(text)
		if r.language != "" && !slices.Contains(Languages(), r.language) {
			t.Errorf("language %q", r.language)
		}
		for _, s := range r.scripts {
			if !slices.Contains(Scripts(), s) {
				t.Errorf("script %q", s)
			}
		}
	})
}

func BenchmarkLanguage(b *testing.B) {
	text := strings.Repeat("Thank you for your order. It is on its way to you and will be with you by Friday. ", 50)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		readLanguage(text)
	}
}
