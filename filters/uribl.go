package filters

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"postern/filters/message"
)

const (
	maxURIDomains = 20  // domains of links that lists are asked about
	maxURILookups = 160 // of one message, at all lists
)

// uriblCheck asks lists about the domains that a message links to (RFC 5782 section 2.3): of each link's host the
// organizational domain, which is what such lists have, and of a host that is an address, at the lists that have
// addresses, the address. A domain that a list was asked about as one that stands for the sender counts there, not here.
type uriblCheck struct {
	dnsblAsker
	skip DomainNames
}

var (
	_ Symboler   = (*uriblCheck)(nil)
	_ SelfTester = (*uriblCheck)(nil)
	_ ListUser   = (*uriblCheck)(nil)
)

func newURIBL(cfg DNSBLConfig, all *dnsblLists) *uriblCheck {
	c := &uriblCheck{skip: cfg.Skip, dnsblAsker: dnsblAsker{r: all.r, log: all.log}}
	for _, l := range all.domains {
		if slices.Contains(l.cfg.Of, dnsblURI) {
			c.lists = append(c.lists, l)
		}
	}
	return c
}

func (c *uriblCheck) Name() string { return "uribl" }
func (c *uriblCheck) Scope() Scope { return PerMessage }

// Needs names those that find the domains that stand for the sender.
func (c *uriblCheck) Needs() []string { return []string{"iprev", "dkim"} }

// MayRefuse is false: what is in a message is known when it has come.
func (c *uriblCheck) MayRefuse() bool { return false }

func (c *uriblCheck) symbol(l *dnsblList) string { return l.symbol() + "." + string(dnsblURI) }

// Symbols names each list, and its failure.
func (c *uriblCheck) Symbols() []string { return c.symbols(c.symbol) }

// Run asks all lists about all domains at once. Only then it awaits what else stands for the sender, so that a slow
// look-up of a DKIM key costs no time here.
func (c *uriblCheck) Run(ctx context.Context, in Input) Report {
	hosts := linkedHosts(in.Message.Links(), c.skip)
	names := make([][]string, len(c.lists))
	left := maxURILookups
	for i, l := range c.lists {
		for _, h := range hosts {
			if left == 0 || h.ip.IsValid() && !l.cfg.IPs || l.tooLong(h.entry) {
				continue
			}
			names[i] = append(names[i], h.entry)
			left--
		}
	}
	var report Report
	fact := &DNSBLResult{}
	for i, answers := range c.askAbout(ctx, names, in.Now) {
		if slices.ContainsFunc(answers, func(a DNSBLAnswer) bool { return len(a.Codes) > 0 }) {
			earlier := c.lists[i].askedBefore(ctx, dnsblURI, in)
			answers = slices.DeleteFunc(answers, func(a DNSBLAnswer) bool { return slices.Contains(earlier, a.Entry) })
		}
		for j := range answers {
			if k := slices.IndexFunc(hosts, func(h linkedHost) bool { return h.entry == answers[j].Entry }); hosts[k].ip.IsValid() {
				answers[j].Entry = hosts[k].ip.String()
			}
		}
		fact.Answers = append(fact.Answers, answers...)
		c.lists[i].judge(&report, c.symbol(c.lists[i]), answers, false)
	}
	report.Fact = fact
	return report
}

// linkedHost is what lists are asked about.
type linkedHost struct {
	entry string     // a domain, or an address as [dnsblEntry] writes it
	ip    netip.Addr // that address; the zero value for a domain
}

// linkRank orders links by how likely a reader is to follow them.
var linkRank = map[string]int{"html": 0, "text": 1, "resource": 3}

// linkedHosts gives what links lead to, each once: what readers are to follow first, pictures last. Of too many it takes
// the first half and the last, so that a row of good names in front hides nothing.
func linkedHosts(links []message.Link, skip DomainNames) []linkedHost {
	type ranked struct {
		host linkedHost
		rank int
	}
	var found []ranked
	seen := make(map[string]int)
	for i := range links {
		host, ok := hostToAsk(&links[i], skip)
		if !ok {
			continue
		}
		rank, known := linkRank[links[i].Source]
		if !known {
			rank = 2
		}
		if at, again := seen[host.entry]; again {
			found[at].rank = min(found[at].rank, rank)
			continue
		}
		seen[host.entry] = len(found)
		found = append(found, ranked{host: host, rank: rank})
	}
	slices.SortStableFunc(found, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	if len(found) > maxURIDomains {
		found = slices.Concat(found[:maxURIDomains/2], found[len(found)-maxURIDomains/2:])
	}
	hosts := make([]linkedHost, len(found))
	for i, f := range found {
		hosts[i] = f.host
	}
	return hosts
}

// hostToAsk gives what a list is asked about a link; false for one that leads to no host, or to one that is skipped.
func hostToAsk(link *message.Link, skip DomainNames) (linkedHost, bool) {
	switch link.Scheme {
	case "http", "https", "ftp":
	default:
		return linkedHost{}, false
	}
	if ip, err := netip.ParseAddr(link.Host); err == nil {
		return linkedHost{entry: dnsblEntry(ip), ip: ip}, true
	}
	if link.OrgDomain == "" || skip.above(link.Host) != "" {
		return linkedHost{}, false
	}
	return linkedHost{entry: link.OrgDomain}, true
}
