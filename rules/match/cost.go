package match

import (
	"math/rand/v2"
	"regexp/syntax"
	"strings"
	"time"
)

// Unaided reports whether an expression holds nothing by which places can be told where it is worth trying: no text, in one of the
// ways through it, outside of what may be anything for a long stretch. Such an expression stays alive all the time, wherever it is
// tried, and it has to be tried on every text.
func Unaided(expr string) (bool, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return false, err
	}
	way := trim(plain(tree))
	all := routes(way)
	if all == nil {
		all = []route{{way}}
	}
	for _, r := range all {
		if !loose(trim(concat(r))) {
			continue
		}
		if _, segments := newChain(0, r); len(segments) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// prose is what the cost of an expression is measured on: words, numbers, names, a link, as in any mail.
const prose = `Dear all, thank you for the quick reply to my question of last Tuesday. I have read the first 3 pages and found two things
that we should talk about before the meeting on 14 March 2024: the price (EUR 1,250.00 for each of them) is not what Mary Smith told us, and the
plan at https://www.example.org/plans/2024/view?id=37 says nothing about who pays for the building in between. Would it be possible to
move the date by a week? Please let me know what you think, also about the list that Peter sent to office@example.net on Friday night.
We could meet at our place (room B12, second floor) at half past nine or at 10:15, whichever suits you better; coffee will be there. ANYBODY
ELSE who wants to come is welcome!! Best regards, Anna Müller, Straße der Einheit 5, tel. +49 30 123456-78
`

// PerKB measures what an expression costs for each KB of a text, by itself: of one that it has not seen, after others.
func PerKB(expr string) (time.Duration, error) {
	var b Builder
	if _, err := b.Regexp(expr); err != nil {
		return 0, err
	}
	set := b.Build()
	words := strings.Fields(prose)
	r := rand.New(rand.NewPCG(1, 1))
	least := time.Duration(1<<63 - 1)
	for i := range 12 {
		r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		text := strings.Join(words, " ")
		start := time.Now()
		set.Scan(text).Matched(0)
		if took := time.Since(start); i >= 4 {
			least = min(least, took*1024/time.Duration(len(text)))
		}
	}
	return least, nil
}
