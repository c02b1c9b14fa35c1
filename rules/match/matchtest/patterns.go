// Package matchtest makes expressions and texts to try a matcher with. All of it is made up, and the same each time.
package matchtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

var (
	verbs      = words("verify confirm update validate restore unlock claim receive release transfer deposit withdraw invest earn win save buy order ship deliver download install click open view sign accept approve reply contact call text apply register subscribe join start stop lose burn boost enlarge improve enhance refinance consolidate eliminate settle inherit donate sponsor audit review renew upgrade suspend limit block expire terminate reactivate process schedule submit complete")
	nouns      = words("account password mailbox invoice payment receipt statement document attachment refund parcel shipment package delivery customs fee fund inheritance beneficiary consignment lottery winner prize award bonus voucher coupon discount offer deal price loan mortgage credit debt interest rate insurance policy investment profit income bitcoin wallet crypto currency exchange broker stock share portfolio weight pill pharmacy prescription medication doctor watch replica designer handbag degree diploma university dating profile message voicemail fax scan subscription membership security alert warning notice server domain hosting website traffic ranking search engine")
	adjectives = words("urgent important confidential secret exclusive limited special free cheap lowest best guaranteed risk-free amazing incredible unbelievable natural herbal genuine authentic official final immediate instant easy simple quick secure private personal dear valued beloved lucky unusual suspicious unauthorized unclaimed foreign offshore")
	names      = words("barrister attorney director manager officer minister engineer doctor reverend prince widow general sergeant ambassador secretary accountant")
	places     = words("nigeria london dubai ghana benin togo hong-kong singapore madrid amsterdam johannesburg geneva zurich lagos accra")
	shops      = words("paypa1 amaz0n netfl1x d0cusign micr0soft app1e faceb00k coinbase binance")
	drugs      = words("viagra cialis levitra xanax valium tramadol phentermine ambien soma")
	small      = words("your my our the this a his her their any all")
	endings    = words("ru cn top xyz info biz click link work site online club")
)

func words(s string) []string { return strings.Fields(s) }

// Patterns returns n expressions in the style of SpamAssassin's rules for the body: phrases with alternatives, optional letters, classes and
// small gaps; about a fifth hold no literal that is worth looking for, and some a wide gap.
func Patterns(n int) []string {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	kinds := []struct {
		share int
		make  func() string
	}{
		{share: 24, make: g.phrase}, {share: 14, make: g.alternatives}, {share: 9, make: g.optional}, {share: 8, make: g.obfuscated}, {share: 8, make: g.smallGap},
		{share: 6, make: g.link}, {share: 6, make: g.money}, {share: 5, make: g.wideGap}, {share: 20, make: g.noLiteral},
	}
	total := 0
	for _, k := range kinds {
		total += k.share
	}
	seen := map[string]bool{}
	var out []string
	for len(out) < n {
		at := g.IntN(total)
		for _, k := range kinds {
			if at -= k.share; at < 0 {
				if p := k.make(); !seen[p] {
					seen[p] = true
					out = append(out, p)
				}
				break
			}
		}
	}
	return out
}

type generator struct{ *rand.Rand }

func (g generator) one(from []string) string { return from[g.IntN(len(from))] }

// some returns an alternation of a few.
func (g generator) some(from []string, least, most int) string {
	n := least + g.IntN(most-least+1)
	var w []string
	for _, i := range g.Perm(len(from))[:min(n, len(from))] {
		w = append(w, from[i])
	}
	return "(?:" + strings.Join(w, "|") + ")"
}

func (g generator) phrase() string {
	switch g.IntN(6) {
	case 0:
		return `(?i)\b` + g.one(verbs) + ` ` + g.one(small) + ` ` + g.one(nouns) + `\b`
	case 1:
		return `(?i)\b` + g.one(adjectives) + ` ` + g.one(nouns) + `s?\b`
	case 2:
		return `(?i)\b` + g.one(nouns) + `\s+(?:of|for|from) ` + g.one(places) + `\b`
	case 3:
		return g.one(adjectives) + ` ` + g.one(adjectives) + ` ` + g.one(nouns)
	case 4:
		return `(?i)^\s*` + g.one(adjectives) + ` ` + g.one(nouns)
	}
	return `(?i)` + g.one(verbs) + `(?:ing|ed)? ` + g.one(nouns)
}

func (g generator) alternatives() string {
	switch g.IntN(4) {
	case 0:
		return `(?i)\b` + g.some(verbs, 3, 8) + ` (?:` + g.one(small) + ` )?` + g.some(nouns, 3, 8) + `\b`
	case 1:
		return `(?i)\b` + g.some(adjectives, 4, 10) + `[ -]` + g.some(nouns, 4, 10) + `(?:s|es)?\b`
	case 2:
		return `(?i)\b` + g.some(names, 2, 6) + ` \w+ \w+ (?:of|in|from) ` + g.some(places, 2, 6)
	}
	return `(?i)(?:` + g.one(verbs) + `|` + g.one(verbs) + ` ` + g.one(small) + `) ` + g.some(nouns, 2, 5)
}

