package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/filters/message"
	"postern/filters/model/measure"
)

// mail makes a message of words; each class has words of its own and shares the rest.
func mail(n int, spam bool) string {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	word := func(kind string, of int) string {
		return fmt.Sprintf("%s%c%c", kind, 'a'+rng.IntN(of)/26, 'a'+rng.IntN(of)%26)
	}
	own, host := "ham", "shop.example"
	if spam {
		own, host = "spam", "pills.example"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s <info@%s>\r\nSubject: %s %s\r\nMessage-ID: <%d@%s>\r\nDate: Thu, 06 Nov 2025 08:15:43 +0100\r\n\r\n",
		word("name", 20), host, word(own, 30), word("both", 200), n, host)
	for range 40 {
		b.WriteString(word("both", 500) + " ")
	}
	for range 4 {
		b.WriteString(word(own, 40) + " ")
	}
	return b.String() + "https://www." + host + "/\r\n"
}

func read(t testing.TB, text string) *message.Message {
	t.Helper()
	m, err := message.Read(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func example(t testing.TB, n int, spam bool) Example {
	t.Helper()
	e, err := NewExample(read(t, mail(n, spam)), spam)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func examples(t testing.TB, n int) []Example {
	t.Helper()
	var all []Example
	for i := range n {
		all = append(all, example(t, 2*i, true), example(t, 2*i+1, false))
	}
	return all
}

// What was not learned is judged by what was, and the order of learning makes no difference.
func TestTrain(t *testing.T) {
	all := examples(t, 200)
	m := Train(all)
	if !m.Ready() || m.Ham != 200 || m.Spam != 200 {
		t.Fatalf("ready %v with %d ham and %d spam", m.Ready(), m.Ham, m.Spam)
	}
	for n := 1000; n < 1040; n++ {
		spam := n%2 == 0
		p := m.Probability(Extract(read(t, mail(n, spam))))
		if p < 0 || p > 1 || (p > 0.5) != spam {
			t.Errorf("message %d (spam %v) has the probability %v", n, spam, p)
		}
	}
	slices.Reverse(all)
	if other := Train(all); !slices.Equal(other.weights, m.weights) || other.slope != m.slope || other.shift != m.shift {
		t.Error("the same examples in another order make another model")
	}
}

// Too little judges nothing.
func TestReady(t *testing.T) {
	if m := Train(examples(t, Least-1)); m.Ready() {
		t.Errorf("ready with %d of each", Least-1)
	}
	if m := Train(examples(t, Least)[1:]); m.Ready() {
		t.Error("ready with one spam too few")
	}
	if !Train(examples(t, Least)).Ready() {
		t.Errorf("not ready with %d of each", Least)
	}
	var none *Model
	if none.Ready() || new(Model).Ready() || Train(nil).Ready() {
		t.Error("ready with nothing learned")
	}
}

// The reasons are the message's own words, on the right side.
func TestExplain(t *testing.T) {
	m := Train(examples(t, 200))
	with, against := m.Explain(read(t, mail(2000, true)), 5)
	if len(with) != 5 {
		t.Fatalf("for it: %v", with)
	}
	var kinds []string
	for i, r := range with {
		kinds = append(kinds, r.Kind)
		if r.Weight <= 0 || i > 0 && r.Weight > with[i-1].Weight {
			t.Errorf("for it: %v", with)
		}
	}
	if !slices.Contains(kinds, "sender") && !slices.Contains(kinds, "link") {
		t.Errorf("neither sender nor link among %v", with)
	}
	for _, r := range against {
		if r.Weight >= 0 {
			t.Errorf("against it: %v", against)
		}
	}
}

// Features are found wherever they stand, and each once.
func TestExtract(t *testing.T) {
	has := func(text string) map[string]bool {
		found := make(map[string]bool)
		extract(read(t, strings.ReplaceAll(text, "\n", "\r\n")), func(_ uint32, kind, text string) { found[kind+"|"+text] = true })
		return found
	}
	cases := []struct {
		name, text string
		want       []string
		not        []string
	}{
		{"words in lower case, digits as 0", "Subject: =?utf-8?q?B=C3=BCcher?= NOW\n\nPay $100 today!\n",
			[]string{"subject|bücher", "subject|now", "subject pair|bücher now", "word|$000", "word|!", "pair|pay $000"}, []string{"word|Pay"}},
		{"sender", "From: Max <max@mail.shop.example>\nReply-To: x@other.example\nMessage-ID: <1@shop.example>\n\n",
			[]string{"sender|shop.example", "name|max", "reply|other.example", "has|reply to sender's domain: false", "has|Message-ID of sender's domain: organization"}, nil},
		{"links and structure", "From: a@shop.example\nContent-Type: text/html\n\n<a href='http://192.0.2.1/x'>here</a><a href='https://shop.example/'>x</a>",
			[]string{"has|HTML without text", "has|link to a bare address", "links to sender's domain|most", "link|shop.example"}, nil},
		{"where mail was collected is no feature", "Received: from collector.example\nTo: me@collector.example\nList-Id: <collector.example>\n\nx\n",
			nil, []string{"link|collector.example", "sender|collector.example", "word|collector"}},
		{"hidden text is told, not read", "Content-Type: text/html\n\n<p style='display:none'>secretword</p>seen",
			[]string{"has|hidden text", "word|seen"}, []string{"word|secretword"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found := has(c.text)
			for _, w := range c.want {
				if !found[w] {
					t.Errorf("%q is not among %v", w, found)
				}
			}
			for _, w := range c.not {
				if found[w] {
					t.Errorf("%q is a feature", w)
				}
			}
		})
	}
	f := Extract(read(t, mail(1, true)))
	seen := make(map[uint32]bool)
	for _, list := range f {
		for _, b := range list {
			if seen[b] || b >= Buckets {
				t.Fatalf("bucket %d comes twice or is none", b)
			}
			seen[b] = true
		}
	}
	if again := Extract(read(t, mail(1, true))); !slices.Equal(again[textGroup], f[textGroup]) || !slices.Equal(again[formGroup], f[formGroup]) {
		t.Error("the same message has other features the second time")
	}
}

func TestExamples(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.examples")
	open := func() *Examples {
		t.Helper()
		x, err := OpenExamples(path)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	x := open()
	if _, err := OpenExamples(path); err == nil || !strings.Contains(err.Error(), "another process is learning") {
		t.Errorf("a second one can open it too: %v", err)
	}
	e := example(t, 1, true)
	other := example(t, 2, false)
	for _, step := range []struct {
		e    Example
		want Change
	}{{e, Added}, {other, Added}, {e, Known}, {Example{ID: e.ID, packed: e.packed}, Relabel}, {e, Relabel}} {
		if got := x.Learn(step.e); got != step.want {
			t.Errorf("%d, want %d", got, step.want)
		}
	}
	if err := x.Save(); err != nil {
		t.Fatal(err)
	}
	x.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}

	x = open()
	if ham, spam := x.Counts(); ham != 1 || spam != 1 {
		t.Errorf("%d ham and %d spam after it was read again", ham, spam)
	}
	if !x.Forget(e.ID) || x.Forget(e.ID) {
		t.Error("an example can be forgotten once")
	}
	if err := x.Save(); err != nil {
		t.Fatal(err)
	}
	x.Close()
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), string(e.ID[:])) {
		t.Errorf("what was forgotten is still in the file (%v)", err)
	}

	for i, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return append(b, 1) },
		func([]byte) []byte { return []byte("something else") },
	} {
		if err := os.WriteFile(path, damage(slices.Clone(raw)), 0o600); err != nil {
			t.Fatal(err)
		}
		if x, err := OpenExamples(path); err == nil {
			x.Close()
			t.Errorf("damage %d is not noticed", i)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("damage %d: %v does not name the file", i, err)
		}
	}
}

