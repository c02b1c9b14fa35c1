package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/filters/dns"
)

// IprevConfig is the configuration of the reverse DNS check.
type IprevConfig struct {
	Scores Scores `yaml:"scores"`
}

func defaultIprevConfig() IprevConfig {
	return IprevConfig{Scores: Scores{
		"pass":      0,
		"fail":      50,
		"permerror": 100, // no name at all: hardly any real mail server lacks one
		"temperror": 0,
		"generic":   100, // a name made of the address, as dial-up pools have
	}}
}

// IprevResult is the outcome of the reverse DNS check (RFC 8601 section 2.7.3).
type IprevResult struct {
	Result  string   // "pass", "fail" (no name of the address leads back to it), "permerror" (it has no name), "temperror"
	Name    string   // the confirmed name, lower case, without the final dot; "" unless Result is "pass"
	Names   []string // what the reverse zone says, confirmed or not
	Generic bool     // the name looks like one of a pool: made of the address
	Reason  string
}

// IprevKey is the fact of the reverse DNS check.
var IprevKey = Key[*IprevResult]{Check: "iprev"}

// maxPTRNames bounds the names that are looked up, as RFC 7208 section 4.6.4 does for SPF.
const maxPTRNames = 10

// CheckIprev looks up the names of ip and confirms them: a name counts only if it resolves to ip, because whoever
// holds the address writes what they like into its reverse zone.
func CheckIprev(ctx context.Context, r dns.Lookuper, ip netip.Addr) (*IprevResult, error) {
	names, err := r.PTR(ctx, ip)
	switch {
	case dns.IsVoid(err):
		return &IprevResult{Result: "permerror", Reason: "the address has no name"}, nil
	case err != nil:
		return &IprevResult{Result: "temperror", Reason: "the look-up of its name failed"}, fmt.Errorf("name of %s: %w", ip, err)
	}
	res := &IprevResult{Names: names[:min(len(names), maxPTRNames)]}
	var failed error
	for _, name := range res.Names {
		host, ok := asciiDomain(name)
		if !ok {
			continue
		}
		switch addrs, err := addressesLike(ctx, r, host, ip); {
		case slices.Contains(addrs, ip):
			res.Result, res.Name = "pass", host
			res.Generic = isGenericName(host, ip)
			return res, nil
		case dns.IsTemporary(err):
			failed = errors.Join(failed, fmt.Errorf("address of %s: %w", host, err))
		}
	}
	if failed != nil {
		res.Result, res.Reason = "temperror", "the look-up of its name's address failed"
		return res, failed
	}
	res.Result, res.Reason = "fail", "its name does not lead back to it"
	res.Generic = len(res.Names) > 0 && isGenericName(strings.ToLower(res.Names[0]), ip)
	return res, nil
}

// addressesLike looks up the addresses of name that are of ip's family.
func addressesLike(ctx context.Context, r dns.Lookuper, name string, ip netip.Addr) ([]netip.Addr, error) {
	if ip.Is4() {
		return r.A(ctx, name)
	}
	return r.AAAA(ctx, name)
}

// genericWords stand in the names of pools of addresses that are handed out to customers. Mail servers have names of their own.
var genericWords = []string{
	"adsl", "broadband", "cable", "client", "cpe", "cust", "customer", "dhcp", "dial", "dialup", "dip", "dsl", "dyn",
	"dynamic", "fiber", "ftth", "gprs", "home", "mobile", "pool", "pppoe", "residential", "unassigned", "unknown",
	"user", "vdsl", "wifi", "wireless",
}

// isGenericName reports whether a name looks like that of a pool: it spells at least two octets of its address (or
// the whole of it in hexadecimal), or a word for pools stands beside a number.
func isGenericName(name string, ip netip.Addr) bool {
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' || r == '_' })
	if len(words) > 2 {
		words = words[:len(words)-2] // the registered domain is the operator's, not the host's
	}
	if spellsAddress(words, ip) {
		return true
	}
	number, pool := false, false
	for _, w := range words {
		stem := strings.Trim(w, "0123456789")
		number = number || len(stem) < len(w)
		pool = pool || slices.Contains(genericWords, stem)
	}
	return number && pool
}