func (g generator) optional() string {
	return `(?i)\b` + g.one(verbs) + `(?:e?s|ed|ing)?\s+(?:` + g.some(small, 2, 5) + ` )?(?:` + g.one(adjectives) + ` )?` + g.one(nouns) + `(?:'?s)?\b`
}

// obfuscated spells a word with what its letters are replaced by.
func (g generator) obfuscated() string {
	like := map[rune]string{'a': `[a4@\xe0-\xe5]`, 'i': `[i1l!|\xec-\xef]`, 'o': `[o0\xf2-\xf6]`, 'e': `[e3\xe8-\xeb]`, 's': `[s5$]`, 'l': `[l1|]`, 'u': `[uv\xb5]`}
	between := []string{``, ``, `[\s._-]?`, `\W?`}[g.IntN(4)]
	word := g.one(drugs)
	if g.IntN(3) == 0 {
		word = g.one(nouns)
	}
	var b strings.Builder
	b.WriteString(`(?i)`)
	for i, r := range word {
		if i > 0 {
			b.WriteString(between)
		}
		if c := like[r]; c != "" {
			b.WriteString(c)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func (g generator) smallGap() string {
	return fmt.Sprintf(`(?i)\b%s\b.{0,%d}\b%s\b`, g.some(verbs, 1, 4), 5+g.IntN(16), g.some(nouns, 1, 4))
}

func (g generator) wideGap() string {
	switch g.IntN(4) {
	case 0:
		return fmt.Sprintf(`(?i)\b%s\b.{0,%d}\b%s\b`, g.some(nouns, 1, 3), 60+g.IntN(60), g.some(nouns, 1, 3))
	case 1:
		return `(?i)` + g.one(adjectives) + `[^.]*` + g.one(verbs)
	case 2:
		return fmt.Sprintf(`(?is)\b%s\b.{1,%d}\b%s\b.{1,%d}%s`, g.one(names), 100, g.one(nouns), 100, g.one(places))
	}
	return `(?i)dear ` + g.one(nouns) + `.*` + g.one(verbs)
}

func (g generator) link() string {
	switch g.IntN(4) {
	case 0:
		return fmt.Sprintf(`(?i)https?://[^\s/]{1,60}\.%s(?:/|\b)`, g.some(endings, 1, 4))
	case 1:
		return `(?i)\bhttps?://(?:www\.)?` + g.one(nouns) + `-?` + g.one(nouns) + `\.`
	case 2:
		return `(?i)[a-z0-9._-]+@` + g.one(nouns) + `\.` + g.some(endings, 1, 3) + `\b`
	}
	return `(?i)/(?:` + g.one(shops) + `|` + g.one(shops) + `)[\w-]*/`
}

func (g generator) money() string {
	switch g.IntN(3) {
	case 0:
		return fmt.Sprintf(`(?i)\$\s?\d{1,3}(?:[.,]\d{3}){%d,3} ?%s`, 1+g.IntN(2), g.some(nouns, 1, 4))
	case 1:
		return fmt.Sprintf(`(?i)\b\d{1,%d} ?(?:%%|percent) %s`, 2+g.IntN(2), g.one(nouns))
	}
	return `(?i)(?:usd|us\$|eur|gbp) ?\d[\d,.]* (?:million|thousand)? ?` + g.some(verbs, 2, 4)
}

// noLiteral is what a search for literals is no help with.
func (g generator) noLiteral() string {
	n := 2 + g.IntN(4)
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf(`\b[A-Z]{%d,}\d{%d}\b`, n, n)
	case 1:
		return fmt.Sprintf(`[^\x00-\x7f]{%d}\s[^\x00-\x7f]{%d}`, n, 1+g.IntN(4))
	case 2:
		return fmt.Sprintf(`(?:\b[a-z] ){%d}`, n+2)
	case 3:
		return fmt.Sprintf(`\d{%d}[- .]\d{%d}[- .]\d{%d}`, n, 2+g.IntN(2), 2+g.IntN(3))
	case 4:
		return fmt.Sprintf(`[!?]{%d}\s*[A-Z]{%d}`, n, 1+g.IntN(3))
	case 5:
		return fmt.Sprintf(`\b\w\d\w\d\w{%d}\b`, g.IntN(6))
	case 6:
		return fmt.Sprintf(`(?:[A-Z][a-z]+ ){%d}[A-Z]{%d}\b`, n-1, 2+g.IntN(3))
	case 7:
		return fmt.Sprintf(`[bcdfghjklmnpqrstvwxz]{%d}\d`, n+2)
	case 8:
		return fmt.Sprintf(`^[A-Z\d ]{%d,}$`, n*3)
	case 9:
		return fmt.Sprintf(`[$€£]\s?\d{%d,}[kKmM]?\b`, n)
	case 10:
		return fmt.Sprintf(`\b[a-z]{1,%d}[0-9]{%d}[a-z]{1,%d}\b`, 2+g.IntN(3), n-1, n)
	}
	return fmt.Sprintf(`[\p{Cyrillic}\p{Greek}]{%d}[a-z]{%d}`, 1+g.IntN(3), 1+g.IntN(3))
}
