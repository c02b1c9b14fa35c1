package filters

import (
	"strings"
	"testing"
)

// TestDecide lists every way to a verdict. Each case says why it is as it is.
func TestDecide(t *testing.T) {
	thresholds := Thresholds{Tag: 500, Quarantine: 800, Reject: 1200}
	full := Policy{Default: thresholds, Postmaster: Tag, Bounces: Reject, Diverts: true}
	with := func(change func(*Policy)) Policy {
		p := full
		change(&p)
		return p
	}
	to := func(addresses ...string) []Rcpt {
		var list []Rcpt
		for _, a := range addresses {
			path, err := ParsePath(a)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, Rcpt{To: path})
		}
		return list
	}
	score := func(points float64) Finding { return Finding{Symbol: "X", Score: Points(points)} }
	sender := &Mail{From: Path{Local: "a", Domain: "b.example"}}
	cases := []struct {
		name   string
		why    string
		policy Policy
		c      Case
		action Action
		would  Action
		by     string
		code   int
		ecode  string
		says   string
	}{
		{"nothing found", "no evidence is no spam", full, Case{}, Accept, NoAction, "score", 0, "", ""},
		{"below tag", "a threshold is reached, not approached", full, Case{Findings: []Finding{score(4.99)}}, Accept, NoAction, "score", 0, "", ""},
		{"at tag", "reaching is enough", full, Case{Findings: []Finding{score(5)}}, Tag, NoAction, "score", 0, "", ""},
		{"sum reaches quarantine", "the score is the sum", full, Case{Findings: []Finding{score(5), score(3)}}, Quarantine, NoAction, "score", 0, "", ""},
		{"at reject", "", full, Case{ID: "AB.1", Findings: []Finding{score(12)}}, Reject, NoAction, "score", 550, "5.7.1", "spam"},
		{"good signs count", "negative scores bring it down", full, Case{Findings: []Finding{score(12), score(-8)}}, Accept, NoAction, "score", 0, "", ""},
		{"shadow does not count", "a shadow rule is only shown", full, Case{Findings: []Finding{{Symbol: "S", Score: 1200, Shadow: true}}}, Accept, NoAction, "score", 0, "", ""},
		{"shadow does not force", "", full, Case{Findings: []Finding{{Symbol: "S", Force: Reject, Shadow: true}}}, Accept, NoAction, "score", 0, "", ""},
		{"no threshold set", "zero is never", Policy{}, Case{Findings: []Finding{score(100)}}, Accept, NoAction, "score", 0, "", ""},

		{"relay refusal", "before all else", full, Case{Refusal: &Refusal{By: "relay", Reply: Reply{Code: 550, Enhanced: "5.7.1", Text: "no"}}, Findings: []Finding{{Symbol: "OK", Force: Accept}}}, Reject, NoAction, "relay", 550, "5.7.1", "no"},
		{"temporary refusal", "a 4xx is a deferral", full, Case{Refusal: &Refusal{By: "spool", Reply: Reply{Code: 452, Enhanced: "4.3.1", Text: "full"}}}, Defer, NoAction, "spool", 452, "4.3.1", "full"},
		{"refusal while observing", "relay, protocol, size and limits apply in observe mode too", with(func(p *Policy) { p.Observe = true }), Case{Refusal: &Refusal{By: "loop", Reply: Reply{Code: 554}}}, Reject, NoAction, "loop", 554, "", ""},

		{"malware", "refused where its rule names no action", full, Case{Findings: []Finding{{Symbol: "EICAR", Malware: true}}}, Reject, NoAction, "malware", 550, "5.7.1", "malware"},
		{"malware despite accept", "malware comes before a local accept", full, Case{Findings: []Finding{{Symbol: "OK", Force: Accept}, {Symbol: "EICAR", Malware: true, Force: Reject}}}, Reject, NoAction, "malware", 550, "5.7.1", ""},
		{"malware to quarantine", "as the rule asks", full, Case{Findings: []Finding{{Symbol: "EICAR", Malware: true, Force: Quarantine}}}, Quarantine, NoAction, "malware", 0, "", ""},
		{"malware that asks to be tagged", "is not delivered all the same", full, Case{Findings: []Finding{{Symbol: "EICAR", Malware: true, Force: Tag}}}, Quarantine, NoAction, "malware", 0, "", ""},
		{"not looked for malware despite accept", "what could not be scanned waits", full, Case{Findings: []Finding{{Symbol: "OK", Force: Accept}, {Symbol: "clamav.error", Malware: true, Force: Defer, Reply: "later"}}}, Defer, NoAction, "clamav.error", 451, "4.7.1", "later"},
		{"malware to postmaster", "no exception for malware", full, Case{Rcpts: to("postmaster@x.example"), Findings: []Finding{{Symbol: "EICAR", Malware: true}}}, Reject, NoAction, "malware", 550, "5.7.1", ""},
		{"malware without a quarantine", "is refused, never delivered", with(func(p *Policy) { p.Diverts = false }), Case{Findings: []Finding{{Symbol: "EICAR", Malware: true, Force: Quarantine}}}, Reject, NoAction, "malware", 550, "5.7.1", ""},

		{"local accept", "whatever the score", full, Case{Findings: []Finding{score(50), {Symbol: "PARTNER", Force: Accept}}}, Accept, NoAction, "PARTNER", 0, "", ""},
		{"local accept before forced", "an accept overrides a forced refusal", full, Case{Findings: []Finding{{Symbol: "dmarc.fail", Force: Reject}, {Symbol: "PARTNER", Force: Accept}}}, Accept, NoAction, "PARTNER", 0, "", ""},

		{"forced reject", "DMARC's policy, say", full, Case{Findings: []Finding{{Symbol: "dmarc.fail", Force: Reject, Reply: "not authenticated"}}}, Reject, NoAction, "dmarc.fail", 550, "5.7.1", "not authenticated"},
		{"forced reject without reply", "the reason is told in a sender's words", full, Case{Findings: []Finding{{Symbol: "dmarc.fail", Force: Reject}}}, Reject, NoAction, "dmarc.fail", 550, "5.7.1", "DMARC"},
		{"forced quarantine", "", full, Case{Findings: []Finding{{Symbol: "R", Force: Quarantine}}}, Quarantine, NoAction, "R", 0, "", ""},
		{"forced quarantine before score", "force decides before score", full, Case{Findings: []Finding{score(20), {Symbol: "R", Force: Quarantine}}}, Quarantine, NoAction, "R", 0, "", ""},
		{"forced quarantine without a target", "is tagged where there is nowhere to divert to", with(func(p *Policy) { p.Diverts = false }), Case{Findings: []Finding{{Symbol: "R", Force: Quarantine}}}, Tag, NoAction, "R", 0, "", ""},
		{"forced defer", "a failed check with on_error: defer", full, Case{Findings: []Finding{{Symbol: "spf.error", Force: Defer, Reply: "later"}}}, Defer, NoAction, "spf.error", 451, "4.7.1", "later"},
		{"forced tag is the least", "with no score it tags", full, Case{Findings: []Finding{{Symbol: "R", Force: Tag}}}, Tag, NoAction, "R", 0, "", ""},
		{"forced tag below a rejecting score", "the score may ask for more", full, Case{Findings: []Finding{score(13), {Symbol: "R", Force: Tag}}}, Reject, NoAction, "score", 550, "5.7.1", ""},
		{"severest force", "of several forced actions the severest", full, Case{Findings: []Finding{{Symbol: "A", Force: Quarantine}, {Symbol: "B", Force: Reject}}}, Reject, NoAction, "B", 550, "5.7.1", ""},

		{"postmaster is tagged at most", "RFC 5321 section 4.5.1", full, Case{Rcpts: to("Postmaster@x.example"), Findings: []Finding{score(20)}}, Tag, NoAction, "score,postmaster", 0, "", ""},
		{"abuse too", "RFC 2142", full, Case{Rcpts: to("abuse@x.example"), Findings: []Finding{{Symbol: "R", Force: Reject}}}, Tag, NoAction, "R,postmaster", 0, "", ""},
		{"postmaster among others", "the exception is for mail to them alone", full, Case{Rcpts: to("postmaster@x.example", "bob@x.example"), Findings: []Finding{score(20)}}, Reject, NoAction, "score", 550, "5.7.1", ""},
		{"bounce", "under the same thresholds by default", full, Case{Mail: &Mail{}, Findings: []Finding{score(20)}}, Reject, NoAction, "score", 550, "5.7.1", ""},
		{"bounce is tagged at most", "where so configured", with(func(p *Policy) { p.Bounces = Tag }), Case{Mail: &Mail{}, Findings: []Finding{score(20)}}, Tag, NoAction, "score,bounce", 0, "", ""},
		{"no bounce", "a sender is none", with(func(p *Policy) { p.Bounces = Tag }), Case{Mail: sender, Findings: []Finding{score(20)}}, Reject, NoAction, "score", 550, "5.7.1", ""},

		{"domain's own thresholds", "policies: per recipient domain", with(func(p *Policy) { p.ByDomain = map[string]Thresholds{"strict.example": {Tag: 100, Reject: 200}} }), Case{Rcpts: to("bob@Strict.example"), Findings: []Finding{score(2)}}, Reject, NoAction, "score", 550, "5.7.1", ""},
		{"domain in U-labels", "compared as A-labels", with(func(p *Policy) { p.ByDomain = map[string]Thresholds{"xn--bcher-kva.example": {Reject: 200}} }), Case{Rcpts: to("bob@Bücher.example"), Findings: []Finding{score(2)}}, Reject, NoAction, "score", 550, "5.7.1", ""},
		{"lenient split", "refused only if every recipient's policy refuses", with(func(p *Policy) { p.ByDomain = map[string]Thresholds{"strict.example": {Tag: 100, Reject: 200}} }), Case{Rcpts: to("bob@strict.example", "al@x.example"), Findings: []Finding{score(6)}}, Tag, NoAction, "score", 0, "", ""},
		{"lenient split, other order", "the order of recipients does not matter", with(func(p *Policy) { p.ByDomain = map[string]Thresholds{"strict.example": {Tag: 100, Reject: 200}} }), Case{Rcpts: to("al@x.example", "bob@strict.example"), Findings: []Finding{score(6)}}, Tag, NoAction, "score", 0, "", ""},
		{"all refuse", "", with(func(p *Policy) { p.ByDomain = map[string]Thresholds{"strict.example": {Tag: 100, Reject: 200}} }), Case{Rcpts: to("al@x.example", "bob@strict.example"), Findings: []Finding{score(12)}}, Reject, NoAction, "score", 550, "5.7.1", ""},

		{"observed reject", "delivered, and told what would have been", with(func(p *Policy) { p.Observe = true }), Case{Findings: []Finding{score(12)}}, Accept, Reject, "score", 0, "", ""},
		{"observed tag", "not even tagged", with(func(p *Policy) { p.Observe = true }), Case{Findings: []Finding{score(5)}}, Accept, Tag, "score", 0, "", ""},
		{"observed accept", "nothing would have been done", with(func(p *Policy) { p.Observe = true }), Case{}, Accept, NoAction, "score", 0, "", ""},
		{"observed malware", "content is content", with(func(p *Policy) { p.Observe = true }), Case{Findings: []Finding{{Symbol: "EICAR", Malware: true}}}, Accept, Reject, "malware", 0, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := c.policy.Decide(c.c)
			if v.Action != c.action || v.Would != c.would || v.By != c.by {
				t.Errorf("%s:\ngot  %v would=%v by=%q\nwant %v would=%v by=%q", c.why, v.Action, v.Would, v.By, c.action, c.would, c.by)
			}
			if v.Reply.Code != c.code || v.Reply.Enhanced != c.ecode || !strings.Contains(v.Reply.Text, c.says) {
				t.Errorf("%s: reply %+v, want %d %s with %q", c.why, v.Reply, c.code, c.ecode, c.says)
			}
			if c.code != 0 && c.c.ID != "" && !strings.Contains(v.Reply.Text, c.c.ID) {
				t.Errorf("the reply %q lacks the id", v.Reply.Text)
			}
			if v.Score != sum(c.c.Findings) {
				t.Errorf("score %v is not the sum of the findings", v.Score)
			}
		})
	}
}

