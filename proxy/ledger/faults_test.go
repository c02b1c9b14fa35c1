package ledger

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A lane is a recipient domain with a next hop of its own, on which one point is tried at a time.
type lane struct {
	domain string
	hop    *hop
	proxy  *postern
	book   *book
}

// lanesEach is how many lanes each kind of next hop has. Most of a fault is waiting.
const lanesEach = 8

// TestFaults has one thing go wrong at a time, at each step of the protocol on either side.
func TestFaults(t *testing.T) {
	t.Parallel()
	points := allPoints()
	few := 120
	if testing.Short() {
		few = 60
	}
	if full {
		few = len(points)
	}
	chosen := choose(points, number("POSTERN_FAULTS", few))
	b := newBook()
	p, lanes := startLanes(t, b, min(lanesEach, 1+len(chosen)/40))
	var wg sync.WaitGroup
	for kind, its := range lanes {
		queue := make(chan point, len(chosen))
		for _, pt := range chosen {
			if pt.hop.name == kind {
				queue <- pt
			}
		}
		close(queue)
		for _, l := range its {
			wg.Go(func() {
				for pt := range queue {
					l.try(pt)
				}
			})
		}
	}
	wg.Wait()
	p.finish()
	for _, its := range lanes {
		for _, l := range its {
			l.hop.settle()
		}
	}
	b.report(t, fmt.Sprintf("%d faults of client and next hop", len(chosen)), "faults", p.log())
}

// choose takes n of the points, by the seed.
func choose(points []point, n int) []point {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	return points[:min(n, len(points))]
}

// startLanes starts the proxy with lanes for each kind of next hop.
func startLanes(t *testing.T, b *book, each int) (*postern, map[string][]*lane) {
	t.Helper()
	lanes := make(map[string][]*lane)
	var domains, routes strings.Builder
	fallback := ""
	addrs, cert := hopAddresses(t, each*len(allHops))
	for k, kind := range allHops {
		for n := range each {
			l := &lane{domain: fmt.Sprintf("lane%d-%d.example", k, n), book: b}
			l.hop = startHop(t, kind, addrs[k*each+n], b, cert.ServerConfig())
			fmt.Fprintf(&domains, "%s, ", l.domain)
			fmt.Fprintf(&routes, "  - {domains: [%s], upstream: [{address: '%s://%s'%s}]}\n", l.domain, kind.scheme, l.hop.addr, kind.options)
			fallback = fmt.Sprintf("upstream: [{address: '%s://%s'%s}]\n", kind.scheme, l.hop.addr, kind.options)
			lanes[kind.name] = append(lanes[kind.name], l)
		}
	}
	p := newPostern(t, commonConfig+"dns: {servers: ['127.0.0.1:9']}\nfilters: {iprev: {enabled: false}, helo: {enabled: false}}\ndomains: ["+strings.TrimSuffix(domains.String(), ", ")+"]\n"+
		fallback+"routes:\n"+routes.String(), "SSL_CERT_FILE="+cert.CertFile, "GOMEMLIMIT=64MiB")
	for _, its := range lanes {
		for _, l := range its {
			l.proxy = p
		}
	}
	return p, lanes
}

var serial struct {
	sync.Mutex
	n int
}

// newID names a message.
func newID(what string) string {
	serial.Lock()
	defer serial.Unlock()
	serial.n++
	return fmt.Sprintf("%s-%d-%d", what, seed, serial.n)
}

func (l *lane) client(secure bool) *client {
	return &client{addr: l.proxy.addr, local: net.IPv4(127, 0, 0, 1), secure: secure, from: "book@sender.example", helo: "mail.sender.example", book: l.book}
}

func (l *lane) open(p point, what string) *account {
	id := newID(what)
	rcpts := []string{"first." + id + "@" + l.domain, "second." + id + "@" + l.domain}
	return l.book.open(id, cause{where: p.where(), kind: p.kind(), refuse: p.refuses(), name: p.name()}, rcpts, p.message(id))
}

// none is the cause of messages that meet no fault.
var none = clientFault{step: "none", kind: "none"}

