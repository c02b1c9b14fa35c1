package filters

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/filters/dns"
)

// HeloConfig is the configuration of the HELO check.
type HeloConfig struct {
	Resolve bool   `yaml:"resolve"` // look the name up
	Scores  Scores `yaml:"scores"`
}

func defaultHeloConfig() HeloConfig {
	return HeloConfig{
		Resolve: true,
		Scores: Scores{
			"ok":           0,
			"bad":          200, // no host name and no address literal
			"own":          300, // our own name or address
			"bare_address": 200, // an address without brackets
			"literal":      50,  // an address literal: right, but not of a mail server
			"not_client":   150, // an address literal of another address than the client's
			"single_label": 100, // "localhost", "PC-7"
			"unresolvable": 100,
			"early_talk":   200, // of the client, not of its name: it spoke before it was greeted
			"temperror":    0,
		},
	}
}

// HeloResult says what is wrong with a HELO name.
type HeloResult struct {
	Problems []string // suffixes of symbols, none for a good name
	Name     string   // the host name, lower case; "" for a literal and for what is no name
}

// HeloKey is the fact of the HELO check.
var HeloKey = Key[*HeloResult]{Check: "helo"}

// CheckHelo judges the argument of HELO or EHLO: a fully qualified domain name that resolves, or an address literal
// (RFC 5321 sections 2.3.5, 4.1.1.1 and 4.1.3). ownName and ownIP are ours. A nil resolver looks nothing up.
//
// RFC 5321 section 4.1.4 forbids to refuse mail for a HELO name that does not fit the address, so nothing here refuses.
func CheckHelo(ctx context.Context, r dns.Lookuper, helo string, client netip.Addr, ownName string, ownIP netip.Addr) (*HeloResult, error) {
	if strings.HasPrefix(helo, "[") {
		return checkHeloLiteral(helo, client, ownIP), nil
	}
	if ip, err := netip.ParseAddr(helo); err == nil {
		problems := []string{"bare_address"}
		if ip.Unmap() == ownIP && ip.Unmap() != client {
			problems = append(problems, "own")
		}
		return &HeloResult{Problems: problems}, nil
	}
	// Underscores are no letters of a host name, but Windows machines have them; they are let through.
	name, ok := asciiDomain(helo)
	if !ok || strings.HasSuffix(helo, ".") && !strings.Contains(name, ".") {
		return &HeloResult{Problems: []string{"bad"}}, nil
	}
	own, ownOK := asciiDomain(ownName)
	switch {
	case ownOK && name == own && client != ownIP && !client.IsLoopback():
		return &HeloResult{Problems: []string{"own"}, Name: name}, nil
	case !strings.Contains(name, "."):
		return &HeloResult{Problems: []string{"single_label"}, Name: name}, nil
	case isAllDigits(name[strings.LastIndexByte(name, '.')+1:]): // no top-level domain is a number
		return &HeloResult{Problems: []string{"bad"}}, nil
	case r == nil:
		return &HeloResult{Name: name}, nil
	}
	return resolveHelo(ctx, r, name)
}

// resolveHelo asks whether the name has an address, or at least an MX.
func resolveHelo(ctx context.Context, r dns.Lookuper, name string) (*HeloResult, error) {
	_, err := dns.Addrs(ctx, r, name)
	if dns.IsVoid(err) {
		_, err = r.MX(ctx, name)
	}
	switch {
	case dns.IsVoid(err):
		return &HeloResult{Problems: []string{"unresolvable"}, Name: name}, nil
	case err != nil:
		return &HeloResult{Problems: []string{"temperror"}, Name: name}, fmt.Errorf("address of HELO name %s: %w", name, err)
	}
	return &HeloResult{Name: name}, nil
}

// checkHeloLiteral judges "[192.0.2.7]" and "[IPv6:2001:db8::7]" (RFC 5321 section 4.1.3).
func checkHeloLiteral(helo string, client, ownIP netip.Addr) *HeloResult {
	ip, ok := parseAddressLiteral(helo)
	switch {
	case !ok:
		return &HeloResult{Problems: []string{"bad"}}
	case ip == client:
		return &HeloResult{Problems: []string{"literal"}}
	case ip == ownIP:
		return &HeloResult{Problems: []string{"literal", "own"}}
	}
	return &HeloResult{Problems: []string{"literal", "not_client"}}
}

// parseAddressLiteral reads an address literal. IPv4-mapped addresses are unmapped.
func parseAddressLiteral(s string) (netip.Addr, bool) {
	inner, open := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if !open || !closed {
		return netip.Addr{}, false
	}
	six := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if six {
		inner = inner[5:]
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || ip.Zone() != "" || ip.Is4() == six {
		return netip.Addr{}, false
	}
	return ip.Unmap(), true
}

func isAllDigits(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return !isDigit(c) })
}

// heloCheck judges the name that the client gives itself.
type heloCheck struct {
	cfg HeloConfig
	r   dns.Lookuper
}

var (
	_ Symboler    = (*heloCheck)(nil)
	_ SenderJudge = (*heloCheck)(nil)
)

func newHelo(cfg HeloConfig, r dns.Lookuper) *heloCheck {
	if !cfg.Resolve {
		r = nil
	}
	return &heloCheck{cfg: cfg, r: r}
}

func (c *heloCheck) Name() string    { return "helo" }
func (c *heloCheck) Scope() Scope    { return PerHelo }
func (c *heloCheck) Needs() []string { return nil }
func (c *heloCheck) JudgesSender()   {}

func (c *heloCheck) Symbols() []string { return c.cfg.Scores.symbols("helo") }

func (c *heloCheck) Run(ctx context.Context, in Input) Report {
	if in.Helo.Name == "" {
		return Report{}
	}
	res, err := CheckHelo(ctx, c.r, in.Helo.Name, in.Client.IP, in.Client.OwnName, in.Client.OwnIP)
	report := Report{Fact: res, Err: err}
	for _, p := range res.Problems {
		report.Findings = append(report.Findings, c.cfg.Scores.finding("helo", p, in.Helo.Name))
	}
	if in.Client.EarlyTalk {
		report.Findings = append(report.Findings, c.cfg.Scores.finding("helo", "early_talk", "before the banner"))
	}
	if len(res.Problems) == 0 {
		report.Findings = append(report.Findings, c.cfg.Scores.finding("helo", "ok", in.Helo.Name))
	}
	return report
}
