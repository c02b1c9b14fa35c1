package filters

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters/dns"
	"postern/filters/message"
)

func headerOf(t *testing.T, src string) message.Header {
	t.Helper()
	msg, err := message.Read(strings.NewReader(src), int64(len(src)))
	if err != nil {
		t.Fatal(err)
	}
	return msg.Header
}

// What counts is what the host itself wrote, and of several fields the topmost that tells of a method.
func TestRecorded(t *testing.T) {
	tests := []struct {
		why, header string
		want        map[string][]string
	}{
		{why: "nothing", header: "Subject: x\n", want: map[string][]string{}},
		{why: "one field", header: "Authentication-Results: MX.example.org.; spf=pass smtp.mailfrom=a@b.example; dkim=pass header.d=b.example; dkim=fail header.d=c.example\n",
			want: map[string][]string{"spf": {"pass"}, "dkim": {"pass", "fail"}}},
		{why: "a field for each method", header: "Authentication-Results: mx.example.org; dkim=none\nAuthentication-Results: mx.example.org; dmarc=fail header.from=b.example\n",
			want: map[string][]string{"dkim": {"none"}, "dmarc": {"fail"}}},
		{why: "a forged field below", header: "Authentication-Results: mx.example.org; dmarc=fail\nReceived: x\nAuthentication-Results: mx.example.org; dmarc=pass; spf=pass\n",
			want: map[string][]string{"dmarc": {"fail"}, "spf": {"pass"}}},
		{why: "another host's", header: "Authentication-Results: mx.example.net; spf=pass\n", want: map[string][]string{}},
		{why: "a result in a comment", header: "Authentication-Results: mx.example.org; spf=fail (x; dmarc=pass)\n", want: map[string][]string{"spf": {"fail"}}},
		{why: "a failure of DNS, a method and a word that are not known", header: "Authentication-Results: mx.example.org; spf=temperror; dkim=hardfail; iprev=pass\n",
			want: map[string][]string{}},
		{why: "a broken field", header: "Authentication-Results: mx.example.org; spf=pass; =\n", want: map[string][]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			got := map[string][]string{}
			for method, results := range Recorded(headerOf(t, tt.header+"\n"), "mx.example.org") {
				for _, r := range results {
					got[method] = append(got[method], r.Result)
				}
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// What Postern recorded of a message gives the findings and the results again that it had, without DNS.
func TestRecallGivesWhatWasFound(t *testing.T) {
	key := testKeys()["ed25519"]
	zone := &fakeDNS{txt: map[string][]string{
		"s1._domainkey.example.com": {keyRecord(t, key, "")},
		"passes.example":            {"v=spf1 ip4:192.0.2.7 -all"},
		"_dmarc.fails.example":      {"v=DMARC1; p=quarantine"},
		"_dmarc.example.com":        {"v=DMARC1; p=reject"},
		"_dmarc.mild.example":       {"v=DMARC1; p=reject; t=y"},
		"fails.example":             {"v=spf1 -all"},
	}}
	signed := signAs(t, "From: joe@example.com\r\nSubject: x\r\n\r\ntext\r\n", "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com; s=s1; h=from;", key)
	tests := []struct{ why, mailFrom, src string }{
		{why: "everything passes", mailFrom: "joe@passes.example", src: signed},
		{why: "everything fails", mailFrom: "joe@fails.example", src: "From: joe@fails.example\r\n\r\ntext\r\n"},
		{why: "the signed text was changed", mailFrom: "joe@passes.example", src: signed + "more\r\n"},
		{why: "nothing is there to pass", mailFrom: "joe@none.example", src: "From: joe@none.example\r\n\r\ntext\r\n"},
		{why: "a bounce", mailFrom: "", src: signed},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			found := judgeOnce(t, zone, tt.mailFrom, tt.src, nil)
			field := AuthResults{AuthservID: "mx.example.org", Results: found.Auth}.Field()
			recorded := Recorded(headerOf(t, string(field.Raw)+tt.src), "mx.example.org")
			for _, method := range []string{"spf", "dkim", "arc", "dmarc"} {
				if len(recorded[method]) == 0 {
					t.Fatalf("%s is not recorded in %s", method, field.Raw)
				}
			}
			recalled := judgeOnce(t, dns.Offline(), tt.mailFrom, tt.src, recorded)
			if d := cmp.Diff(weights(found), weights(recalled)); d != "" {
				t.Error(d)
			}
			if len(recalled.Errors) > 0 && recalled.Errors[0].Check != "iprev" {
				t.Errorf("errors: %v", recalled.Errors)
			}
		})
	}
}

// An override that was recorded takes the weight off again, and a policy that was not recorded weighs nothing.
func TestRecallDMARC(t *testing.T) {
	c := newDMARC(defaultDMARCConfig(), nil, nil)
	for _, tt := range []struct {
		why    string
		result AuthResult
		want   []string
	}{
		{why: "let through", result: AuthResult{Method: "dmarc", Result: "fail", Reason: "x" + dmarcLetThrough + "list", Props: []Prop{{Type: "policy", Name: "dmarc", Value: "reject"}}},
			want: []string{"dmarc.fail", "dmarc.policy_reject", "dmarc.override.list"}},
		{why: "another host's", result: AuthResult{Method: "dmarc", Result: "fail", Props: []Prop{{Type: "policy", Name: "dmarc", Value: "strange"}}}, want: []string{"dmarc.fail"}},
		{why: "a pass", result: AuthResult{Method: "dmarc", Result: "pass"}, want: []string{"dmarc.pass"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var got []string
			sum := Score(0)
			for _, f := range c.Recall(Input{}, []AuthResult{tt.result}).Findings {
				got = append(got, f.Symbol)
				sum += f.Score
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if len(got) == 3 && sum != 0 {
				t.Errorf("the sum is %v", sum)
			}
		})
	}
}

// judgeOnce runs the default checks over a message from 192.0.2.7.
func judgeOnce(t *testing.T, r dns.Lookuper, mailFrom, src string, recorded map[string][]AuthResult) Result {
	t.Helper()
	p, err := Build(DefaultConfig(), r, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	from, err := ParsePath(mailFrom)
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(t.Context(), &Client{IP: netip.MustParseAddr("192.0.2.7")}, func() time.Time { return rateNow })
	defer run.Close()
	run.Recall(recorded)
	run.Helo(&Helo{Name: "mx.passes.example"})
	run.Mail(&Mail{From: from})
	msg, err := message.Read(strings.NewReader(src), int64(len(src)))
	if err != nil {
		t.Fatal(err)
	}
	run.Message(nil, msg)
	return run.Collect(t.Context())
}

// weights are the findings of the checks that can be recalled, and the results of their methods.
func weights(res Result) map[string]Score {
	list := map[string]Score{}
	for _, f := range res.Findings {
		if check, _, _ := strings.Cut(f.Symbol, "."); recallable[check] != nil && !strings.HasSuffix(f.Symbol, ".error") {
			list[f.Symbol] += f.Score
		}
	}
	for _, a := range res.Auth {
		if recallable[a.Method] != nil {
			list[a.Method+"="+a.Result+" "+strings.Join(authDomain(a), "")] = 0
		}
	}
	return list
}
