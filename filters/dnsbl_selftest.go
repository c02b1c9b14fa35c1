package filters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
)

const (
	dnsblTestEvery = time.Hour
	dnsblTestAgain = time.Minute // after a test that DNS failed in
)

// dnsblTest is the two entries by which a list is tested, without the zone (RFC 5782 section 5).
type dnsblTest struct{ listed, unlisted string }

// The test entries of lists of addresses (127.0.0.2 and 127.0.0.1) and of domains.
var (
	dnsblAddressTest = dnsblTest{listed: "2.0.0.127", unlisted: "1.0.0.127"}
	dnsblDomainTest  = dnsblTest{listed: "test", unlisted: "invalid"}
)

// name is an entry as people write it.
func (t dnsblTest) name(entry string) string {
	if t == dnsblDomainTest {
		return entry
	}
	octets := strings.Split(entry, ".")
	slices.Reverse(octets)
	return strings.Join(octets, ".")
}

// dnsblTesting is what is known of a list's tests. The list's mutex guards it.
type dnsblTesting struct {
	next    time.Time     // when the next one is due
	running chan struct{} // closed when the one that runs is over; nil while none runs
	done    bool          // one had an answer: until then no listing is believed
}

// testLists tests, at once, the lists that are due for it.
func testLists(ctx context.Context, lists []*dnsblList, r dns.Lookuper, now time.Time, log *slog.Logger) {
	var wg sync.WaitGroup
	for _, l := range lists {
		wg.Go(func() { l.ensureTested(ctx, ctx, r, now, log) })
	}
	wg.Wait()
}

// ensureTested tests the list if that is due, or waits for the test that runs already: no listing is to be believed
// while it is being found out whether the list lists everything. The wait ends with ctx, a test of its own with test.
func (l *dnsblList) ensureTested(ctx, test context.Context, r dns.Lookuper, now time.Time, log *slog.Logger) {
	running, mine := l.beginTest(now)
	switch {
	case mine:
		test, cancel := context.WithTimeout(test, l.cfg.Timeout)
		defer cancel()
		l.endTest(l.selfTest(test, r, now, log), now)
	case running != nil:
		select {
		case <-running:
		case <-ctx.Done():
		}
	}
}

// beginTest says whether the caller is to test the list, else which test runs, nil for none.
func (l *dnsblList) beginTest(now time.Time) (running <-chan struct{}, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.testing.running != nil {
		return l.testing.running, false
	}
	if now.Before(l.testing.next) {
		return nil, false
	}
	l.testing.running = make(chan struct{})
	return l.testing.running, true
}

func (l *dnsblList) endTest(answered bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := dnsblTestAgain
	if answered {
		l.testing.done = true
		wait = dnsblTestEvery
	}
	l.testing.next = now.Add(wait)
	close(l.testing.running)
	l.testing.running = nil
}

// tested reports whether a test of the list has had an answer.
func (l *dnsblList) tested() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.testing.done
}

// selfTest asks for the entry that no list may have: one that has it lists everything. That the entry which every list
// must have is missing means that the list is dead, which harms nobody, but the administrator wants to know. An answer
// that is no listing, to either, parks the list as it would at any other time. answered is false if DNS failed.
func (l *dnsblList) selfTest(ctx context.Context, r dns.Lookuper, now time.Time, log *slog.Logger) (answered bool) {
	unlisted, err := r.A(ctx, l.test.unlisted+"."+l.cfg.Zone)
	if err != nil && !dns.IsVoid(err) {
		return false
	}
	listed, err := r.A(ctx, l.test.listed+"."+l.cfg.Zone)
	for _, code := range slices.Concat(unlisted, listed) {
		if why := l.misanswer(code); why != "" {
			l.park(now, why, log)
			return true
		}
	}
	switch {
	case len(unlisted) > 0:
		l.park(now, "it lists "+l.test.name(l.test.unlisted)+", and so everything", log)
	case dns.IsVoid(err):
		log.Warn("dnsbl_out_of_service", "zone", l.cfg.Zone, "reason", "it does not list its test entry "+l.test.name(l.test.listed))
	}
	return true
}

// TryDNSBL tests a list of addresses as it is tested before it is believed, and says what is wrong with it: DNS failed, it
// refuses us, it lists everything, or nothing.
func TryDNSBL(ctx context.Context, zone string, r dns.Lookuper) error {
	l := &dnsblList{cfg: DNSBLList{Zone: zone}.withDefaults(), test: dnsblAddressTest}
	now := time.Now()
	if !l.selfTest(ctx, r, now, slog.New(slog.DiscardHandler)) {
		return errors.New("DNS fails")
	}
	if why := l.parkedFor(now); why != "" {
		return errors.New(why)
	}
	if _, err := r.A(ctx, l.test.listed+"."+zone); dns.IsVoid(err) {
		return fmt.Errorf("it does not list its test entry %s: it is no DNS list, or is out of service", l.test.name(l.test.listed))
	}
	return nil
}
