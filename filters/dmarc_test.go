package filters

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTreeWalkNames asks what the facts of RFC 9989 say is asked.
func TestTreeWalkNames(t *testing.T) {
	src, err := os.ReadFile("testdata/dmarc/facts.json")
	if err != nil {
		t.Fatal(err)
	}
	var facts struct {
		TreeWalk struct {
			Author  string   `json:"author"`
			Queries []string `json:"queries"`
			Limit   int      `json:"limit"`
		} `json:"tree_walk"`
	}
	if err := json.Unmarshal(src, &facts); err != nil {
		t.Fatal(err)
	}
	zone := &fakeDNS{}
	if _, err := newDMARCDiscovery(context.Background(), zone, false).walk(facts.TreeWalk.Author); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, q := range facts.TreeWalk.Queries {
		want = append(want, q+" TXT")
	}
	if diff := cmp.Diff(want, zone.queries); diff != "" || len(want) > facts.TreeWalk.Limit {
		t.Errorf("queries (-want +got):\n%s", diff)
	}
	for labels := range 20 {
		name := strings.Repeat("a.", labels) + "example"
		names := treeWalkNames(name)
		if len(names) != min(labels+1, maxTreeWalk) || names[0] != name || names[len(names)-1] != "example" {
			t.Errorf("%s: %v", name, names)
		}
	}
}

func TestParseDMARC(t *testing.T) {
	tests := []struct {
		txt    string
		want   *dmarcRecord
		reason string
	}{
		{txt: "v=DMARC1; p=reject", want: &dmarcRecord{p: dmarcReject, psd: 'u'}, reason: "plain"},
		{txt: "v = DMARC1 ;p = Quarantine ; ", want: &dmarcRecord{p: dmarcQuarantine, psd: 'u'}, reason: "spaces, case"},
		{txt: "V=DMARC1;p=none", want: &dmarcRecord{p: dmarcNone, psd: 'u'}, reason: "the tag's name has no case"},
		{txt: "v=dmarc1; p=reject", reason: "the version has"},
		{txt: "v=DMARC1x; p=reject", reason: "another version"},
		{txt: "p=reject; v=DMARC1", reason: "the version must come first"},
		{txt: " v=DMARC1; p=none", want: &dmarcRecord{p: dmarcNone, psd: 'u'}, reason: "a space before it"},
		{txt: "v=spf1 -all", reason: "something else"},
		{txt: "", reason: "nothing"},
		{
			txt:    "v=DMARC1; sp=none; adkim=s; p=reject; aspf=s; np=quarantine; psd=y; t=y; rua=mailto:a@example.org",
			want:   &dmarcRecord{p: dmarcReject, sp: dmarcNone, np: dmarcQuarantine, psd: 'y', testing: true, strictSPF: true, strictKey: true, reports: true},
			reason: "any order behind the version",
		},
		{
			txt:    "v=DMARC1; p=reject; pct=5; rf=x; ri=1; foo=bar; =; ;x; adkim=q; aspf=; t=2; psd=x",
			want:   &dmarcRecord{p: dmarcReject, psd: 'u'},
			reason: "old, unknown and broken tags are passed over",
		},
		{txt: "v=DMARC1; adkim=s; p=reject; adkim=r", want: &dmarcRecord{p: dmarcReject, psd: 'u', strictKey: true}, reason: "the first of two counts"},
		{txt: "v=DMARC1", want: &dmarcRecord{psd: 'u', unsure: true}, reason: "no policy"},
		{txt: "v=DMARC1; rua=mailto:a@example.org", want: &dmarcRecord{psd: 'u', unsure: true, reports: true}, reason: "no policy, but reports"},
		{txt: "v=DMARC1; p=deny; rua=none", want: &dmarcRecord{psd: 'u', unsure: true}, reason: "unknown policy, no URI"},
		{txt: "v=DMARC1; p=reject; sp=deny", want: &dmarcRecord{p: dmarcReject, sp: "deny", psd: 'u', unsure: true}, reason: "unknown subdomain policy"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseDMARC(tt.txt), cmp.AllowUnexported(dmarcRecord{})); diff != "" {
				t.Errorf("%q (-want +got):\n%s", tt.txt, diff)
			}
		})
	}
}