// TestLimit: the threshold that decided is told, else the one that was not reached.
func TestLimit(t *testing.T) {
	p := Policy{Default: Thresholds{Tag: 500, Reject: 1200}}
	for points, want := range map[float64]Score{0: 1200, 5: 500, 11.99: 500, 12: 1200} {
		if v := p.Decide(Case{Findings: []Finding{{Score: Points(points)}}}); v.Limit != want {
			t.Errorf("score %v: limit %v, want %v", points, v.Limit, want)
		}
	}
}

func TestRefuseEarly(t *testing.T) {
	listed := []Finding{{Symbol: "dnsbl.zen.example", Score: 600, Refuse: true}}
	p := Policy{}
	v := p.RefuseEarly(Case{ID: "AB.1", Findings: listed})
	if v.Action != Reject || v.Reply.Code != 550 || !strings.Contains(v.Reply.Text, "zen.example") || !strings.Contains(v.Reply.Text, "AB.1") {
		t.Errorf("listed client: %+v", v)
	}
	if v := p.RefuseEarly(Case{Findings: []Finding{{Symbol: "R", Refuse: true, Force: Defer, Reply: "slow down"}}}); v.Reply.Code != 451 || !strings.Contains(v.Reply.Text, "slow down") {
		t.Errorf("a rule that defers: %+v", v)
	}
	if v := (&Policy{Observe: true}).RefuseEarly(Case{ID: "AB.1", Findings: listed}); v.Reply.Code != 0 {
		t.Errorf("observing refuses: %+v", v)
	}
	exceptions := Policy{Postmaster: Tag, Bounces: Tag}
	toPostmaster := []Rcpt{{To: Path{Local: "postmaster", Domain: "x.example"}}}
	if v := exceptions.RefuseEarly(Case{Mail: &Mail{From: Path{Local: "a", Domain: "b.example"}}, Rcpts: toPostmaster, Findings: listed}); v.Reply.Code != 0 {
		t.Errorf("a listed client can't reach the postmaster: %+v", v)
	}
	if v := exceptions.RefuseEarly(Case{Mail: &Mail{}, Findings: listed}); v.Reply.Code != 0 {
		t.Errorf("a bounce is refused: %+v", v)
	}
	if v := p.RefuseEarly(Case{}); v.Reply.Code != 0 {
		t.Errorf("nothing found refuses: %+v", v)
	}
}

func TestScoreString(t *testing.T) {
	for score, want := range map[Score]string{0: "0", 1240: "12.4", -100: "-1", 5: "0.05", -1234: "-12.34", 340: "3.4", 1200: "12"} {
		if got := score.String(); got != want {
			t.Errorf("%d hundredths: %q, want %q", int32(score), got, want)
		}
	}
	for points, want := range map[float64]Score{12.4: 1240, -0.5: -50, 0.1 + 0.2: 30, -1.005: -101} {
		if got := Points(points); got != want && got != want+1 {
			t.Errorf("%v points: %d hundredths, want %d", points, got, want)
		}
	}
}
