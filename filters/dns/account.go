package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what look-ups cost. The zero value is ready; all methods may be called at any time from any goroutine.
type Stats struct {
	lookups atomic.Int64
	queries atomic.Int64

	mu     sync.Mutex
	active int       // look-ups that wait for an answer now
	since  time.Time // when active left zero
	waited time.Duration
}

// Lookups gives how many records were asked for, those that the cache answered included.
func (s *Stats) Lookups() int { return int(s.lookups.Load()) }

// Queries gives how many of the look-ups the cache could not answer.
func (s *Stats) Queries() int { return int(s.queries.Load()) }

// Time gives the wall time in which at least one look-up waited for an answer: what runs at the same time counts once.
func (s *Stats) Time() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active > 0 {
		return s.waited + time.Since(s.since)
	}
	return s.waited
}

func (s *Stats) begin() {
	s.queries.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == 0 {
		s.since = time.Now()
	}
	s.active++
}

func (s *Stats) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.waited += time.Since(s.since)
	}
}

// A Lookup is one look-up as [WithTrace] shows it.
type Lookup struct {
	Name   string // lower-case ASCII as it was asked; as given where it cannot stand in DNS
	Type   string
	Answer []string // the records as text, in the answer's order
	Err    error
	Cached bool // answered or refused without asking a server
	Took   time.Duration
}

// account is what a context has the look-ups made under it charged to. Accounts nest: a message's and, within it, a check's.
type account struct {
	parent *account
	stats  *Stats
	left   *atomic.Int64 // look-ups that the budget still allows
	trace  func(Lookup)
}

type accountKey struct{}

func accountOf(ctx context.Context) *account {
	a, _ := ctx.Value(accountKey{}).(*account)
	return a
}

func with(ctx context.Context, a account) context.Context {
	a.parent = accountOf(ctx)
	return context.WithValue(ctx, accountKey{}, &a)
}

// WithStats has the look-ups made under the returned context counted in s, and still in the Stats that ctx had.
func WithStats(ctx context.Context, s *Stats) context.Context {
	return with(ctx, account{stats: s})
}

// WithBudget allows n look-ups under the returned context; the next is refused with [OverBudget]. A look-up that the cache
// answers is charged like any other, so that a verdict does not hang on what others have asked before. A budget of ctx
// goes on to be charged as well.
func WithBudget(ctx context.Context, n int) context.Context {
	left := &atomic.Int64{}
	left.Store(int64(n))
	return with(ctx, account{left: left})
}

// WithTrace has fn called after each look-up made under the returned context, from the goroutine that made it.
func WithTrace(ctx context.Context, fn func(Lookup)) context.Context {
	return with(ctx, account{trace: fn})
}

// charge takes one look-up from every budget and counts it; false means that one of the budgets is used up.
func (a *account) charge() bool {
	ok := true
	for ; a != nil; a = a.parent {
		if a.left != nil && a.left.Add(-1) < 0 {
			ok = false
		}
		if a.stats != nil {
			a.stats.lookups.Add(1)
		}
	}
	return ok
}

func (a *account) begin() {
	for ; a != nil; a = a.parent {
		if a.stats != nil {
			a.stats.begin()
		}
	}
}

func (a *account) end() {
	for ; a != nil; a = a.parent {
		if a.stats != nil {
			a.stats.end()
		}
	}
}

func (a *account) traced() bool {
	for ; a != nil; a = a.parent {
		if a.trace != nil {
			return true
		}
	}
	return false
}

func (a *account) show(l Lookup) {
	for ; a != nil; a = a.parent {
		if a.trace != nil {
			a.trace(l)
		}
	}
}
