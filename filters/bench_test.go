package filters

import (
	"bytes"
	"context"
	"testing"

	"postern/filters/message"
	"postern/filters/model"
	"postern/rules/match/matchtest"
	"postern/rules/packs"
)

// usualMail are messages around the median size, of development mail where that is at hand.
func usualMail(b *testing.B) [][]byte {
	b.Helper()
	var mail [][]byte
	for _, src := range matchtest.Mail(b, 3<<10, 6<<10, func(mail []byte) string { return string(mail) }) {
		mail = append(mail, []byte(src))
	}
	return mail
}

func mustRead(b *testing.B, src []byte) *message.Message {
	m, err := message.Read(bytes.NewReader(src), int64(len(src)))
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// BenchmarkPacks reads messages and puts all packs to them, as is done while mail is served; then the same without rules, which
// is what reading costs when nobody asks for anything.
func BenchmarkPacks(b *testing.B) {
	set, err := LoadRules(ContentConfig{Packs: []string{packs.Default}}, RuleOptions{
		Path: func(p string) string { return p }, Symbols: Symbols(DefaultConfig()),
		Thresholds: Thresholds{Tag: 500, Quarantine: 800, Reject: 1200},
	})
	if err != nil {
		b.Fatal(err)
	}
	mail := usualMail(b)
	c := newContent(set, nil)
	run := func(b *testing.B, judge func(*message.Message)) {
		b.ReportAllocs()
		size := 0
		for i := 0; b.Loop(); i++ {
			src := mail[i%len(mail)]
			size += len(src)
			judge(mustRead(b, src))
		}
		b.ReportMetric(float64(size)/float64(b.N), "octets/op")
	}
	b.Run("read", func(b *testing.B) { run(b, func(*message.Message) {}) })
	b.Run("text", func(b *testing.B) { run(b, func(m *message.Message) { m.Text(); m.Links() }) })
	b.Run("rules", func(b *testing.B) {
		run(b, func(m *message.Message) {
			in := Input{Client: &Client{}, Message: m, Facts: &Facts{}}
			if r := c.Run(context.Background(), in); r.Err != nil {
				b.Fatal(r.Err)
			}
		})
	})
}

// BenchmarkClassifier reads messages and asks a model, once the texts that it shares with rules are there.
func BenchmarkClassifier(b *testing.B) {
	mail := usualMail(b)
	var taught []model.Example
	for i, src := range mail[:min(len(mail), 2000)] {
		e, err := model.NewExample(mustRead(b, src), i%2 == 0)
		if err != nil {
			b.Fatal(err)
		}
		taught = append(taught, e)
	}
	m := model.Train(taught)
	messages := make([]*message.Message, min(len(mail), 2000))
	for i := range messages {
		messages[i] = mustRead(b, mail[i])
		messages[i].Text()
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Probability(model.Extract(messages[i%len(messages)]))
	}
}
