package matchtest

import (
	"math/rand/v2"
	"strings"
)

var filler = words("the of and to in is you that it he was for on are as with his they at be this have from or one had by but not what all were we when can there an which she do how their if will up other about out many then them these so some would make like him into time has look two more write go see number no way could people than first water been call who oil its now find long down day did get come made may part meeting monday project release server patch thread question thanks regards best hello please let know think build test version change file line error work list mail")

// Texts returns n texts of about size bytes each, like mail: common words, a word of the trade every now and then, numbers, links
// and line breaks.
func Texts(n, size int, seed uint64) []string {
	g := generator{rand.New(rand.NewPCG(3, seed))}
	trade := [][]string{verbs, nouns, adjectives, names, places, small}
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for b.Len() < size {
			var w string
			switch k := g.IntN(100); {
			case k < 60:
				w = g.one(filler)
			case k < 85:
				w = g.one(trade[g.IntN(len(trade))])
			case k < 95: // a word that nobody knows
				for range 3 + g.IntN(7) {
					w += string(rune('a' + g.IntN(26)))
				}
			case k < 98:
				w = strings.Repeat(string(rune('0'+g.IntN(10))), 1+g.IntN(6))
			default:
				w = "https://" + g.one(nouns) + g.one(filler) + "." + g.one(endings) + "/" + g.one(verbs)
			}
			if g.IntN(9) == 0 {
				w = strings.ToUpper(w[:1]) + w[1:]
			}
			b.WriteString(w)
			switch g.IntN(14) {
			case 0:
				b.WriteString(". ")
			case 1:
				b.WriteString(",\n")
			default:
				b.WriteByte(' ')
			}
		}
		texts[i] = b.String()
	}
	return texts
}
