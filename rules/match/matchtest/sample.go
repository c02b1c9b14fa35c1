package matchtest

import (
	"math/rand/v2"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// Sample makes a text that an expression is likely to match, or to match but for a little.
func Sample(r *rand.Rand, expr string) string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	sample(r, &b, tree, 0)
	return b.String()
}

// maxSample bounds a text.
const maxSample = 4000

func sample(r *rand.Rand, b *strings.Builder, re *syntax.Regexp, depth int) {
	if b.Len() > maxSample || depth > 200 {
		return
	}
	sub := func(n int) {
		for range n {
			sample(r, b, re.Sub[0], depth+1)
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			b.WriteRune(c)
		}
	case syntax.OpCharClass:
		if len(re.Rune) > 0 {
			i := r.IntN(len(re.Rune)/2) * 2
			b.WriteRune(re.Rune[i] + r.Int32N(re.Rune[i+1]-re.Rune[i]+1))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteString([]string{"a", " ", "é", "\xff", "_", "1", "\U0001f600"}[r.IntN(7)])
	case syntax.OpBeginLine, syntax.OpEndLine:
		if r.IntN(2) == 0 {
			b.WriteByte('\n')
		}
	case syntax.OpCapture:
		sub(1)
	case syntax.OpStar:
		sub(r.IntN(4))
	case syntax.OpPlus:
		sub(1 + r.IntN(3))
	case syntax.OpQuest:
		sub(r.IntN(2))
	case syntax.OpRepeat:
		most := re.Max
		if most < 0 {
			most = re.Min + 3
		}
		sub(re.Min + r.IntN(most-re.Min+1))
	case syntax.OpConcat:
		for _, s := range re.Sub {
			sample(r, b, s, depth+1)
		}
	case syntax.OpAlternate:
		sample(r, b, re.Sub[r.IntN(len(re.Sub))], depth+1)
	}
}

// Spoil changes a text a little.
func Spoil(r *rand.Rand, text string) string {
	for range r.IntN(4) {
		i := r.IntN(len(text) + 1)
		switch r.IntN(7) {
		case 0:
			text = text[:i] + "\xff" + text[i:]
		case 1:
			text = text[:i] + "\n" + text[i:]
		case 2:
			text = text[:i] + " " + text[i:]
		case 3:
			text = strings.ToUpper(text[:i]) + text[i:]
		case 4:
			text = text[i:] + text[:i]
		case 5:
			_, size := utf8.DecodeRuneInString(text[i:])
			text = text[:i] + text[i+size:]
		case 6:
			text = text[:i] + strings.Repeat("x", r.IntN(100)) + text[i:]
		}
	}
	return text
}