// dmarcCase is one message under one zone.
type dmarcCase struct {
	name    string // the reason for the case
	from    string // the From field, or more fields
	spf     string // domain that SPF passed, "temperror domain" or "fail domain"
	dkim    string // the same for a signature; several with spaces
	zone    map[string]string
	hosts   []string // names that exist
	fail    string   // a name whose look-ups fail
	psl     bool
	want    string // "result policy"
	queries int    // at most so many; 0 is not looked at
}

func TestCheckDMARC(t *testing.T) {
	reject := map[string]string{"example.com": "v=DMARC1; p=reject"}
	tests := []dmarcCase{
		{name: "SPF aligned", spf: "example.com", zone: reject, want: "pass reject", queries: 1},
		{name: "DKIM aligned", dkim: "example.com", zone: reject, want: "pass reject"},
		{name: "nothing", zone: reject, want: "fail reject"},
		{name: "SPF failed", spf: "fail example.com", zone: reject, want: "fail reject"},
		{name: "authenticated as somebody else", spf: "example.net", dkim: "evil.example", zone: reject, want: "fail reject"},
		{name: "a name that only ends like it", spf: "notexample.com", zone: reject, want: "fail reject"},
		{name: "relaxed: a subdomain of the author's", spf: "bounce.example.com", zone: reject, want: "pass reject"},
		{name: "relaxed: the author in the subdomain", from: "From: a@news.example.com", dkim: "example.com", zone: reject, want: "pass reject"},
		{name: "relaxed: two subdomains", from: "From: a@news.example.com", dkim: "mail.example.com", zone: reject, want: "pass reject"},
		{name: "strict SPF", spf: "bounce.example.com", zone: map[string]string{"example.com": "v=DMARC1; p=reject; aspf=s"}, want: "fail reject"},
		{name: "strict SPF leaves DKIM relaxed", dkim: "bounce.example.com", zone: map[string]string{"example.com": "v=DMARC1; p=reject; aspf=s"}, want: "pass reject"},
		{name: "strict DKIM", dkim: "mail.example.com", zone: map[string]string{"example.com": "v=DMARC1; p=reject; adkim=s"}, want: "fail reject"},
		{name: "strict and the same", dkim: "example.com", zone: map[string]string{"example.com": "v=DMARC1; p=reject; adkim=s; aspf=s"}, want: "pass reject"},
		{name: "one of several signatures", dkim: "list.example example.com", zone: reject, want: "pass reject"},

		{name: "no record", spf: "example.com", want: "none "},
		{name: "two records are none", spf: "example.com", zone: map[string]string{"example.com": "v=DMARC1; p=reject|v=DMARC1; p=none"}, want: "none "},
		{name: "a record beside others", spf: "example.com", zone: map[string]string{"example.com": "v=spf1 -all|v=DMARC1; p=reject"}, want: "pass reject"},
		{name: "no policy but reports", zone: map[string]string{"example.com": "v=DMARC1; rua=mailto:a@example.com"}, want: "fail none"},
		{name: "no policy, no reports", zone: map[string]string{"example.com": "v=DMARC1"}, want: "none "},
		{name: "pct is ignored", zone: map[string]string{"example.com": "v=DMARC1; p=reject; pct=0"}, want: "fail reject"},
		{name: "test mode is one level milder", zone: map[string]string{"example.com": "v=DMARC1; p=reject; t=y"}, want: "fail quarantine"},
		{name: "test mode of quarantine", zone: map[string]string{"example.com": "v=DMARC1; p=quarantine; t=y"}, want: "fail none"},

		{name: "sp for a subdomain", from: "From: a@news.example.com", hosts: []string{"news.example.com"},
			zone: map[string]string{"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"}, want: "fail none"},
		{name: "np for a name that doesn't exist", from: "From: a@news.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"}, want: "fail quarantine"},
		{name: "without np, sp", from: "From: a@news.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject; sp=none"}, want: "fail none"},
		{name: "without sp, p", from: "From: a@news.example.com", zone: reject, want: "fail reject"},
		{name: "sp and np are not for the domain itself", zone: map[string]string{"example.com": "v=DMARC1; p=reject; sp=none; np=none"}, want: "fail reject"},
		{name: "its existence can't be found out", from: "From: a@news.example.com", fail: "news.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject; sp=none; np=quarantine"}, want: "temperror "},
		{name: "the subdomain's own record comes first", from: "From: a@news.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "news.example.com": "v=DMARC1; p=none"}, want: "fail none"},
		{name: "a record in between is not asked", from: "From: a@x.news.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "news.example.com": "v=DMARC1; p=none"}, want: "fail reject"},

		{name: "psd=y: one label below it", from: "From: a@x.bank.example", dkim: "y.bank.example",
			zone: map[string]string{"example": "v=DMARC1; p=reject; psd=y"}, want: "pass reject"},
		{name: "psd=y: another registrant", from: "From: a@bank.example", dkim: "shop.example",
			zone: map[string]string{"example": "v=DMARC1; p=reject; psd=y"}, want: "fail reject"},
		{name: "psd=y: np for names nobody registered", from: "From: a@bamk.example", hosts: []string{"bank.example"},
			zone: map[string]string{"example": "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"}, want: "fail reject"},
		{name: "psd=y: sp for names that exist", from: "From: a@bank.example", hosts: []string{"bank.example"},
			zone: map[string]string{"example": "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"}, want: "fail quarantine"},
		{name: "psd=y at the author domain: it is its own", from: "From: a@example", dkim: "bank.example",
			zone: map[string]string{"example": "v=DMARC1; p=reject; psd=y"}, want: "fail reject"},
		{name: "psd=n cuts the tree", from: "From: a@mail.dept.example.com", dkim: "example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "dept.example.com": "v=DMARC1; p=none; psd=n"}, want: "fail none"},
		{name: "psd=n: aligned within", from: "From: a@mail.dept.example.com", dkim: "out.dept.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "dept.example.com": "v=DMARC1; p=none; psd=n"}, want: "pass none"},
		{name: "psd=n: the identifier's own walk ends elsewhere", dkim: "dept.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "dept.example.com": "v=DMARC1; p=none; psd=n"}, want: "fail reject"},
		{name: "without psd the shortest name with a record is the organization", from: "From: a@a.mail.example.com", dkim: "b.example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=none", "mail.example.com": "v=DMARC1; p=reject"}, want: "pass none"},

		{name: "a long name costs eight queries", from: "From: a@a.b.c.d.e.f.g.h.i.j.k.example.com", zone: reject, want: "fail reject", queries: 8},
		{name: "a long identifier costs eight more", spf: "a.b.c.d.e.f.g.h.i.j.k.example.com", zone: reject, want: "pass reject", queries: 16},
		{name: "identifiers of other organizations cost nothing", dkim: "a.example.net b.example.net c.example.net d.example.net", zone: reject, want: "fail reject", queries: 2},

		{name: "DNS failure at the author domain", spf: "example.com", fail: "_dmarc.example.com", want: "temperror "},
		{name: "DNS failure on the way up", from: "From: a@news.example.com", fail: "_dmarc.example.com", want: "temperror "},
		{name: "DNS failure that matters for alignment only", spf: "x.example.com", zone: reject, fail: "_dmarc.com", want: "temperror "},
		{name: "DNS failure of one identifier while another passes", spf: "x.example.com", dkim: "example.com", zone: reject, fail: "_dmarc.x.example.com", want: "pass reject"},
		{name: "SPF has no result for now, and would be aligned", spf: "temperror example.com", zone: reject, want: "temperror "},
		{name: "SPF has no result for now, but of another domain", spf: "temperror example.net", zone: reject, want: "fail reject"},
		{name: "DKIM has no result for now", dkim: "temperror mail.example.com", zone: reject, want: "temperror "},

		{name: "no From", from: "To: a@example.com", zone: reject, want: "none "},
		{name: "From without address", from: "From: undisclosed:;", zone: reject, want: "none "},
		{name: "a display name alone", from: "From: Example Bank", zone: reject, want: "none "},
		{name: "an address literal", from: "From: a@[192.0.2.7]", zone: reject, want: "none "},
		{name: "two addresses of one domain", from: "From: a@example.com, b@EXAMPLE.com", zone: reject, want: "fail reject"},
		{name: "two addresses of two domains", from: "From: a@example.com, b@example.net", spf: "example.com", zone: reject, want: "none "},
		{name: "of two domains one fails: its policy counts", from: "From: a@example.net, b@example.com", spf: "example.net", zone: reject, want: "fail reject"},
		{name: "of two domains that fail the stricter policy counts", from: "From: a@example.net, b@example.com",
			zone: map[string]string{"example.com": "v=DMARC1; p=quarantine", "example.net": "v=DMARC1; p=reject"}, want: "fail reject"},
		{name: "of two domains both are authenticated: no pass, for the reader sees one", from: "From: a@example.com, b@example.net", spf: "example.com", dkim: "example.net",
			zone: map[string]string{"example.com": "v=DMARC1; p=reject", "example.net": "v=DMARC1; p=reject"}, want: "none "},
		{name: "of two domains one has no result for now", from: "From: a@example.net, b@example.com", fail: "_dmarc.example.net", spf: "example.com", zone: reject, want: "temperror "},
		{name: "of two domains one has no result for now, the other is to be rejected", from: "From: a@example.net, b@example.com", fail: "_dmarc.example.net", zone: reject, want: "fail reject"},
		{name: "the eleventh domain is not looked for", zone: reject, want: "none ", queries: 11,
			from: "From: a@1.example, a@2.example, a@3.example, a@4.example, a@5.example, a@6.example, a@7.example, a@8.example, a@9.example, a@10.example, a@example.com"},
		{name: "the first ten of many domains are judged", zone: reject, want: "fail reject", queries: 12,
			from: "From: a@example.com, a@1.example, a@2.example, a@3.example, a@4.example, a@5.example, a@6.example, a@7.example, a@8.example, a@9.example, a@10.example"},
		{name: "addresses in a group", from: "From: team: a@example.com, b@example.com;", spf: "example.com", zone: reject, want: "pass reject"},
		{name: "two From fields of two domains", from: "From: a@example.com\r\nFrom: b@example.net", spf: "example.net", zone: reject, want: "fail reject"},
		{name: "two From fields of one domain", from: "From: a@example.com\r\nFrom: b@example.com", zone: reject, want: "fail reject"},
		{name: "a domain in a display name is none", from: `From: "a@example.com" <b@example.net>`, spf: "example.net", zone: reject, want: "none "},
		{name: "a domain in a comment is none", from: "From: (a@example.net) b@example.com", zone: reject, want: "fail reject"},
		{name: "U-labels", from: "From: a@bücher.example", dkim: "xn--bcher-kva.example",
			zone: map[string]string{"xn--bcher-kva.example": "v=DMARC1; p=reject"}, want: "pass reject"},
		{name: "a control byte in the domain", from: "From: a@example\x01.com", zone: reject, want: "none "},
		{name: "malformed: a failure stands", from: "From: a@example.com, ,<", zone: reject, want: "fail reject"},
		{name: "malformed: a pass is not believed", from: "From: <a@example.com", spf: "example.com", zone: reject, want: "none reject"},

		{name: "psl: organizational domain without a record above", from: "From: a@x.example.co.uk", dkim: "y.example.co.uk", psl: true,
			zone: map[string]string{"example.co.uk": "v=DMARC1; p=reject"}, want: "pass reject", queries: 2},
		{name: "psl: a public suffix is no organization", from: "From: a@bank.co.uk", dkim: "shop.co.uk", psl: true,
			zone: map[string]string{"bank.co.uk": "v=DMARC1; p=reject"}, want: "fail reject"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { runDMARCCase(t, tt) })
	}
}

func runDMARCCase(t *testing.T, tt dmarcCase) {
	zone := &fakeDNS{a: map[string][]string{}, txt: map[string][]string{}, fail: map[string]bool{tt.fail: true}}
	for name, records := range tt.zone {
		zone.txt["_dmarc."+name] = strings.Split(records, "|")
	}
	for _, name := range tt.hosts {
		zone.a[name] = []string{"192.0.2.1"}
	}
	if tt.from == "" {
		tt.from = "From: Joe <a@example.com>"
	}
	m := parseMessage(t, tt.from+"\r\nSubject: x\r\n\r\nx\r\n")
	in := DMARCInput{Header: m.Header, PSL: tt.psl, DKIM: &DKIMResult{}}
	result, domain := resultAndDomain(tt.spf)
	in.SPF = &SPFResult{Result: result, Domain: domain}
	words := strings.Fields(tt.dkim)
	for len(words) > 0 {
		s := &DKIMSignature{Result: "pass", Domain: words[0]}
		if words[0] == "temperror" {
			s.Result, s.Domain = words[0], words[1]
			words = words[1:]
		}
		words = words[1:]
		in.DKIM.Signatures = append(in.DKIM.Signatures, s)
	}
	res, err := CheckDMARC(context.Background(), zone, in)
	if got := fmt.Sprintf("%s %s", res.Result, res.Policy); got != tt.want && !strings.HasPrefix(tt.want, "temperror") || res.Result != strings.Fields(tt.want)[0] {
		t.Errorf("got %q (%s), want %q", got, res.Reason, tt.want)
	}
	if (err != nil) != (res.Result == "temperror") {
		t.Errorf("%s with error %v", res.Result, err)
	}
	if tt.queries > 0 && len(zone.queries) > tt.queries {
		t.Errorf("%d queries, want at most %d: %v", len(zone.queries), tt.queries, zone.queries)
	}
	slices.Sort(zone.queries)
	if unique := slices.Compact(slices.Clone(zone.queries)); len(unique) != len(zone.queries) {
		t.Errorf("a name was asked twice: %v", zone.queries)
	}
}

// TestDMARCWithoutInputs says that mail passes by one of SPF and DKIM where the other did not run, but not that it fails.
func TestDMARCWithoutInputs(t *testing.T) {
	zone := &fakeDNS{txt: map[string][]string{"_dmarc.example.com": {"v=DMARC1; p=reject"}}}
	m := parseMessage(t, "From: a@example.com\r\n\r\n")
	passed := &SPFResult{Result: "pass", Domain: "example.com"}
	for _, tt := range []struct {
		reason string
		in     DMARCInput
		want   string
	}{
		{reason: "neither ran", want: "none"},
		{reason: "only SPF ran, and failed", in: DMARCInput{SPF: &SPFResult{Result: "fail", Domain: "example.com"}}, want: "none"},
		{reason: "only SPF ran, and passed", in: DMARCInput{SPF: passed}, want: "pass"},
		{reason: "only DKIM ran", in: DMARCInput{DKIM: &DKIMResult{}}, want: "none"},
		{reason: "both ran", in: DMARCInput{SPF: &SPFResult{Result: "none"}, DKIM: &DKIMResult{}}, want: "fail"},
	} {
		tt.in.Header = m.Header
		res, err := CheckDMARC(context.Background(), zone, tt.in)
		if res.Result != tt.want || err != nil {
			t.Errorf("%s: %s, %v, want %s", tt.reason, res.Result, err, tt.want)
		}
	}
}

func resultAndDomain(s string) (result, domain string) {
	if result, domain, ok := strings.Cut(s, " "); ok {
		return result, domain
	}
	if s == "" {
		return "none", ""
	}
	return "pass", s
}

// TestDMARCManyAddresses stays cheap with ten thousand addresses in From.
func TestDMARCManyAddresses(t *testing.T) {
	for name, domain := range map[string]string{"of one domain": "example.com", "of many domains": "d%d.example"} {
		t.Run(name, func(t *testing.T) {
			var list []string
			for i := range 10000 {
				list = append(list, fmt.Sprintf("a%d@", i)+strings.ReplaceAll(domain, "%d", fmt.Sprint(i)))
			}
			m := parseMessage(t, "From: "+strings.Join(list, ",\r\n ")+"\r\n\r\n")
			zone := &fakeDNS{}
			res, err := CheckDMARC(context.Background(), zone, DMARCInput{Header: m.Header})
			if err != nil || res.Result != "none" || len(zone.queries) > maxAuthorDomains+1 {
				t.Errorf("%s, %v, %d queries", res.Result, err, len(zone.queries))
			}
		})
	}
}

func TestDMARCFindings(t *testing.T) {
	cfg := defaultDMARCConfig()
	cfg.Honor = DMARCHonor{dmarcReject, dmarcQuarantine}
	for _, tt := range []struct {
		policy dmarcPolicy
		honor  DMARCHonor
		want   Action
	}{
		{policy: dmarcReject, honor: cfg.Honor, want: Reject},
		{policy: dmarcQuarantine, honor: cfg.Honor, want: Quarantine},
		{policy: dmarcNone, honor: cfg.Honor, want: NoAction},
		{policy: dmarcQuarantine, honor: DMARCHonor{dmarcReject}, want: NoAction}, // not configured
		{policy: dmarcReject, want: NoAction},
	} {
		cfg.Honor = tt.honor
		c := newDMARC(cfg, nil, &fakeDNS{})
		findings := c.findings(&DMARCResult{Result: "fail", Domain: "example.com", PolicyDomain: "example.com", Policy: tt.policy, Published: tt.policy}, nil)
		if findings[0].Symbol != "dmarc.fail" || findings[0].Force != tt.want || (findings[0].Reply != "") != (tt.want != NoAction) {
			t.Errorf("%s, honor %v: %+v", tt.policy, tt.honor, findings[0])
		}
		if findings[1].Symbol != "dmarc.policy_"+string(tt.policy) || findings[1].Force != NoAction {
			t.Errorf("%s: %+v", tt.policy, findings[1])
		}
	}
}

// FuzzDMARCRecord reads any record without harm, and never makes a policy of one that has none.
func FuzzDMARCRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; np=quarantine; psd=y; t=y; adkim=s; aspf=s; rua=mailto:a@b.example,https://x/")
	f.Add("v=DMARC1;;;p==;=")
	f.Add("v = DMARC1")
	f.Fuzz(func(t *testing.T, txt string) {
		rec := parseDMARC(txt)
		if rec == nil {
			return
		}
		usable, ok := rec.usable()
		if p := usable.policyFor(true, false); ok && !knownOrAbsent(p) || ok && p == "" {
			t.Errorf("%q: policy %q", txt, p)
		}
	})
}

func BenchmarkDMARC(b *testing.B) {
	m := parseMessage(b, "From: Joe <a@news.example.com>\r\n\r\n")
	in := DMARCInput{Header: m.Header, SPF: &SPFResult{Result: "pass", Domain: "bounce.example.com"}}
	zone := &fakeDNS{txt: map[string][]string{"_dmarc.example.com": {"v=DMARC1; p=reject; sp=quarantine; rua=mailto:a@example.com"}}}
	b.ReportAllocs()
	for b.Loop() {
		zone.queries = zone.queries[:0]
		if res, err := CheckDMARC(context.Background(), zone, in); err != nil || res.Result != "pass" {
			b.Fatal(err)
		}
	}
}