// try goes through one point. A fault on a connection that is to be used a second time is not met where the proxy, on a
// machine that is too slow for its short time limits, has given that up meanwhile: then it is tried again.
func (l *lane) try(p point) {
	for range 10 {
		a := l.open(p, "m")
		l.meet(p, a)
		if a.fired {
			return
		}
		a.cause.kind = none.kind
	}
	l.book.miss(p.name())
}

func (l *lane) meet(p point, a *account) {
	c := l.client(p.secure)
	switch p.before {
	case "pooled":
		l.warmUp()
	case "session":
		l.inOneSession(p, a)
		return
	default:
		l.hop.hangUp()
	}
	stop := l.arm(p, c)
	fault := p.client
	if p.before == "RSET" {
		fault = &clientFault{step: "RSET"}
	}
	if p.held != "" {
		held := *p.client
		held.wait, held.acted = l.await(p.held)
		fault = &held
	}
	c.deliver(a, fault)
	a.fired = stop() || a.fired
}

// arm makes the fault ready. It is over with the first attempt; stop tells whether it was met.
func (l *lane) arm(p point, c *client) (stop func() bool) {
	fired := false
	end := func() {}
	switch {
	case p.fault != nil:
		l.hop.arm(p.fault)
		end = func() { fired = l.hop.disarm() > 0 || fired }
		if p.fault.step == "QUIT" { // it comes when the client has gone
			end = func() {}
			return func() bool { return l.awaitFired() }
		}
	case p.world == "refused":
		fired = true
		l.hop.close()
		end = func() {
			for limit := time.Now().Add(patience); l.hop.open() != nil && time.Now().Before(limit); {
				pause(time.Millisecond)
			}
		}
	case p.world != "":
		fired = l.hop.poke(p.world)
	}
	var once sync.Once
	c.afterTx = func() { once.Do(end) }
	return func() bool {
		once.Do(end)
		return fired
	}
}

// awaitFired waits until the fault was met.
func (l *lane) awaitFired() bool {
	for limit := time.Now().Add(patience); time.Now().Before(limit); pause(time.Millisecond) {
		l.hop.mu.Lock()
		fired := l.hop.fired > 0
		l.hop.mu.Unlock()
		if fired {
			break
		}
	}
	return l.hop.disarm() > 0
}

// await gives a function that waits until the next hop has come to a step, and one that ends the wait of the next hop there:
// a client that closes its side of the connection when the 250 has come cannot be told from one that has heard it.
func (l *lane) await(step string) (wait, acted func()) {
	reached, gone := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.hop.watch(func(s string) {
		if s != step {
			return
		}
		once.Do(func() { close(reached) })
		if s == "taken" {
			patiently(gone)
		}
	})
	wait = func() {
		patiently(reached)
		l.hop.watch(nil)
	}
	return wait, sync.OnceFunc(func() { close(gone) })
}

// patiently waits for c, with patience.
func patiently(c <-chan struct{}) {
	select {
	case <-c:
	case <-time.After(patience):
	}
}

// warmUp sends a message on a connection of its own, so that a connection to the next hop is left over. The proxy has it when
// the session's line is in the log, which may be long after the client has heard its 221.
func (l *lane) warmUp() {
	w := point{hop: l.hop.kind, client: &none}
	c := l.client(false)
	c.helo = newID("warm") + ".sender.example"
	from := l.proxy.logged()
	c.deliver(l.open(w, "warm"), nil)
	l.proxy.awaitLine(from, " event=session ", ` helo="`+c.helo+`"`)
}

// inOneSession sends a message that goes well and then, on the same connection, the one that meets the fault.
func (l *lane) inOneSession(p point, a *account) {
	c := l.client(p.secure)
	w := point{hop: l.hop.kind, client: &none}
	warm := l.open(w, "warm")
	pending := l.book.try(a)
	l.book.try(warm)
	var stop func() bool
	c.inSession([]*account{warm, a}, [][]string{warm.rcpts, pending}, func(n int) {
		if n == 1 {
			stop = l.arm(p, c)
		}
	})
	if stop != nil {
		a.fired = stop()
	}
	c.afterTx = nil
	c.deliver(warm, nil)
	c.deliver(a, nil)
}
