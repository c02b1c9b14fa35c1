package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
)

// dnsblParking is how long a list that misbehaves is left alone.
const dnsblParking = time.Hour

// DNSBLResult is what the lists say about an address.
type DNSBLResult struct {
	Answers []DNSBLAnswer // in the order of the configuration
}

// DNSBLAnswer is what one list says.
type DNSBLAnswer struct {
	Zone   string
	Codes  []netip.Addr // the answers that count, none if the address is not listed
	Score  Score
	Parked string // why the list is not believed for now; "" for nothing
	Err    error  // the look-up failed
}

// DNSBLKey is the fact of the check of the client's address.
var DNSBLKey = Key[*DNSBLResult]{Check: "dnsbl.client"}

// dnsblName is the name under which a list answers about an address: the octets of an IPv4 address, or the nibbles of
// an IPv6 address, in reverse order before the zone (RFC 5782 sections 2.1 and 2.4).
func dnsblName(ip netip.Addr, zone string) string {
	ip = ip.Unmap()
	var b strings.Builder
	raw := ip.AsSlice()
	for i := len(raw) - 1; i >= 0; i-- {
		if ip.Is4() {
			fmt.Fprintf(&b, "%d.", raw[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", raw[i]&0xf, raw[i]>>4)
		}
	}
	return b.String() + zone
}

var (
	dnsblAnswers = netip.MustParsePrefix("127.0.0.0/8")
	dnsblErrors  = netip.MustParsePrefix("127.255.255.0/24") // Spamhaus: wrong name, public resolver, too many queries
	dnsblWrong   = netip.MustParseAddr("127.0.1.255")        // Spamhaus: an address was asked of a list of domains
)

// misanswer says why an answer means anything but a listing; "" if it may be one.
func misanswer(code netip.Addr) string {
	switch {
	case !dnsblAnswers.Contains(code):
		return fmt.Sprintf("it answers %s, which is outside 127.0.0.0/8: the zone is parked or hijacked", code)
	case dnsblErrors.Contains(code):
		return fmt.Sprintf("it answers %s: it refuses our queries", code)
	case code == dnsblWrong:
		return fmt.Sprintf("it answers %s: it does not list addresses", code)
	}
	return ""
}

// dnsblList is one list at work.
type dnsblList struct {
	cfg DNSBLList

	mu       sync.Mutex
	parked   time.Time // not asked before then
	why      string
	nextTest time.Time
}

// ask looks an address up.
func (l *dnsblList) ask(ctx context.Context, r dns.Lookuper, ip netip.Addr, now time.Time, log *slog.Logger) DNSBLAnswer {
	answer := DNSBLAnswer{Zone: l.cfg.Zone, Parked: l.parkedFor(now)}
	if answer.Parked != "" {
		return answer
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	var tested sync.WaitGroup
	if l.dueForTest(now) {
		tested.Go(func() { l.selfTest(ctx, r, now, log) })
	}
	codes, err := r.A(ctx, dnsblName(ip, l.cfg.Zone))
	tested.Wait()
	for _, code := range codes {
		if why := misanswer(code); why != "" {
			l.park(now, why, log)
		}
	}
	answer.Parked = l.parkedFor(now)
	switch {
	case answer.Parked != "" || dns.IsVoid(err):
		return answer
	case err != nil:
		answer.Err = fmt.Errorf("%s: %w", l.cfg.Zone, err)
		return answer
	}
	slices.SortFunc(codes, netip.Addr.Compare)
	answer.Codes = codes
	answer.Score = l.cfg.score(codes)
	return answer
}

// selfTest asks for 127.0.0.1, which no list may list: one that does lists everything (RFC 5782 section 5). That
// 127.0.0.2 is not listed means that the list is dead, which harms nobody, but the administrator wants to know.
func (l *dnsblList) selfTest(ctx context.Context, r dns.Lookuper, now time.Time, log *slog.Logger) {
	codes, err := r.A(ctx, dnsblName(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.cfg.Zone))
	if err == nil && len(codes) > 0 {
		l.park(now, "it lists 127.0.0.1, and so everything", log)
		return
	}
	if _, err = r.A(ctx, dnsblName(netip.AddrFrom4([4]byte{127, 0, 0, 2}), l.cfg.Zone)); dns.IsVoid(err) {
		log.Warn("DNS list does not list its test entry 127.0.0.2: is it still in service?", "zone", l.cfg.Zone)
	}
}

// dueForTest is true once an hour.
func (l *dnsblList) dueForTest(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.nextTest) {
		return false
	}
	l.nextTest = now.Add(dnsblParking)
	return true
}

// park leaves the list alone for a while. It is logged once.
func (l *dnsblList) park(now time.Time, why string, log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.parked) {
		return
	}
	l.parked, l.why = now.Add(dnsblParking), why
	log.Warn("DNS list is not believed and left alone", "zone", l.cfg.Zone, "reason", why, "until", l.parked)
}

// parkedFor says why the list is parked, "" if it isn't.
func (l *dnsblList) parkedFor(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.parked) {
		return l.why
	}
	return ""
}

// dnsblCheck asks lists about the client's address.
type dnsblCheck struct {
	lists []*dnsblList
	r     dns.Lookuper
	log   *slog.Logger
}

var (
	_ Symboler    = (*dnsblCheck)(nil)
	_ SenderJudge = (*dnsblCheck)(nil)
)

func newDNSBL(cfg DNSBLConfig, r dns.Lookuper, log *slog.Logger) *dnsblCheck {
	c := &dnsblCheck{r: r, log: log}
	for _, l := range cfg.Lists {
		c.lists = append(c.lists, &dnsblList{cfg: l.withDefaults()})
	}
	return c
}

func (c *dnsblCheck) Name() string    { return "dnsbl.client" }
func (c *dnsblCheck) Scope() Scope    { return PerClient }
func (c *dnsblCheck) Needs() []string { return nil }
func (c *dnsblCheck) JudgesSender()   {}

// MayRefuse reports whether a list asks for a refusal before DATA.
func (c *dnsblCheck) MayRefuse() bool {
	return slices.ContainsFunc(c.lists, func(l *dnsblList) bool { return l.cfg.Refuse })
}

// Symbols names each list, and its failure.
func (c *dnsblCheck) Symbols() []string {
	var names []string
	for _, l := range c.lists {
		names = append(names, l.symbol(), l.symbol()+".error")
	}
	return names
}

func (l *dnsblList) symbol() string { return "dnsbl." + l.cfg.Zone }

// Run asks all lists at once. A list that can't be asked is an error, one that is parked is only noted.
func (c *dnsblCheck) Run(ctx context.Context, in Input) Report {
	ip := in.Client.IP
	if !ip.IsValid() || len(c.lists) == 0 {
		return Report{}
	}
	answers := make([]DNSBLAnswer, len(c.lists))
	var wg sync.WaitGroup
	for i, l := range c.lists {
		wg.Go(func() { answers[i] = l.ask(ctx, c.r, ip, in.Now, c.log) })
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
				Symbol: symbol, Score: a.Score, Detail: a.describe(ip), Refuse: c.lists[i].cfg.Refuse,
			})
		}
	}
	return report
}

// describe is the evidence: "192.0.2.7: 127.0.0.2 127.0.0.10".
func (a *DNSBLAnswer) describe(ip netip.Addr) string {
	words := make([]string, len(a.Codes))
	for i, code := range a.Codes {
		words[i] = code.String()
	}
	return ip.String() + ": " + strings.Join(words, " ")
}
