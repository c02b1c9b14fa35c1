package filters

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/message"
)

// maxDNSBLNames bounds the look-ups of one check: a sender chooses how many domains sign.
const maxDNSBLNames = 60

// dnsblWords say in a sender's words what of his is listed.
var dnsblWords = map[DNSBLIdentity]string{
	dnsblClient: "your server's address",
	dnsblRDNS:   "your server's host name",
	dnsblHelo:   "the name that your server introduced itself with",
	dnsblMail:   "the domain of the sender's address",
	dnsblFrom:   "the domain in the From field",
	dnsblDKIM:   "a domain that signed the message",
	dnsblURI:    "a domain that the message links to",
}

// dnsblDomainCheck asks lists about domains of one kind: each name, and the organizational domain that it lies below
// (some lists know only those). A name that a list was asked about as a domain of an earlier kind is not asked again, so
// one listed domain counts once, whatever it appears as.
type dnsblDomainCheck struct {
	dnsblAsker
	of DNSBLIdentity
}

var (
	_ Symboler    = (*dnsblDomainCheck)(nil)
	_ SelfTester  = (*dnsblDomainCheck)(nil)
	_ SenderJudge = (*dnsblDomainCheck)(nil)
	_ ListUser    = (*dnsblDomainCheck)(nil)
)

func newDNSBLDomain(all *dnsblLists, of DNSBLIdentity) *dnsblDomainCheck {
	c := &dnsblDomainCheck{of: of, dnsblAsker: dnsblAsker{r: all.r, log: all.log}}
	for _, l := range all.domains {
		if slices.Contains(l.cfg.Of, of) {
			c.lists = append(c.lists, l)
		}
	}
	return c
}

func (c *dnsblDomainCheck) Name() string { return "dnsbl." + string(c.of) }

// JudgesSender marks the check as one that trusted clients are spared.
func (c *dnsblDomainCheck) JudgesSender() {}

// Scope is that of the domain.
func (c *dnsblDomainCheck) Scope() Scope {
	switch c.of {
	case dnsblRDNS:
		return PerClient
	case dnsblHelo:
		return PerHelo
	case dnsblMail:
		return PerMail
	}
	return PerMessage
}

// Needs names those that find the domains of this kind and of earlier ones.
func (c *dnsblDomainCheck) Needs() []string {
	if c.of == dnsblDKIM {
		return []string{"iprev", "dkim"}
	}
	return []string{"iprev"}
}

// MayRefuse reports whether a list asks for a refusal before DATA.
func (c *dnsblDomainCheck) MayRefuse() bool {
	return c.Scope() < PerMessage && c.dnsblAsker.MayRefuse()
}

func (c *dnsblDomainCheck) symbol(l *dnsblList) string { return l.symbol() + "." + string(c.of) }

// Symbols names each list with what it is asked about, and its failure.
func (c *dnsblDomainCheck) Symbols() []string { return c.symbols(c.symbol) }

// Run asks all lists about all names at once.
func (c *dnsblDomainCheck) Run(ctx context.Context, in Input) Report {
	own, err := domainsOf(ctx, c.of, in)
	names := make([][]string, len(c.lists))
	left := maxDNSBLNames
	for i, l := range c.lists {
		names[i] = l.fresh(ctx, c.of, own, in)
		names[i] = names[i][:min(len(names[i]), left)]
		left -= len(names[i])
	}
	report := Report{Err: err}
	fact := &DNSBLResult{}
	for i, answers := range c.askAbout(ctx, names, in.Now) {
		fact.Answers = append(fact.Answers, answers...)
		c.lists[i].judge(&report, c.symbol(c.lists[i]), answers, c.Scope() < PerMessage)
	}
	report.Fact = fact
	return report
}

// askAbout asks each list about its names, all at once. The answers stand as the names do.
func (a *dnsblAsker) askAbout(ctx context.Context, names [][]string, now time.Time) [][]DNSBLAnswer {
	answers := make([][]DNSBLAnswer, len(a.lists))
	var wg sync.WaitGroup
	for i, l := range a.lists {
		answers[i] = make([]DNSBLAnswer, len(names[i]))
		for j, name := range names[i] {
			wg.Go(func() { answers[i][j] = l.ask(ctx, a.r, name, now, a.log) })
		}
	}
	wg.Wait()
	return answers
}

