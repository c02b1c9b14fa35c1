package match_test

import (
	"fmt"
	"testing"

	"postern/rules/match"
	"postern/rules/match/matchtest"
)

// The question of all these: what does a message of 4 KB cost that the matcher has not seen before, when it has seen others?
// One by one with Go's regexp and the matcher stand side by side in one run.
func BenchmarkMatch(b *testing.B) {
	all := mailTexts(b, 2<<10, 8<<10)
	known, unknown := all[:len(all)/2], all[len(all)/2:]
	for _, n := range []int{300, 650} {
		set, plain := build(b, matchtest.Patterns(n)...)
		b.Run(fmt.Sprintf("patterns=%d/set", n), func(b *testing.B) {
			at := len(unknown)
			size := 0
			for b.Loop() {
				if at == len(unknown) {
					b.StopTimer()
					at = 0
					set, _ = build(b, matchtest.Patterns(n)...)
					for _, t := range known {
						ask(set.Scan(t), n)
					}
					b.StartTimer()
				}
				ask(set.Scan(unknown[at]), n)
				size += len(unknown[at])
				at++
			}
			perText(b, size)
		})
		b.Run(fmt.Sprintf("patterns=%d/seen", n), func(b *testing.B) {
			size := 0
			for i := 0; b.Loop(); i++ {
				t := known[i%50]
				ask(set.Scan(t), n)
				size += len(t)
			}
			perText(b, size)
		})
		b.Run(fmt.Sprintf("patterns=%d/regexp", n), func(b *testing.B) {
			size := 0
			for i := 0; b.Loop(); i++ {
				t := unknown[i%len(unknown)]
				for _, re := range plain {
					re.MatchString(t)
				}
				size += len(t)
			}
			perText(b, size)
		})
	}
}

// ask puts all questions.
func ask(scan *match.Scan, n int) (hits int) {
	for i := range n {
		if scan.Matched(i) {
			hits++
		}
	}
	return hits
}

// perText reports the time for 4 KB of text.
func perText(b *testing.B, size int) {
	b.SetBytes(int64(size / b.N))
	b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(size)*4096, "ms/4KB")
}