// Beyond the limit the oldest of a class go, and the other class keeps its own.
func TestNewest(t *testing.T) {
	list := []Example{{ID: ID{1}, Spam: true}, {ID: ID{2}}, {ID: ID{3}, Spam: true}, {ID: ID{4}, Spam: true}}
	var got []byte
	for _, e := range newest(list, 2) {
		got = append(got, e.ID[0])
	}
	if !slices.Equal(got, []byte{2, 3, 4}) {
		t.Errorf("kept %v", got)
	}
}

func TestModelFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	m := Train(examples(t, 60))
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.weights, m.weights) || got.slope != m.slope || got.shift != m.shift || got.Ham != 60 || got.Spam != 60 {
		t.Error("another model is read than was saved")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[1000] ^= 1; return b },
		func(b []byte) []byte { return append(b, 0) },
		func(b []byte) []byte { b[3] ^= 1; return b },
		func([]byte) []byte { return nil },
	} {
		if err := os.WriteFile(path, damage(slices.Clone(raw)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("damage %d: %v", i, err)
		}
	}
}

// The curve gives back probabilities that margins were drawn by.
func TestCurve(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var judged []Judged
	for range 20000 {
		margin := rng.NormFloat64() * 2
		judged = append(judged, Judged{Margin: margin, Spam: rng.Float64() < 1/(1+math.Exp(-(1.5*margin-0.5)))})
	}
	slope, shift := curve(judged)
	if math.Abs(slope-1.5) > 0.1 || math.Abs(shift+0.5) > 0.1 {
		t.Errorf("slope %v and shift %v, want about 1.5 and -0.5", slope, shift)
	}
	// All on their side: the slope stays finite.
	if slope, shift = curve([]Judged{{Margin: 1, Spam: true}, {Margin: -1}}); math.IsNaN(slope+shift) || math.IsInf(slope+shift, 0) {
		t.Errorf("slope %v and shift %v", slope, shift)
	}
}

// Cross-validation never judges a message by a model that has learned from it: random labels can't be guessed.
func TestCrossValidateHoldsOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var all []Example
	part := make([]int, 200)
	for i := range part {
		e := example(t, i, false)
		e.Spam = rng.IntN(2) == 0
		all, part[i] = append(all, e), i%5
	}
	judged, err := CrossValidate(t.Context(), all, part, nil)
	if err != nil {
		t.Fatal(err)
	}
	var scored []measure.Scored
	for _, j := range judged {
		scored = append(scored, measure.Scored{Score: j.Margin, Spam: j.Spam})
	}
	if area := measure.Area(scored); area < 0.3 || area > 0.7 {
		t.Errorf("the area is %v, where nothing can be known", area)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add(example(f, 1, true).packed)
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, packed []byte) {
		var features Features
		if unpack(packed, &features) != nil {
			return
		}
		for _, list := range features {
			for i, b := range list {
				if b >= Buckets || i > 0 && b < list[i-1] {
					t.Fatalf("%v", features)
				}
			}
		}
	})
}

func BenchmarkExtract(b *testing.B) {
	m := read(b, mail(1, true)+strings.Repeat("and some more text that a letter has, with words and numbers like 12 and names like Müller. ", 40))
	m.Text()
	b.ReportAllocs()
	for b.Loop() {
		Extract(m)
	}
}

func BenchmarkTrain(b *testing.B) {
	all := examples(b, 500)
	for b.Loop() {
		Train(all)
	}
}
