package rules_test

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"postern/rules"
	"postern/rules/match/matchtest"
	"postern/rules/rulestest"
)

// Ten times the rules, in the style of the packs, over the same messages, none of which was seen before.
func BenchmarkRules(b *testing.B) {
	mails := map[string][]byte{}
	texts := matchtest.Mail(b, 2<<10, 8<<10, func(mail []byte) string {
		text := rulestest.New(mail).Bodies["text"]
		mails[text] = mail
		return text
	})
	subjects := make([]*rulestest.Subject, len(texts))
	for i, text := range texts {
		mail, ok := mails[text]
		if !ok {
			mail = []byte("From: \"Secure invoice\" <a@corp.example>\nReply-To: b@gmail.com\nSubject: " + text[:40] + "\n\n" + text)
		}
		subjects[i] = rulestest.New(mail)
		subjects[i].Asked = nil
	}
	known, unknown := subjects[:len(subjects)*2/3], subjects[len(subjects)*2/3:]
	for _, n := range []int{50, 500, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			var set *rules.Set
			hits := 0
			var used time.Duration
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%len(unknown) == 0 {
					b.StopTimer()
					set = loadMade(b, n)
					for _, s := range known {
						set.EvalBrief(context.Background(), s)
					}
					runtime.GC()
					b.StartTimer()
				}
				from := processorTime()
				hits += len(set.EvalBrief(context.Background(), unknown[i%len(unknown)]).Hits)
				used += processorTime() - from
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(hits)/float64(b.N), "hits")
		})
	}
}

// processorTime is what this process has used: it tells more than the clock where other programs run too.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for b.Loop() {
				loadMade(b, n)
			}
		})
	}
}

func loadMade(b testing.TB, n int) *rules.Set {
	set, err := rules.Load([]rules.Source{{Name: "made.yaml", Src: matchtest.Rules(n)}}, rules.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return set
}
