package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	mdns "github.com/miekg/dns"
)

// Counters count the look-ups of resolvers, by what came of them, for those who watch the server. Several resolvers in turn
// may count in the same ones. The zero value is ready; all methods may be called at any time from any goroutine.
type Counters struct{ outcomes [outcomes]atomic.Int64 }

// An Outcome is what came of a look-up.
type Outcome uint8

// The outcomes.
const (
	Answered   Outcome = iota // there are records
	Absent                    // the name or the record does not exist
	Unanswered                // nobody could tell
	FromCache                 // whatever it was, no server had to be asked
	outcomes
)

// Outcomes gives all of them.
func Outcomes() []Outcome { return []Outcome{Answered, Absent, Unanswered, FromCache} }

func (o Outcome) String() string {
	return [...]string{"answered", "absent", "failed", "cached"}[o]
}

// Count gives how many look-ups ended so.
func (c *Counters) Count(o Outcome) int64 { return c.outcomes[o].Load() }

func (c *Counters) count(a answer, cached bool) {
	o := Answered
	switch {
	case cached:
		o = FromCache
	case a.kind == NotExist || a.kind == NoData:
		o = Absent
	case a.kind != 0:
		o = Unanswered
	}
	c.outcomes[o].Add(1)
}

// CountIn has the resolver count in c from now on, in place of its own counters.
func (r *Resolver) CountIn(c *Counters) { r.counters.Store(c) }

// Counters gives what the resolver counts in.
func (r *Resolver) Counters() *Counters { return r.counters.Load() }

// A pulse is whether the servers answer, as far as was found out last.
type pulse struct {
	testing sync.Mutex // one test at a time, so that the last to begin has the last word

	mu  sync.Mutex
	err error
}

// State is nil as long as a server answers, as far as [Resolver.Test] has found out; else it says what was wrong.
func (r *Resolver) State() error {
	if r.offline {
		return nil
	}
	r.pulse.mu.Lock()
	defer r.pulse.mu.Unlock()
	return r.pulse.err
}

func (p *pulse) set(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// Test asks the servers, past the cache, for the name servers of the root, which every recursive server knows, and notes
// whether one of them answered. A server that keeps the root to itself is asked for our own name instead. That a name which
// a stranger owns can't be found says nothing about the servers.
func (r *Resolver) Test(ctx context.Context, own string) error {
	if r.offline {
		return nil
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	r.work.Add(1)
	r.mu.Unlock()
	defer r.work.Done()
	r.pulse.testing.Lock()
	defer r.pulse.testing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	_, err := r.exchange(ctx, question{name: ".", qtype: mdns.TypeNS})
	if wire, bad := wireName(own); err != nil && bad == nil && ctx.Err() == nil {
		_, err = r.exchange(ctx, question{name: wire, qtype: mdns.TypeA})
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return context.Cause(ctx) // called off: nothing was found out
	}
	if err != nil {
		err = fmt.Errorf("no DNS server answers: %w", err)
	}
	r.pulse.set(err)
	return err
}
