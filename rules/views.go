package rules

import (
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"postern/rules/match"
)

// A view is a way of looking at a text.
type view uint8

const (
	asIs     view = iota // "decoded": as the reader of the message gives it
	folded               // without invisible characters and compatibility forms, in lower case, white space made one space
	skeleton             // folded, and each character replaced by the plain letter that it looks like
)

var viewNames = []string{"decoded", "folded", "skeleton"}

func (v view) String() string { return viewNames[v] }

func (v view) apply(s string) string {
	switch v {
	case folded:
		return foldedView(s)
	case skeleton:
		return skeletonView(s)
	}
	return s
}

// foldedView removes what changes how a text is stored and not how it is read: fullwidth and mathematical letters,
// ligatures, case, invisible characters, line breaks.
func foldedView(s string) string {
	if !isASCII(s) {
		s = norm.NFKC.String(strings.Map(dropInvisible, s))
	}
	w := viewWriter{out: make([]byte, 0, len(s))}
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			w.ascii(asciiFolded[c])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsSpace(r) {
			w.ascii(' ')
		} else {
			w.rune(foldRune(r))
		}
		i += size
	}
	return string(w.out)
}

// skeletonView is what a text looks like to a hurried eye: "PaypaI", "pаypal" with a Cyrillic а and "p4ypal" are one.
// It is meant for comparing, not for reading: i, l, 1 and | all become l, o and 0 become o.
func skeletonView(s string) string {
	w := viewWriter{out: make([]byte, 0, len(s))}
	var buf []byte
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			w.ascii(asciiLookalikes[c])
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case dropInvisible(r) < 0:
			continue
		case unicode.IsSpace(r):
			w.ascii(' ')
			continue
		}
		buf = norm.NFKD.AppendString(buf[:0], string(r))
		for _, d := range string(buf) {
			switch {
			case unicode.Is(unicode.Mn, d):
			case unicode.IsSpace(d):
				w.ascii(' ')
			default:
				for _, e := range expand(d) {
					w.rune(lookalike(e))
				}
			}
		}
	}
	return string(w.out)
}

// A viewWriter makes white space one space, and none at the ends.
type viewWriter struct {
	out   []byte
	space bool // seen, and not yet written
}

// ascii writes a character of ASCII, of which white space is ' '.
func (w *viewWriter) ascii(c byte) {
	if c == ' ' {
		w.space = len(w.out) > 0
		return
	}
	if w.space {
		w.out = append(w.out, ' ')
		w.space = false
	}
	w.out = append(w.out, c)
}

// rune writes a character that is no white space.
func (w *viewWriter) rune(r rune) {
	if w.space {
		w.out = append(w.out, ' ')
		w.space = false
	}
	w.out = utf8.AppendRune(w.out, r)
}

// asciiFolded and asciiLookalikes are what the views make of the characters of ASCII; of white space they make a space.
var (
	asciiFolded     = asciiTable(foldRune)
	asciiLookalikes = asciiTable(lookalike)
)

func asciiTable(of func(rune) rune) (table [utf8.RuneSelf]byte) {
	for c := range table {
		if r := rune(c); unicode.IsSpace(r) {
			table[c] = ' '
		} else {
			table[c] = byte(of(r))
		}
	}
	return table
}

// expand takes apart the letters that are two.
func expand(r rune) string {
	switch r {
	case 'æ', 'Æ':
		return "ae"
	case 'œ', 'Œ':
		return "oe"
	case 'ß', 'ẞ':
		return "ss"
	}
	return string(r)
}

// lookalike is the plain lower-case letter that r looks like, or r in lower case.
func lookalike(r rune) rune {
	if l, ok := lookalikes[r]; ok {
		return l
	}
	f := foldRune(r)
	if l, ok := lookalikes[f]; ok {
		return l
	}
	return f
}

