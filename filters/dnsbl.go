package filters

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
)

// DNSBLResult is what the lists say about the client's address, or about the names that one check asks for.
type DNSBLResult struct {
	Answers []DNSBLAnswer // in the order of the configuration, and of the names
}

// DNSBLAnswer is what one list says about one entry.
type DNSBLAnswer struct {
	Zone   string
	Entry  string       // what stands before the zone in the query; of a link to an address, the address
	Codes  []netip.Addr // the answers that count, none if the entry is not listed
	Score  Score
	Parked string // why the list is not believed for now; "" for nothing
	Err    error  // the look-up failed
	Took   time.Duration

	untested bool // Err says that the list could not be tested
}

// DNSBLKey is the fact of the check of the client's address.
var DNSBLKey = Key[*DNSBLResult]{Check: "dnsbl.client"}

// dnsblLists are the configured lists at work. The checks of domains share them, so that a list is tested and parked once.
type dnsblLists struct {
	addresses []*dnsblList
	domains   []*dnsblList
	r         dns.Lookuper
	log       *slog.Logger
}

func newDNSBLLists(cfg DNSBLConfig, r dns.Lookuper, log *slog.Logger) *dnsblLists {
	all := &dnsblLists{r: r, log: log}
	for _, l := range cfg.Lists {
		l = l.withDefaults()
		if slices.Contains(l.Of, dnsblClient) {
			all.addresses = append(all.addresses, &dnsblList{cfg: l, test: dnsblAddressTest})
		}
		if slices.ContainsFunc(l.Of, func(of DNSBLIdentity) bool { return of != dnsblClient }) {
			all.domains = append(all.domains, &dnsblList{cfg: l, test: dnsblDomainTest})
		}
	}
	return all
}

// dnsblAsker is what the checks that ask lists have in common.
type dnsblAsker struct {
	lists []*dnsblList
	r     dns.Lookuper
	log   *slog.Logger
}

// MayRefuse reports whether a list asks for a refusal before DATA.
func (a *dnsblAsker) MayRefuse() bool {
	return slices.ContainsFunc(a.lists, func(l *dnsblList) bool { return l.cfg.Refuse })
}

// SelfTest tests the lists that are due for it.
func (a *dnsblAsker) SelfTest(ctx context.Context, now time.Time) {
	testLists(ctx, a.lists, a.r, now, a.log)
}

// ListStates gives, for each zone, why it is parked; "" if it is not.
func (a *dnsblAsker) ListStates(now time.Time) map[string]string {
	states := make(map[string]string, len(a.lists))
	for _, l := range a.lists {
		states[l.cfg.Zone] = l.parkedFor(now)
	}
	return states
}

// symbols names each list as symbol does, and its failure.
func (a *dnsblAsker) symbols(symbol func(*dnsblList) string) []string {
	var names []string
	for _, l := range a.lists {
		names = append(names, symbol(l), symbol(l)+".error")
	}
	return names
}

// dnsblCheck asks lists about the client's address.
type dnsblCheck struct{ dnsblAsker }

var (
	_ Symboler    = (*dnsblCheck)(nil)
	_ SelfTester  = (*dnsblCheck)(nil)
	_ SenderJudge = (*dnsblCheck)(nil)
	_ ListUser    = (*dnsblCheck)(nil)
)

func newDNSBL(all *dnsblLists) *dnsblCheck {
	return &dnsblCheck{dnsblAsker: dnsblAsker{lists: all.addresses, r: all.r, log: all.log}}
}

func (c *dnsblCheck) Name() string    { return "dnsbl.client" }
func (c *dnsblCheck) Scope() Scope    { return PerClient }
func (c *dnsblCheck) Needs() []string { return nil }

// JudgesSender marks the check as one that trusted clients are spared.
func (c *dnsblCheck) JudgesSender() {}

// Symbols names each list, and its failure.
func (c *dnsblCheck) Symbols() []string { return c.symbols((*dnsblList).symbol) }

func (l *dnsblList) symbol() string { return "dnsbl." + l.cfg.Zone }

// RefusesAtBanner reports whether a list asks for a refusal before the banner.
func (c *dnsblCheck) RefusesAtBanner() bool {
	return slices.ContainsFunc(c.lists, func(l *dnsblList) bool { return l.cfg.Banner })
}

// Run asks all lists at once. A list that can't be asked is an error, one that is parked is only noted.
func (c *dnsblCheck) Run(ctx context.Context, in Input) Report {
	ip := in.Client.IP
	if !ip.IsValid() || len(c.lists) == 0 {
		return Report{}
	}
	answers := make([]DNSBLAnswer, len(c.lists))
	var wg sync.WaitGroup
	for i, l := range c.lists {
		wg.Go(func() { answers[i] = l.ask(ctx, c.r, dnsblEntry(ip), in.Now, c.log) })
	}
	wg.Wait()
	report := Report{Fact: &DNSBLResult{Answers: answers}}
	for i, a := range answers {
		symbol := c.lists[i].symbol()
		switch {
		case a.Err != nil:
			report.Err = errors.Join(report.Err, a.Err)
			report.Findings = append(report.Findings, Finding{Symbol: symbol + ".error", Detail: "the look-up failed"})
		case a.Parked != "":
			report.Findings = append(report.Findings, Finding{Symbol: symbol + ".error", Detail: a.Parked})
		case len(a.Codes) > 0:
			report.Findings = append(report.Findings, Finding{
				Symbol: symbol, Score: a.Score, Detail: ip.String() + ": " + a.codes(),
				Refuse: c.lists[i].cfg.Refuse, Banner: c.lists[i].cfg.Banner,
			})
		}
	}
	return report
}

// codes are the answers in one line: "127.0.0.2 127.0.0.10".
func (a *DNSBLAnswer) codes() string {
	words := make([]string, len(a.Codes))
	for i, code := range a.Codes {
		words[i] = code.String()
	}
	return strings.Join(words, " ")
}
