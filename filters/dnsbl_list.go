package filters

import (
	"context"
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

// dnsblEntry is what stands before the zone in the name under which a list answers about an address: the octets of an
// IPv4 address, or the nibbles of an IPv6 address, in reverse order (RFC 5782 sections 2.1 and 2.4).
func dnsblEntry(ip netip.Addr) string {
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
	return strings.TrimSuffix(b.String(), ".")
}

var (
	dnsblAnswers = netip.MustParsePrefix("127.0.0.0/8")
	dnsblErrors  = netip.MustParsePrefix("127.255.255.0/24") // Spamhaus: wrong name, public resolver, too many queries
	dnsblWrong   = netip.MustParseAddr("127.0.1.255")        // Spamhaus: an address was asked of a list of domains
	dnsblRefused = netip.MustParseAddr("127.0.0.1")          // SURBL, URIBL
)

// misanswer says why an answer means anything but a listing; "" if it may be one.
func (l *dnsblList) misanswer(code netip.Addr) string {
	switch {
	case l.test == dnsblDomainTest && code == dnsblRefused:
		return fmt.Sprintf("it answers %s: it refuses our queries", code)
	case !dnsblAnswers.Contains(code):
		return fmt.Sprintf("it answers %s, which is outside 127.0.0.0/8: the zone is parked or hijacked", code)
	case dnsblErrors.Contains(code):
		return fmt.Sprintf("it answers %s: it refuses our queries", code)
	case code == dnsblWrong:
		return fmt.Sprintf("it answers %s: it is not a list of this kind", code)
	}
	return ""
}

// dnsblList is one list at work.
type dnsblList struct {
	cfg  DNSBLList
	test dnsblTest

	mu       sync.Mutex
	parked   time.Time // not asked before then
	why      string
	nextTest time.Time
}

// dnsblTest is the two entries by which a list is tested, without the zone (RFC 5782 section 5).
type dnsblTest struct{ listed, unlisted string }

// The test entries of lists of addresses (127.0.0.2 and 127.0.0.1) and of domains.
var (
	dnsblAddressTest = dnsblTest{listed: "2.0.0.127", unlisted: "1.0.0.127"}
	dnsblDomainTest  = dnsblTest{listed: "test", unlisted: "invalid"}
)

// ask looks an entry up: a domain, or an address as dnsblEntry writes it.
func (l *dnsblList) ask(ctx context.Context, r dns.Lookuper, entry string, now time.Time, log *slog.Logger) DNSBLAnswer {
	answer := DNSBLAnswer{Zone: l.cfg.Zone, Entry: entry, Parked: l.parkedFor(now)}
	if answer.Parked != "" {
		return answer
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	var tested sync.WaitGroup
	if l.dueForTest(now) {
		tested.Go(func() { l.selfTest(ctx, r, now, log) })
	}
	codes, err := r.A(ctx, entry+"."+l.cfg.Zone)
	tested.Wait()
	for _, code := range codes {
		if why := l.misanswer(code); why != "" {
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

// selfTest asks for the entry that no list may have: one that has it lists everything. That the entry which every list
// must have is missing means that the list is dead, which harms nobody, but the administrator wants to know.
func (l *dnsblList) selfTest(ctx context.Context, r dns.Lookuper, now time.Time, log *slog.Logger) {
	codes, err := r.A(ctx, l.test.unlisted+"."+l.cfg.Zone)
	if err == nil && len(codes) > 0 {
		l.park(now, "it lists "+l.test.name(l.test.unlisted)+", and so everything", log)
		return
	}
	if _, err = r.A(ctx, l.test.listed+"."+l.cfg.Zone); dns.IsVoid(err) {
		log.Warn("dnsbl_out_of_service", "zone", l.cfg.Zone, "reason", "it does not list its test entry "+l.test.name(l.test.listed))
	}
}

// testLists tests, at once, the lists that are due for it.
func testLists(ctx context.Context, lists []*dnsblList, r dns.Lookuper, now time.Time, log *slog.Logger) {
	var wg sync.WaitGroup
	for _, l := range lists {
		if l.dueForTest(now) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
				defer cancel()
				l.selfTest(ctx, r, now, log)
			})
		}
	}
	wg.Wait()
}

// name is an entry as people write it.
func (t dnsblTest) name(entry string) string {
	if t == dnsblDomainTest {
		return entry
	}
	octets := strings.Split(entry, ".")
	slices.Reverse(octets)
	return strings.Join(octets, ".")
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
	log.Warn("dnsbl_parked", "zone", l.cfg.Zone, "reason", why, "until", l.parked)
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
