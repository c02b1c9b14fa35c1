package filters

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"postern/filters/message"
	"postern/rules/strict"
)

// authRun is one message through all checks of sender authentication.
type authRun struct {
	ip, helo string
	from     Path
	src      string
}

// result runs the checks in a pipeline, as a session would.
func (r authRun) result(t *testing.T, zone *fakeDNS) Result {
	t.Helper()
	p, err := NewPipeline(stages(
		newIprev(defaultIprevConfig(), zone),
		newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example", Score: 6}}}, zone, slog.New(slog.DiscardHandler))),
		newHelo(defaultHeloConfig(), zone),
		newSPF(defaultSPFConfig(), zone),
		newDKIM(defaultDKIMConfig(), zone),
		newARC(defaultARCConfig(), zone),
		newDMARC(defaultDMARCConfig(), nil, zone),
	))
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Unix(2_000_000_000, 0) }
	run := p.Start(context.Background(), &Client{IP: netip.MustParseAddr(r.ip), OwnName: "mx.postern.example"}, now)
	defer run.Close()
	run.Helo(&Helo{Name: r.helo, Extended: true})
	run.Mail(&Mail{From: r.from})
	m, err := message.Read(strings.NewReader(r.src), int64(len(r.src)))
	if err != nil {
		t.Fatal(err)
	}
	run.Message([]Rcpt{{To: Path{Local: "a", Domain: "example.org"}}}, m)
	return run.Collect(context.Background())
}

func authZone(t *testing.T) *fakeDNS {
	t.Helper()
	return &fakeDNS{
		a: map[string][]string{
			"mail.example.com": {"192.0.2.7"}, "2.0.0.127.bl.example": {"127.0.0.2"}, "99.2.0.192.bl.example": {"127.0.0.2"},
		},
		ptr: map[string][]string{"192.0.2.7": {"mail.example.com."}},
		txt: map[string][]string{
			"example.com":               {"v=spf1 ip4:192.0.2.7 -all"},
			"_dmarc.example.com":        {"v=DMARC1; p=reject"},
			"s1._domainkey.example.com": {keyRecord(t, testKeys()["rsa"], "")},
		},
		fail: map[string]bool{},
	}
}

func TestAuthChecks(t *testing.T) {
	signed := signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; i=@example.com; h=from;", testKeys()["rsa"])
	zone := authZone(t)
	good := authRun{ip: "192.0.2.7", helo: "mail.example.com", from: Path{Local: "joe", Domain: "example.com"}, src: signed}
	res := good.result(t, zone)
	if len(res.Errors) > 0 {
		t.Errorf("errors: %v", res.Errors)
	}
	field := string(AuthResults{AuthservID: "mx.postern.example", Results: res.Auth}.Field().Raw)
	b := field[strings.Index(field, "header.b=")+len("header.b="):]
	b = b[:strings.IndexAny(b, ";\r ")]
	want := "Authentication-Results: mx.postern.example;\r\n" +
		"\tiprev=pass policy.iprev=192.0.2.7;\r\n" +
		"\tspf=pass reason=\"matched ip4:192.0.2.7\" smtp.mailfrom=joe@example.com;\r\n" +
		"\tdkim=pass header.d=example.com header.i=@example.com header.s=s1\r\n" +
		"\theader.a=rsa-sha256 header.b=" + b + ";\r\n" +
		"\tarc=none;\r\n" +
		"\tdmarc=pass header.from=example.com policy.dmarc=reject\r\n"
	if diff := cmp.Diff(want, field); diff != "" {
		t.Errorf("field (-want +got):\n%s", diff)
	}
	checkSymbols(t, res, "iprev.pass", "helo.ok", "spf.pass", "dkim.pass", "arc.none", "dmarc.pass")

	bad := authRun{ip: "192.0.2.99", helo: "friend", from: Path{Local: "joe", Domain: "example.com"}, src: strings.Replace(signed, "Hi.", "Ho.", 1)}
	res = bad.result(t, zone)
	checkSymbols(t, res, "iprev.permerror", "dnsbl.bl.example", "helo.single_label", "spf.fail", "dkim.fail", "arc.none", "dmarc.fail", "dmarc.policy_reject")
	forced := slices.IndexFunc(res.Findings, func(f Finding) bool { return f.Force != NoAction })
	if forced < 0 || res.Findings[forced].Force != Reject || res.Findings[forced].Symbol != "dmarc.fail" {
		t.Errorf("DMARC's reject is not asked for: %+v", res.Findings)
	}
	if len(res.Errors) > 0 {
		t.Errorf("errors: %v", res.Errors)
	}
}

// TestAuthChecksWithoutDNS wants errors and temperrors, and no failure held against the sender.
func TestAuthChecksWithoutDNS(t *testing.T) {
	signed := signAs(t, plainMessage, "v=1; a=rsa-sha256; d=example.com; s=s1; h=from;", testKeys()["rsa"])
	zone := authZone(t)
	zone.offline = true
	res := authRun{ip: "192.0.2.7", helo: "mail.example.com", from: Path{Local: "joe", Domain: "example.com"}, src: signed}.result(t, zone)
	for _, a := range res.Auth {
		if a.Result != "temperror" && a.Method != "arc" { // it has no chain, which takes no DNS to see
			t.Errorf("%s=%s", a.Method, a.Result)
		}
	}
	var failed []string
	for _, e := range res.Errors {
		failed = append(failed, e.Check)
	}
	if want := []string{"iprev", "dnsbl.client", "helo", "spf", "dkim", "dmarc"}; !slices.Equal(failed, want) {
		t.Errorf("errors of %v, want %v", failed, want)
	}
	for _, f := range res.Findings {
		if f.Score != 0 || f.Force != NoAction {
			t.Errorf("counts: %+v", f)
		}
	}
}

