package filters

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"postern/filters/dns"
)

// spfScenario is one document of the OpenSPF test suite.
type spfScenario struct {
	Description string                   `yaml:"description"`
	Tests       map[string]spfSuiteCase  `yaml:"tests"`
	Zonedata    map[string][]spfZoneItem `yaml:"zonedata"`
}

type spfSuiteCase struct {
	Helo        string   `yaml:"helo"`
	Host        string   `yaml:"host"`
	MailFrom    string   `yaml:"mailfrom"`
	Result      oneOrAll `yaml:"result"`
	Explanation string   `yaml:"explanation"`
}

// oneOrAll is a string or a list of them.
type oneOrAll []string

func (o *oneOrAll) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*o = oneOrAll{n.Value}
		return nil
	}
	return n.Decode((*[]string)(o))
}

// spfZoneItem is one record: {TXT: text}, {MX: [10, host]}, or the word TIMEOUT.
type spfZoneItem struct {
	kind   string
	values []string
}

func (z *spfZoneItem) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		z.kind = n.Value
		return nil
	}
	z.kind = n.Content[0].Value
	value := n.Content[1]
	if value.Kind == yaml.ScalarNode {
		z.values = []string{value.Value}
		return nil
	}
	for _, v := range value.Content {
		z.values = append(z.values, v.Value)
	}
	return nil
}

// zone turns the data of a scenario into what a resolver would answer.
func (s *spfScenario) zone() *fakeDNS {
	f := &fakeDNS{
		a: map[string][]string{}, aaaa: map[string][]string{}, txt: map[string][]string{},
		mx: map[string][]dns.MX{}, ptr: map[string][]string{}, fail: map[string]bool{}, cname: map[string]string{},
	}
	for name, items := range s.Zonedata {
		name = fakeName(name)
		hasTXT := slices.ContainsFunc(items, func(z spfZoneItem) bool { return z.kind == "TXT" })
		for _, z := range items {
			joined := strings.Join(z.values, "")
			switch z.kind {
			case "TIMEOUT":
				f.fail[name] = true
			case "A":
				f.a[name] = append(f.a[name], joined)
			case "AAAA":
				f.aaaa[name] = append(f.aaaa[name], joined)
			case "TXT":
				if joined != "NONE" {
					f.txt[name] = append(f.txt[name], joined)
				}
			case "SPF":
				if !hasTXT {
					f.txt[name] = append(f.txt[name], joined)
				}
			case "MX":
				f.mx[name] = append(f.mx[name], dns.MX{Host: z.values[1]})
			case "CNAME":
				f.cname[name] = fakeName(joined)
			case "PTR":
				ip := addressOfReverse(name)
				f.ptr[ip] = append(f.ptr[ip], joined)
			}
		}
	}
	return f
}

// addressOfReverse turns a name of in-addr.arpa or ip6.arpa into the address.
func addressOfReverse(name string) string {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		words := strings.Split(rest, ".")
		slices.Reverse(words)
		return strings.Join(words, ".")
	}
	words := strings.Split(strings.TrimSuffix(name, ".ip6.arpa"), ".")
	slices.Reverse(words)
	hex := strings.Join(words, "")
	var groups []string
	for ; len(hex) >= 4; hex = hex[4:] {
		groups = append(groups, hex[:4])
	}
	return netip.MustParseAddr(strings.Join(groups, ":")).String()
}

// TestSPFSuite runs the OpenSPF test suite for RFC 7208, explanations included. No case is skipped.
func TestSPFSuite(t *testing.T) {
	file, err := os.Open("testdata/spf/rfc7208-tests.yml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dec := yaml.NewDecoder(file)
	count := 0
	for {
		var s spfScenario
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for name, c := range s.Tests {
			count++
			t.Run(name, func(t *testing.T) { runSPFCase(t, s.zone(), c) })
		}
	}
	if count != 203 {
		t.Errorf("ran %d cases, the suite has 203", count)
	}
}

func runSPFCase(t *testing.T, zone *fakeDNS, c spfSuiteCase) {
	in := SPFInput{
		IP: netip.MustParseAddr(c.Host).Unmap(), Helo: c.Helo, Receiver: "receiver.example.net", Now: time.Now(),
	}
	if at := strings.LastIndexByte(c.MailFrom, '@'); at >= 0 {
		in.MailFrom = Path{Local: c.MailFrom[:at], Domain: c.MailFrom[at+1:]}
	}
	res, err := CheckSPF(context.Background(), zone, in)
	if !slices.Contains(c.Result, res.Result) {
		t.Errorf("%s for %q from %s: got %s (%s), want %s", c.Host, c.MailFrom, c.Helo, res.Result, res.Reason, c.Result)
	}
	if (err != nil) != (res.Result == "temperror") {
		t.Errorf("result %s with error %v", res.Result, err)
	}
	want := strings.TrimPrefix(c.Explanation, "DEFAULT") // the default is ours to word: none from the domain
	if c.Explanation != "" && res.Explanation != want {
		t.Errorf("explanation %q, want %q", res.Explanation, want)
	}
}
