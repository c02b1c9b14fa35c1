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

	mu      sync.Mutex
	parked  time.Time // not asked before then
	why     string
	testing dnsblTesting
}

// ask looks an entry up: a domain, or an address as dnsblEntry writes it.
func (l *dnsblList) ask(ctx context.Context, r dns.Lookuper, entry string, now time.Time, log *slog.Logger) DNSBLAnswer {
	answer := DNSBLAnswer{Zone: l.cfg.Zone, Entry: entry, Parked: l.parkedFor(now)}
	if answer.Parked == "" {
		l.lookUp(ctx, &answer, r, now, log)
	}
	noteList(ctx, answer)
	return answer
}

// lookUp puts the question of an answer.
func (l *dnsblList) lookUp(ctx context.Context, answer *DNSBLAnswer, r dns.Lookuper, now time.Time, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	var tested sync.WaitGroup
	// A client that goes away does not end the test that it happened to begin.
	tested.Go(func() { l.ensureTested(ctx, context.WithoutCancel(ctx), r, now, log) })
	started := time.Now()
	codes, err := r.A(ctx, answer.Entry+"."+l.cfg.Zone)
	answer.Took = time.Since(started)
	tested.Wait()
	for _, code := range codes {
		if why := l.misanswer(code); why != "" {
			l.park(now, why, log)
		}
	}
	answer.Parked = l.parkedFor(now)
	switch {
	case answer.Parked != "" || dns.IsVoid(err):
	case err != nil:
		answer.Err = fmt.Errorf("%s: %w", l.cfg.Zone, err)
	case !l.tested():
		answer.Err, answer.untested = fmt.Errorf("%s: it could not be tested for now, and so is not believed", l.cfg.Zone), true
	default:
		slices.SortFunc(codes, netip.Addr.Compare)
		answer.Codes = codes
		answer.Score = l.cfg.score(codes)
	}
}

// park leaves the list alone for a while. It is logged once.
func (l *dnsblList) park(now time.Time, why string, log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.parked) {
		return
	}
	l.parked, l.why = now.Add(dnsblParking), why
	log.Warn("dnsbl_parked", "zone", l.cfg.Zone, "reason", why, "until", l.parked.Format(time.RFC3339))
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