// spellsAddress reports whether two or more neighbouring words are octets of ip in either order, or one word has all
// of it in hexadecimal or in decimal with leading zeros.
func spellsAddress(words []string, ip netip.Addr) bool {
	if !ip.Is4() {
		hex := strings.ReplaceAll(ip.StringExpanded(), ":", "")
		return strings.Contains(strings.Join(words, ""), hex[16:])
	}
	o := ip.As4()
	decimal := make([]string, len(o))
	for i, b := range o {
		decimal[i] = fmt.Sprint(b)
	}
	if joined := strings.Join(words, " "); strings.Contains(joined, fmt.Sprintf("%02x%02x%02x%02x", o[0], o[1], o[2], o[3])) ||
		strings.Contains(joined, fmt.Sprintf("%03d%03d%03d%03d", o[0], o[1], o[2], o[3])) {
		return true
	}
	reversed := slices.Clone(decimal)
	slices.Reverse(reversed)
	return longestCommonRun(words, decimal) >= 3 || longestCommonRun(words, reversed) >= 3 ||
		hasTail(words, decimal[2:]) || hasTail(words, []string{decimal[3], decimal[2]})
}

// longestCommonRun counts how many words at most stand in both lists in the same order without a gap.
func longestCommonRun(words, octets []string) int {
	longest := 0
	for i := range words {
		for j := range octets {
			n := 0
			for i+n < len(words) && j+n < len(octets) && trimLetters(words[i+n]) == octets[j+n] {
				n++
			}
			longest = max(longest, n)
		}
	}
	return longest
}

// hasTail reports whether two octets stand side by side and a word for pools with them: "pool-7-2".
func hasTail(words, octets []string) bool {
	return longestCommonRun(words, octets) == len(octets) &&
		slices.ContainsFunc(words, func(w string) bool { return slices.Contains(genericWords, strings.Trim(w, "0123456789")) })
}

// trimLetters turns "host192" into "192" and "002" into "2".
func trimLetters(w string) string {
	digits := strings.TrimFunc(w, func(r rune) bool { return r < '0' || r > '9' })
	if short := strings.TrimLeft(digits, "0"); short != "" || digits == "" {
		return short
	}
	return "0"
}

// iprevCheck is forward-confirmed reverse DNS.
type iprevCheck struct {
	cfg IprevConfig
	r   dns.Lookuper
}

var _ Symboler = (*iprevCheck)(nil)

func newIprev(cfg IprevConfig, r dns.Lookuper) *iprevCheck { return &iprevCheck{cfg: cfg, r: r} }

func (c *iprevCheck) Name() string    { return "iprev" }
func (c *iprevCheck) Scope() Scope    { return PerClient }
func (c *iprevCheck) Needs() []string { return nil }

// Symbols names what Run finds. "generic" is about the name, not about its confirmation, and so is "rdns.generic".
func (c *iprevCheck) Symbols() []string {
	names := c.cfg.Scores.symbols("iprev")
	return append(slices.DeleteFunc(names, func(s string) bool { return s == "iprev.generic" }), "rdns.generic")
}

func (c *iprevCheck) Run(ctx context.Context, in Input) Report {
	if !in.Client.IP.IsValid() {
		return Report{}
	}
	res, err := CheckIprev(ctx, c.r, in.Client.IP)
	report := Report{
		Fact: res,
		Err:  err,
		Auth: []AuthResult{{
			Method: "iprev", Result: res.Result, Reason: res.Reason,
			Props: []Prop{{Type: "policy", Name: "iprev", Value: in.Client.IP.String()}},
		}},
	}
	detail := in.Client.IP.String() + ": " + res.Reason
	if res.Name != "" {
		detail = in.Client.IP.String() + " is " + res.Name
	}
	scores := c.cfg.Scores
	if in.Client.Trusted {
		scores = nil // told, not held against our own
	}
	report.Findings = append(report.Findings, scores.finding("iprev", res.Result, detail))
	if res.Generic {
		report.Findings = append(report.Findings, scores.finding("rdns", "generic", res.Names[0]))
	}
	return report
}
