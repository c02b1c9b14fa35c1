package proxy

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"postern/proxy/upstream"
)

// A nextHop is an upstream and what is known of it.
type nextHop struct {
	upstream.Upstream
	priority, weight int
	health           *health
	rt               *Runtime
}

// newHop makes a nextHop of the runtime. What is reached in the same way has one health.
func (rt *Runtime) newHop(up upstream.Upstream, cfg Upstream) *nextHop {
	key := cfg
	key.Priority, key.Weight = 0, 0
	if rt.healths[key] == nil {
		rt.healths[key] = newHealth(rt.Config.Health)
	}
	return &nextHop{Upstream: up, priority: cfg.Priority, weight: max(1, cfg.Weight), health: rt.healths[key], rt: rt}
}

// inherit takes over what is known of the upstreams that both runtimes have.
func (rt *Runtime) inherit(old *Runtime) {
	for key, mine := range rt.healths {
		known := old.healths[key]
		if known == nil {
			continue
		}
		known.configure(rt.Config.Health)
		rt.healths[key] = known
		for _, n := range append(rt.next[:len(rt.next):len(rt.next)], rt.quarantine) {
			if n != nil && n.health == mine {
				n.health = known
			}
		}
	}
}

// label is the next hop as the log names it: host:port, the path of a socket, or maildir:path.
func (n *nextHop) label() string {
	if _, address := n.Addr(); address != "" {
		return address
	}
	return n.String()
}

// learn notes that the upstream answers, and what it offers.
func (n *nextHop) learn(caps upstream.Caps) {
	n.health.caps.Store(&caps)
	if c, down := n.health.answered(time.Now()); c == cameUp {
		n.rt.log.Info("upstream_up", "upstream", n.label(), slog.Attr{Key: "ms_down", Value: milliseconds(down)})
	}
}

// fail notes that it does not. What it last offered is kept.
func (n *nextHop) fail(err error) {
	if n.health.failed(time.Now(), err) == wentDown {
		n.rt.log.Warn("upstream_down", "upstream", n.label(), "error", err.Error())
	}
	n.rt.wake()
}

// probe asks what it offers.
func (n *nextHop) probe(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, n.rt.Config.Health.Timeout)
	defer cancel()
	caps, err := n.Probe(limited)
	switch {
	case err == nil:
		n.learn(caps)
	case ctx.Err() == nil:
		n.fail(err)
	}
}

// probe asks all upstreams at once.
func (rt *Runtime) probe(ctx context.Context) { probeAll(ctx, rt.next) }

// probeDue asks the upstreams whose time has come. What shares a health is asked together.
func (rt *Runtime) probeDue(ctx context.Context) {
	now, due := time.Now(), make(map[*health]bool)
	var hops []*nextHop
	for _, n := range rt.next {
		if _, seen := due[n.health]; !seen {
			due[n.health] = n.health.asking(now)
		}
		if due[n.health] {
			hops = append(hops, n)
		}
	}
	probeAll(ctx, hops)
}

func probeAll(ctx context.Context, hops []*nextHop) {
	var wg sync.WaitGroup
	for _, n := range hops {
		wg.Go(func() { n.probe(ctx) })
	}
	wg.Wait()
}

// nextProbe is how long until an upstream should be asked.
func (rt *Runtime) nextProbe(now time.Time) time.Duration {
	wait := rt.Config.Health.Interval
	for _, n := range rt.next {
		wait = min(wait, n.health.next().Sub(now))
	}
	return max(wait, 0)
}

// keywords is what can be offered to clients: what the upstreams of all routes have in common. An upstream that was
// never reached offers nothing, and counts as long as no other one of its route was.
func (rt *Runtime) keywords() []string {
	size, eightBit, utf8, dsn := int64(rt.Config.Limits.Message), true, true, true
	offersSize := true
	for _, caps := range rt.known() {
		if caps == nil {
			return nil
		}
		eightBit = eightBit && caps.EightBit
		utf8 = utf8 && caps.SMTPUTF8
		dsn = dsn && caps.DSN
		offersSize = offersSize && caps.Size
		if caps.MaxSize > 0 {
			size = min(size, caps.MaxSize)
		}
	}
	words := make([]string, 0, 4)
	for _, w := range []struct {
		offered bool
		keyword string
	}{
		{offersSize, "SIZE " + strconv.FormatInt(size, 10)},
		{eightBit, "8BITMIME"},
		{utf8 && eightBit, "SMTPUTF8"},
		{dsn, "DSN"},
	} {
		if w.offered {
			words = append(words, w.keyword)
		}
	}
	return words
}

// known gives what the upstreams offer, and nil for a route of which none was reached yet.
func (rt *Runtime) known() []*upstream.Caps {
	var all []*upstream.Caps
	for _, r := range rt.ways {
		before := len(all)
		for _, n := range r.upstreams {
			if caps := n.health.caps.Load(); caps != nil {
				all = append(all, caps)
			}
		}
		if len(all) == before {
			all = append(all, nil)
		}
	}
	return all
}
