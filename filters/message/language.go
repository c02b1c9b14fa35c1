package message

import (
	"slices"
	"strings"
	"sync"
	"unicode"
)

// maxLanguage bounds, in bytes, how much of the text is looked at for its script and its language.
const maxLanguage = 64 << 10

// A reading is what script and language a text is in.
type reading struct {
	scripts  []string
	language string
}

// Scripts are the scripts of the letters that a reader sees, in the subject too, the most frequent first: "latin", "cyrillic".
// One that has fewer than one letter in twenty is left out.
func (m *Message) Scripts() []string { return m.reading().scripts }

// Language is the language that the text is written in, as ISO 639-1 has it ("en"); "" where that can't be told: it is too
// short, too mixed, or none that is known here. See [Languages].
func (m *Message) Language() string { return m.reading().language }

func (m *Message) reading() reading {
	m.readOnce.Do(func() {
		subject, _ := m.Header.First("Subject")
		m.readAs = readLanguage(subject.Decoded() + "\n" + m.Text())
	})
	return m.readAs
}

// readLanguage looks at a text, its first 64 KiB.
func readLanguage(text string) reading {
	if len(text) > maxLanguage {
		text = strings.ToValidUTF8(text[:maxLanguage], "")
	}
	var counts [scriptCount]int
	letters := 0
	for _, r := range text {
		if s := scriptOf(r); s >= 0 {
			counts[s]++
			letters++
		}
	}
	var found []int
	for s, n := range counts {
		if n > 0 && n*20 >= letters {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(a, b int) int { return counts[b] - counts[a] })
	var r reading
	for _, s := range found {
		r.scripts = append(r.scripts, scripts[s].name)
	}
	if len(found) > 0 {
		r.language = languageIn(found, text)
	}
	return r
}

// A script is a script that rules can ask for, with the language that it stands for by itself, if it does.
type script struct {
	name     string
	table    *unicode.RangeTable
	language string
}

// scripts, the frequent ones first: the order in which a letter is looked for.
var scripts = [...]script{
	{name: "latin", table: unicode.Latin},
	{name: "cyrillic", table: unicode.Cyrillic},
	{name: "han", table: unicode.Han, language: "zh"},
	{name: "hiragana", table: unicode.Hiragana, language: "ja"},
	{name: "katakana", table: unicode.Katakana, language: "ja"},
	{name: "hangul", table: unicode.Hangul, language: "ko"},
	{name: "arabic", table: unicode.Arabic},
	{name: "hebrew", table: unicode.Hebrew, language: "he"},
	{name: "greek", table: unicode.Greek, language: "el"},
	{name: "devanagari", table: unicode.Devanagari},
	{name: "thai", table: unicode.Thai, language: "th"},
	{name: "armenian", table: unicode.Armenian, language: "hy"},
	{name: "georgian", table: unicode.Georgian, language: "ka"},
	{name: "bengali", table: unicode.Bengali},
	{name: "gujarati", table: unicode.Gujarati, language: "gu"},
	{name: "gurmukhi", table: unicode.Gurmukhi, language: "pa"},
	{name: "kannada", table: unicode.Kannada, language: "kn"},
	{name: "khmer", table: unicode.Khmer, language: "km"},
	{name: "lao", table: unicode.Lao, language: "lo"},
	{name: "malayalam", table: unicode.Malayalam, language: "ml"},
	{name: "myanmar", table: unicode.Myanmar, language: "my"},
	{name: "sinhala", table: unicode.Sinhala, language: "si"},
	{name: "tamil", table: unicode.Tamil, language: "ta"},
	{name: "telugu", table: unicode.Telugu, language: "te"},
	{name: "ethiopic", table: unicode.Ethiopic},
	{name: "tibetan", table: unicode.Tibetan},
}

const scriptCount = len(scripts)

// Scripts lists the names of the scripts that are told apart.
func Scripts() []string {
	var names []string
	for _, s := range scripts {
		names = append(names, s.name)
	}
	return names
}

// scriptOf is the number of a letter's script; -1 for what is no letter of a known one.
func scriptOf(r rune) int {
	switch {
	case r < 'A' || r > 'z' && r < 0xAA:
		return -1
	case r < 0xAA:
		if r <= 'Z' || r >= 'a' {
			return 0
		}
		return -1
	}
	for i := range scripts {
		if unicode.Is(scripts[i].table, r) {
			return i
		}
	}
	return -1
}

// languageIn tells the language of a text from its scripts, the most frequent first, and from its small words.
func languageIn(found []int, text string) string {
	for _, s := range found {
		// Japanese and Korean are written with Han letters too, which then may be the more frequent ones.
		if l := scripts[s].language; l == "ja" || l == "ko" {
			return l
		}
	}
	if l := scripts[found[0]].language; l != "" {
		return l
	}
	return byWords(scripts[found[0]].name, text)
}

// How many small words make a language, and how much clearer than the next one it must be.
const (
	leastWords = 3
	leastShare = 12 // one word in so many is one of the language's small words
	leadOver   = 4  // a quarter more than the next language
)

// byWords counts the small words of each language that the script is used for. A word that several have counts for each.
func byWords(script, text string) string {
	known := smallWords()
	hits := make(map[string]int)
	words := 0
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.Is(unicode.M, r) && r != '\'' }) {
		words++
		for _, language := range known[strings.ToLower(word)] {
			hits[language]++
		}
	}
	best, second := "", ""
	for _, l := range languages {
		switch {
		case l.script != script || hits[l.code] == 0:
		case best == "" || hits[l.code] > hits[best]:
			best, second = l.code, best
		case second == "" || hits[l.code] > hits[second]:
			second = l.code
		}
	}
	n := hits[best]
	if n < leastWords || n*leastShare < words || (n-hits[second])*leadOver < hits[second] {
		return ""
	}
	return best
}

// smallWords gives the languages of each small word.
var smallWords = sync.OnceValue(func() map[string][]string {
	known := make(map[string][]string)
	for _, l := range languages {
		for word := range strings.FieldsSeq(l.words) {
			known[word] = append(known[word], l.code)
		}
	}
	return known
})

// Languages lists the languages that can be told apart, by their codes of ISO 639-1.
func Languages() []string {
	var codes []string
	for _, l := range languages {
		codes = append(codes, l.code)
	}
	for _, s := range scripts {
		if s.language != "" {
			codes = append(codes, s.language)
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes)
}