// checkSymbols wants these findings and no others, in this order, and each of them declared.
func checkSymbols(t *testing.T, res Result, want ...string) {
	t.Helper()
	declared := slices.Concat(
		newIprev(defaultIprevConfig(), nil).Symbols(), newHelo(defaultHeloConfig(), nil).Symbols(),
		newSPF(defaultSPFConfig(), nil).Symbols(), newDKIM(defaultDKIMConfig(), nil).Symbols(), newARC(defaultARCConfig(), nil).Symbols(),
		newDMARC(defaultDMARCConfig(), nil, nil).Symbols(),
		newDNSBL(newDNSBLLists(DNSBLConfig{Lists: DNSBLLists{{Zone: "bl.example"}}}, nil, nil)).Symbols(),
	)
	var got []string
	for _, f := range res.Findings {
		got = append(got, f.Symbol)
		if !slices.Contains(declared, f.Symbol) {
			t.Errorf("%s is not declared", f.Symbol)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("symbols (-want +got):\n%s", diff)
	}
}

func TestScoresConfig(t *testing.T) {
	tests := []struct{ yaml, want, reason string }{
		{yaml: "scores: {fail: 4.5}", reason: "one default replaced"},
		{yaml: "scores: {fial: 4}", want: `postern.yaml:1:10: unknown symbol "fial", did you mean "fail"? ` +
			`(known: fail, neutral, none, pass, permerror, softfail, temperror)`, reason: "unknown symbol"},
		{yaml: "scores: {fail: high}", want: "postern.yaml:1:16: expected a number, got \"high\"", reason: "no number"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			cfg := defaultSPFConfig()
			err := decodeAuth(t, tt.yaml, &cfg)
			switch {
			case tt.want == "" && (err != nil || cfg.Scores["fail"] != 450 || cfg.Scores["softfail"] != 100):
				t.Errorf("%v, %v", cfg.Scores, err)
			case tt.want != "" && (err == nil || err.Error() != tt.want):
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	if defaultSPFConfig().Scores["fail"] != 300 {
		t.Error("the defaults were changed")
	}
}

func TestDMARCConfig(t *testing.T) {
	tests := []struct{ yaml, want, reason string }{
		{yaml: "honor: [quarantine, reject]\ndiscovery: psl", reason: "both policies"},
		{yaml: "honor: []", reason: "none"},
		{yaml: "honor: [reject, none]", want: `postern.yaml:1:17: unknown policy "none" (known: quarantine, reject)`, reason: "none is not to be honoured"},
		{yaml: "discovery: guess", want: `postern.yaml:1:12: unknown discovery "guess", expected treewalk or psl`, reason: "unknown discovery"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			cfg := defaultDMARCConfig()
			err := decodeAuth(t, tt.yaml, &cfg)
			if got := errorText(err); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func decodeAuth(t *testing.T, yaml string, into any) error {
	t.Helper()
	doc, err := strict.Parse("postern.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return doc.Decode(into).Err()
}

func TestASCIIDomain(t *testing.T) {
	tests := []struct {
		in, want string
		ok       bool
		reason   string
	}{
		{in: "Example.COM.", want: "example.com", ok: true, reason: "case and final dot"},
		{in: "bücher.example", want: "xn--bcher-kva.example", ok: true, reason: "U-label"},
		{in: "_dmarc.example", want: "_dmarc.example", ok: true, reason: "underscore"},
		{in: "", reason: "empty"},
		{in: ".", reason: "root"},
		{in: "a..b", reason: "empty label"},
		{in: "a\x00b.example", reason: "NUL"},
		{in: "a b.example", reason: "space"},
		{in: "a\u200b\u202e/.example", reason: "what U-labels can't have"},
		{in: strings.Repeat("a", 64) + ".example", reason: "long label"},
		{in: strings.Repeat("a.", 130) + "example", reason: "long name"},
		{in: strings.Repeat("ü", 100000), reason: "far too long to convert"},
		{in: "\xff.example", reason: "no UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			if got, ok := asciiDomain(tt.in); got != tt.want || ok != tt.ok {
				t.Errorf("%q: %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestDocumentedDefaults holds the configuration shown in docs/authentication.md against the defaults.
func TestDocumentedDefaults(t *testing.T) {
	src, err := os.ReadFile("../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(src), "```yaml\n")
	block, _, found := strings.Cut(block, "```")
	if !found {
		t.Fatal("the page has no configuration")
	}
	shown := map[string]Scores{}
	var raw struct {
		Filters map[string]struct {
			Scores map[string]float64 `yaml:"scores"`
		} `yaml:"filters"`
	}
	if err := yaml.Unmarshal([]byte(block), &raw); err != nil {
		t.Fatal(err)
	}
	for check, s := range raw.Filters {
		shown[check] = Scores{}
		for name, points := range s.Scores {
			shown[check][name] = Points(points)
		}
	}
	defaults := map[string]Scores{
		"iprev": defaultIprevConfig().Scores, "helo": defaultHeloConfig().Scores, "spf": defaultSPFConfig().Scores,
		"dkim": defaultDKIMConfig().Scores, "dmarc": defaultDMARCConfig().Scores, "dnsbl": {},
		"arc": defaultARCConfig().Scores, "mailfrom": defaultMailFromConfig().Scores,
	}
	if diff := cmp.Diff(defaults, shown); diff != "" {
		t.Errorf("documented scores (-defaults +shown):\n%s", diff)
	}
	cfg := struct {
		Filters Config `yaml:"filters"`
	}{Filters: DefaultConfig()}
	if err := decodeAuth(t, block, &cfg); err != nil {
		t.Errorf("the documented configuration is refused: %v", err)
	}
}
