package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// DMARCOverrides are local reasons not to hold a DMARC failure against a message: mail that was authenticated once and
// lost that on the way, or whose way is known (RFC 9989 leaves both to the receiver).
type DMARCOverrides struct {
	Networks []netip.Prefix `yaml:"networks"` // forwarders, by the client's address
	Hosts    DomainNames    `yaml:"hosts"`    // forwarders, by the client's confirmed name, or one above it
	Lists    DomainNames    `yaml:"lists"`    // mailing lists that sign what they send as one of these domains, or one below
	Domains  DomainNames    `yaml:"domains"`  // whose mail is let through once SPF or DKIM authenticates it as from there or below
}

// A dmarcOverride is one such reason.
type dmarcOverride struct {
	kind   string // the last part of its symbol: "arc", "forwarder", "list", "domain"
	detail string
}

// The kinds of overrides, in the order in which they are tried.
var dmarcOverrideKinds = []string{"forwarder", "domain", "list", "arc"}

// dmarcEvidence is what overrides are decided on. What a check did not find out is nil.
type dmarcEvidence struct {
	iprev *IprevResult
	spf   *SPFResult
	dkim  *DKIMResult
	arc   *ARCResult
}

// override looks for a reason to let a failure of the author domain pass; nil for none.
func (c *dmarcCheck) override(in Input, res *DMARCResult, seen dmarcEvidence) *dmarcOverride {
	o := c.cfg.Overrides
	for _, n := range o.Networks {
		if in.Client.IP.IsValid() && n.Contains(in.Client.IP) {
			return &dmarcOverride{kind: "forwarder", detail: fmt.Sprintf("%s is in %s", in.Client.IP, n)}
		}
	}
	if seen.iprev != nil && seen.iprev.Name != "" {
		if host := o.Hosts.above(seen.iprev.Name); host != "" {
			return &dmarcOverride{kind: "forwarder", detail: fmt.Sprintf("%s is %s", in.Client.IP, seen.iprev.Name)}
		}
	}
	if seen.spf != nil && seen.spf.Result == "pass" && o.Domains.above(seen.spf.Domain) != "" {
		return &dmarcOverride{kind: "domain", detail: "SPF authenticated " + seen.spf.Domain}
	}
	if seen.dkim != nil {
		for _, s := range seen.dkim.Passed() {
			switch {
			case o.Domains.above(s.Domain) != "":
				return &dmarcOverride{kind: "domain", detail: "DKIM authenticated " + s.Domain}
			case o.Lists.above(s.Domain) != "" && sentByList(in, s.Domain):
				return &dmarcOverride{kind: "list", detail: "sent and signed by the list " + s.Domain}
			}
		}
	}
	if how := seen.arc.vouches(in.Message.Header, res.Domain, c.sealers); how != "" {
		return &dmarcOverride{kind: "arc", detail: how}
	}
	return nil
}

// sentByList reports whether a message is a mailing list's in the name of its signing domain: it has List-Id
// (RFC 2919), and bounces go to that domain, or one above or below it.
func sentByList(in Input, signer string) bool {
	if _, ok := in.Message.Header.First("List-Id"); !ok || in.Mail == nil {
		return false
	}
	bounces, ok := asciiDomain(in.Mail.From.Domain)
	return ok && (isSubdomain(bounces, signer) || isSubdomain(signer, bounces) && strings.Contains(bounces, "."))
}

// evidence awaits what overrides are decided on, but for SPF and DKIM, which DMARC has awaited before. What is missing
// overrides nothing. The error is a chain that the key of a trusted sealer could not be had for: it might have.
func (c *dmarcCheck) evidence(ctx context.Context, f *Facts, spf *SPFResult, dkim *DKIMResult) (dmarcEvidence, error) {
	seen := dmarcEvidence{spf: spf, dkim: dkim}
	if len(c.cfg.Overrides.Hosts) > 0 {
		seen.iprev, _ = Await(ctx, f, IprevKey)
	}
	if len(c.sealers) == 0 {
		return seen, nil
	}
	seen.arc, _ = Await(ctx, f, ARCKey)
	if a := seen.arc; a != nil && a.Result == "temperror" && len(a.Sets) > 0 && c.sealers.hold(a.Sets[len(a.Sets)-1].Sealer) {
		return seen, errors.New("the ARC chain of a trusted sealer has no result for now")
	}
	return seen, nil
}
