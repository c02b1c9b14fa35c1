package logs

import (
	"fmt"
	"strings"
	"testing"
)

func shadowReport(t *testing.T, lines ...string) *ShadowReport {
	t.Helper()
	s := NewShadowReporter(Thresholds{Tag: 5, Quarantine: 8, Reject: 12})
	var b strings.Builder
	for i, l := range lines {
		fmt.Fprintf(&b, "time=2026-11-23T18:%02d:00Z level=info event=message v=1 id=M%d %s\n", i%60, i, l)
	}
	if n, err := Read(t.Context(), strings.NewReader(b.String()), Span{}, s.Add); err != nil || n > 0 {
		t.Fatal(n, err)
	}
	return s.Report()
}

// TestShadow weighs each rule alone, and tells those that are safe to enforce from those that are not.
func TestShadow(t *testing.T) {
	var lines []string
	for range 12 {
		lines = append(lines, "action=tag by=score score=6 limit=5 dmarc=none shadow=SAFE:3 from=a@b.example rcpt_to=x@y.example")
	}
	lines = append(lines,
		"action=accept by=score score=0.5 limit=12 dmarc=pass shadow=RASH:6,GOOD:-1 from=friend@corp.example rcpt_to=x@y.example",
		"action=accept by=score score=4 limit=12 dmarc=none shadow=RASH:6 from=spam@corp.example rcpt_to=x@y.example",
		"action=tag by=score score=5.5 limit=5 dmarc=none shadow=GOOD:-1",
		"action=reject by=dmarc.fail score=1 limit=12 shadow=RASH:6", // decided otherwise
		"action=accept would=reject by=score score=13 limit=12 shadow=RASH:6",
		"action=abort by= score=0 limit=12 shadow=RASH:6",
	)
	rep := shadowReport(t, lines...)
	if rep.Messages != 17 || rep.Observed["reject"] != 1 {
		t.Errorf("%d messages, observed %v", rep.Messages, rep.Observed)
	}
	rules := map[string]ShadowRule{}
	for _, r := range rep.Rules {
		rules[r.Name] = r
	}
	if r := rules["SAFE"]; r.Hits != 12 || r.Severer["quarantine"] != 12 || r.Advice != "enforce" || len(r.Examples) != maxExamples {
		t.Errorf("SAFE: %+v", r)
	}
	if r := rules["RASH"]; r.Hits != 4 || r.Severer["tag"] != 1 || r.Severer["quarantine"] != 1 || r.Alone != 1 || r.Proved != 1 || r.Advice != "look" ||
		len(r.Examples) != 2 || r.Examples[0].From != "friend@corp.example" {
		t.Errorf("RASH: %+v", r)
	}
	if r := rules["GOOD"]; r.Hits != 2 || r.Milder["accept"] != 1 || len(r.Severer) != 0 || r.Advice != "wait" {
		t.Errorf("GOOD: %+v", r)
	}
	var b strings.Builder
	if err := rep.WriteText(&b, func(s string) string { return s }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"OBSERVE MODE let pass what else would have been: 1 reject", "SAFE  3 points, hit 12 messages (70.59 %)\n  would have been severer: 12 quarantine\n  safe to enforce",
		"look before you enforce it: 1 of these have little else against them, 1 of which proved their sender", "would have been milder: 1 accept\n  too few hits",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