// judge makes one finding, named symbol, of what the list says about all names. early says that a refusal before DATA is
// still possible.
func (l *dnsblList) judge(report *Report, symbol string, answers []DNSBLAnswer, early bool) {
	var codes []netip.Addr
	var details []string
	trouble := ""
	for _, a := range answers {
		switch {
		case a.Err != nil:
			report.Err = errors.Join(report.Err, a.Err)
			trouble = "the look-up failed"
		case a.Parked != "":
			trouble = a.Parked
		case len(a.Codes) > 0:
			codes = append(codes, a.Codes...)
			details = append(details, a.Entry+": "+a.codes())
		}
	}
	if len(codes) > 0 {
		report.Findings = append(report.Findings, Finding{
			Symbol: symbol, Score: l.cfg.score(codes), Detail: strings.Join(details, "; "), Refuse: l.cfg.Refuse && early,
		})
	}
	if trouble != "" {
		report.Findings = append(report.Findings, Finding{Symbol: symbol + ".error", Detail: trouble})
	}
}

// fresh leaves out the names, domains of one kind, that the list is asked about as domains of an earlier kind, and those
// too long to be in it.
func (l *dnsblList) fresh(ctx context.Context, kind DNSBLIdentity, names []string, in Input) []string {
	asked := l.askedBefore(ctx, kind, in)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(asked, name) || l.tooLong(name)
	})
}

// askedBefore are the domains of kinds before this one that the list is asked about.
func (l *dnsblList) askedBefore(ctx context.Context, kind DNSBLIdentity, in Input) []string {
	var asked []string
	for _, of := range dnsblIdentities[1:slices.Index(dnsblIdentities, kind)] {
		if slices.Contains(l.cfg.Of, of) {
			earlier, _ := domainsOf(ctx, of, in) // that check tells of its failure itself
			asked = append(asked, earlier...)
		}
	}
	return asked
}

// tooLong reports whether a name can't be in the list.
func (l *dnsblList) tooLong(name string) bool { return len(name)+1+len(l.cfg.Zone) > maxDomainName }

// domainsOf gives the domains of one kind that are known, each followed by its organizational domain where that is
// another. The error says that there may be one that could not be found out.
func domainsOf(ctx context.Context, of DNSBLIdentity, in Input) ([]string, error) {
	var names []string
	switch of {
	case dnsblRDNS:
		res, err := awaitOptional(ctx, in.Facts, IprevKey)
		if err != nil {
			return nil, err
		}
		if res != nil && res.Result == "temperror" {
			return nil, errors.New("the client's name is not known for now")
		}
		if res != nil {
			names = append(names, res.Name)
		}
	case dnsblHelo:
		if in.Helo != nil {
			names = append(names, in.Helo.Name)
		}
	case dnsblMail:
		if in.Mail != nil {
			names = append(names, in.Mail.From.Domain)
		}
	case dnsblFrom:
		names = append(names, authorDomain(in.Message.Header).domain)
	case dnsblDKIM:
		res, err := awaitOptional(ctx, in.Facts, DKIMKey)
		if err != nil {
			return nil, err
		}
		if res != nil {
			for _, s := range res.Passed() {
				names = append(names, s.Domain)
			}
		}
	}
	return withOrgDomains(names), nil
}

// withOrgDomains keeps what can be a domain in a list, and adds organizational domains. None stands there twice.
func withOrgDomains(names []string) []string {
	var list []string
	add := func(name string) {
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, name := range names {
		ascii, ok := asciiDomain(name)
		if !ok || parentDomain(ascii) == "" || isAllDigits(ascii[strings.LastIndexByte(ascii, '.')+1:]) {
			continue // a single label, or an address
		}
		add(ascii)
		if org := message.OrgDomain(ascii); org != "" {
			add(org)
		}
	}
	return list
}