// lookalikes pairs characters with the letter that each is taken for; each string is a list of such characters.
// Decompositions (accents, fullwidth, mathematical letters) need no entry.
var lookalikes = func() map[rune]rune {
	m := map[rune]rune{}
	for letter, like := range map[rune]string{
		'a': "4@аɑαᴀᎪⲁ", 'b': "вьЬʙβᏏƄ", 'c': "сϲᴄⅽҫⲥᏟ", 'd': "ԁɗᴅđⅾᎠ", 'e': "3еєҽᴇɛεΕᎬ℮", 'f': "ſƒꜰϝ", 'g': "ɡġɢԍցᏀ",
		'h': "һнʜᎻΗի", 'j': "јʝᴊϳᎫ", 'k': "кᴋκᏦĸ", 'l': "i1|іıɩǀ∣ӏІїιΙℓŀłǃⅼⅰᛁΙӀ", 'm': "мᴍмⅿᎷΜ", 'n': "пɴոηҥΝ", 'o': "0оοσօᴏØøоഠ൦๐ዐסᲿ",
		'p': "рρᴘϱⲣᏢ", 'q': "ԛգᑫ", 'r': "гʀᴦɾᎡ", 's': "5$ѕꜱʂᏚѕ", 't': "тᴛτ†ŧΤᎢ", 'u': "υսᴜцμʋ", 'v': "ѵνᴠⅴᏙ∨", 'w': "ѡԝᴡшωᏔ", 'x': "хχ×ⅹ᙮Χ",
		'y': "уүʏγỿΥ", 'z': "ᴢʐζᏃΖ", '-': "‐‑‒–—−", '.': "․。．", '\'': "’‘`´ʼ", '"': "“”„", '/': "⁄∕",
	} {
		for _, r := range like {
			if _, taken := m[r]; !taken {
				m[r] = letter
			}
		}
	}
	return m
}()

// dropInvisible is a mapping for [strings.Map] that removes what a reader does not see.
func dropInvisible(r rune) rune {
	switch {
	case r < 0xAD:
		return r
	case r == 0xAD, r == 0x034F, r == 0x061C, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x3164, r == 0xFEFF, r == 0xFFA0,
		r >= 0x180B && r <= 0x180F, r >= 0x200B && r <= 0x200F, r >= 0x202A && r <= 0x202E, r >= 0x2060 && r <= 0x206F,
		r >= 0xFE00 && r <= 0xFE0F, r >= 0xE0000 && r <= 0xE0FFF:
		return -1
	}
	return r
}

// foldCase makes texts that differ in case only equal, as (?i) does.
func foldCase(s string) string { return match.FoldCase(s) }

func foldRune(r rune) rune { return match.FoldRune(r) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// A pattern is a regular expression as the rule has it, and compiled for its view.
type pattern struct {
	source string
	expr   string // as it is compiled
	pos    Pos
	empty  bool                  // it matches an empty text
	re     func() *regexp.Regexp // compiled when first asked for: only what was found needs it, and it is large
}

// compilePattern compiles an expression for a view. The skeleton of a text has no i, so that of the expression must not
// ask for one: its letters are replaced by what they look like, as the text's are.
func compilePattern(source string, v view, exact bool) (pattern, error) {
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return pattern{}, err
	}
	expr := source
	if v == skeleton {
		skeletonPattern(tree)
		expr = tree.String()
	}
	if !exact {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return pattern{}, err
	}
	return pattern{source: source, expr: expr, empty: re.MatchString(""), re: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}, nil
}

func skeletonPattern(re *syntax.Regexp) {
	switch re.Op {
	case syntax.OpLiteral:
		for i, r := range re.Rune {
			re.Rune[i] = lookalike(r)
		}
	case syntax.OpCharClass:
		// A class of few characters is extended by what they look like; a wide one ([^x], \w) has that already.
		var width rune
		for i := 0; i < len(re.Rune); i += 2 {
			width += re.Rune[i+1] - re.Rune[i] + 1
		}
		if width > 512 {
			break
		}
		runes := re.Rune
		for i := 0; i < len(runes); i += 2 {
			for r := runes[i]; r <= runes[i+1]; r++ {
				if l := lookalike(r); l != r {
					re.Rune = append(re.Rune, l, l)
				}
			}
		}
	}
	for _, sub := range re.Sub {
		skeletonPattern(sub)
	}
}
