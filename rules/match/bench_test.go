package match_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/rules/match"
	"postern/rules/match/matchtest"
	"postern/rules/rulestest"
)

// What does a message of 4 KB cost that the matcher has not seen before, when it has seen others? Beside it, in one run, Go's
// regexp one by one, alone and behind a search for the literals of all.
func BenchmarkMatch(b *testing.B) {
	all := matchtest.Mail(b, 2<<10, 8<<10, textOf)
	known, unknown := all[:len(all)/2], all[len(all)/2:]
	for _, n := range []int{300, 650} {
		patterns := matchtest.Patterns(n)
		b.Run(fmt.Sprintf("patterns=%d/unseen", n), func(b *testing.B) {
			var set *match.Set
			at := len(unknown)
			var m meter
			m.start()
			for b.Loop() {
				if at == len(unknown) {
					b.StopTimer()
					m.stop()
					set, at = warm(b, patterns, known), 0
					runtime.GC()
					m.start()
					b.StartTimer()
				}
				ask(set.Scan(unknown[at]), n)
				m.size += len(unknown[at])
				at++
			}
			m.report(b)
		})
		b.Run(fmt.Sprintf("patterns=%d/seen", n), func(b *testing.B) {
			set := warm(b, patterns, known)
			var m meter
			m.start()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				ask(set.Scan(known[i%50]), n)
				m.size += len(known[i%50])
			}
			m.report(b)
		})
		_, plain := build(b, patterns...)
		b.Run(fmt.Sprintf("patterns=%d/prefilter", n), func(b *testing.B) {
			find := behindLiterals(b, patterns, plain)
			var m meter
			m.start()
			for i := 0; b.Loop(); i++ {
				t := unknown[i%len(unknown)]
				find(t)
				m.size += len(t)
			}
			m.report(b)
		})
		b.Run(fmt.Sprintf("patterns=%d/regexp", n), func(b *testing.B) {
			var m meter
			m.start()
			for i := 0; b.Loop(); i++ {
				t := unknown[i%len(unknown)]
				for _, re := range plain {
					re.MatchString(t)
				}
				m.size += len(t)
			}
			m.report(b)
		})
	}
}

// textOf is what a reader sees of a message.
func textOf(mail []byte) string { return rulestest.New(mail).Bodies["text"] }

// warm builds a set and shows it texts.
func warm(b *testing.B, patterns, known []string) *match.Set {
	set, _ := build(b, patterns...)
	for _, t := range known {
		ask(set.Scan(t), len(patterns))
	}
	return set
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

// A meter reports the time for 4 KB of text: that of the clock, and that of the processor, which tells more where other
// programs run too.
type meter struct {
	size int
	used time.Duration
	from time.Duration
}

func (m *meter) start() { m.from = processorTime() }

func (m *meter) stop() { m.used += processorTime() - m.from }

func (m *meter) report(b *testing.B) {
	m.stop()
	b.SetBytes(int64(m.size / b.N))
	part := 4096 / float64(m.size) * 1e3
	b.ReportMetric(b.Elapsed().Seconds()*part, "ms/4KB")
	b.ReportMetric(m.used.Seconds()*part, "cpu-ms/4KB")
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// behindLiterals runs only those of the expressions one by one of which a literal is in the text.
func behindLiterals(b *testing.B, patterns []string, plain []*regexp.Regexp) func(string) int {
	var literals match.Builder
	number := make([]int, len(patterns))
	for i, p := range patterns {
		words, err := match.Literals(p)
		if err != nil {
			b.Fatal(err)
		}
		if number[i] = -1; words != nil {
			number[i] = literals.Words(words, match.Anywhere, false)
		}
	}
	set := literals.Build()
	return func(text string) (hits int) {
		scan := set.Scan(text)
		for i, re := range plain {
			if (number[i] < 0 || scan.Matched(number[i])) && re.MatchString(text) {
				hits++
			}
		}
		return hits
	}
}

// Large texts and long lines cost no more a byte than small ones, and texts that are made to cost more, at most ten times.
func BenchmarkTexts(b *testing.B) {
	const n = 300
	patterns := matchtest.Patterns(n)
	all := matchtest.Mail(b, 2<<10, 8<<10, textOf)
	known, unknown := all[:len(all)/2], all[len(all)/2:]
	long := strings.Join(known, "\n")
	for len(long) < 10<<20 {
		long += long
	}
	r := rand.New(rand.NewPCG(8, 9))
	random := func(size int, from string) string {
		runes := []rune(from)
		var t strings.Builder
		for t.Len() < size {
			t.WriteRune(runes[r.IntN(len(runes))])
		}
		return t.String()
	}
	made := func(between string) func(int) string {
		return func(int) string {
			var t strings.Builder
			for t.Len() < 4<<10 {
				t.WriteString(matchtest.Sample(r, patterns[r.IntN(n)]) + between)
			}
			return t.String()
		}
	}
	words := strings.Fields(strings.Join(unknown, " "))
	kinds := []struct {
		name string
		text func(i int) string
	}{
		{name: "mail", text: func(i int) string { return unknown[i%len(unknown)] }},
		{name: "10MB", text: func(int) string { return long[:10<<20] }},
		{name: "line=100000", text: func(i int) string { return strings.ReplaceAll(long[i%1000*1000:][:100_000], "\n", " ") }},
		{name: "letters", text: func(int) string { return random(4<<10, "abcdefghijklmnopqrstuvwxyz") }},
		{name: "letters and spaces", text: func(int) string { return random(4<<10, "aeiou rst ln$1 ") }},
		{name: "bytes", text: func(int) string {
			t := make([]byte, 4<<10)
			for i := range t {
				t[i] = byte(r.IntN(256))
			}
			return string(t)
		}},
		{name: "Unicode", text: func(int) string { return random(4<<10, "éßабвгдежз漢字かな😀ñü ") }},
		{name: "words shuffled", text: func(int) string {
			var t strings.Builder
			for t.Len() < 4<<10 {
				t.WriteString(words[r.IntN(len(words))] + " ")
			}
			return t.String()
		}},
		{name: "matches", text: made(" ")},
		{name: "matches joined", text: made("")},
		{name: "matches cut", text: func(i int) string {
			t := made(" ")(i)
			var cut strings.Builder
			for len(t) > 10 {
				k := 1 + r.IntN(10)
				cut.WriteString(t[:k])
				t = t[k+1:]
			}
			return cut.String()
		}},
	}
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			set := warm(b, patterns, known)
			texts := make([]string, 200)
			for i := range texts {
				texts[i] = kind.text(i)
			}
			var m meter
			m.start()
			for i := 0; b.Loop(); i++ {
				ask(set.Scan(texts[i%len(texts)]), n)
				m.size += len(texts[i%len(texts)])
			}
			m.report(b)
			b.ReportMetric(float64(match.TableBytes(set))/1e6, "MB")
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{300, 3000} {
		patterns := matchtest.Patterns(n)
		b.Run(fmt.Sprintf("patterns=%d", n), func(b *testing.B) {
			for b.Loop() {
				var builder match.Builder
				for _, p := range patterns {
					if _, err := builder.Regexp(p); err != nil {
						b.Fatal(err)
					}
				}
				builder.Build()
			}
		})
	}
}
