package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// failures is what went wrong with each server, on one line.
type failures []error

func (f failures) Error() string {
	var b strings.Builder
	for i, err := range f {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (f failures) Unwrap() []error { return f }

// maxTries is how often a question goes out at most, to all servers together; with more servers, once to each.
const maxTries = 4

// outcome is how one try ended.
type outcome struct {
	try int
	msg *mdns.Msg
	err error
}

// exchange is one question put to the servers until one of them answers it.
type exchange struct {
	r       *Resolver
	q       question
	order   []*server
	tries   []*server // whom each try went to
	over    []bool    // the tries that have ended
	useless map[*server]bool
	results chan outcome
}

// exchange gives the first usable answer to q. The error says what every server did that was asked.
func (r *Resolver) exchange(ctx context.Context, q question) (*mdns.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x := &exchange{r: r, q: q, order: preferred(r.servers), results: make(chan outcome, max(maxTries, len(r.servers)))}
	wait := r.cfg.Retry
	timer := time.NewTimer(wait)
	defer timer.Stop()
	x.launch(ctx)
	var errs failures
	for pending := 1; ; {
		select {
		case o := <-x.results:
			pending--
			x.over[o.try] = true
			if o.err == nil {
				x.won(o.try)
				return o.msg, nil
			}
			if ctx.Err() != nil || errors.Is(o.err, os.ErrDeadlineExceeded) { // the try ended with ctx, not by itself
				x.over[o.try] = false
				return nil, x.timedOut(ctx, errs)
			}
			errs = append(errs, fmt.Errorf("%s: %w", x.tries[o.try].addr, o.err))
			x.lost(o)
			if x.untried() && x.launch(ctx) {
				pending++
			}
			if pending == 0 && x.next() == nil {
				return nil, errs
			}
		case <-timer.C:
			if x.launch(ctx) {
				pending++
			}
			wait *= 2
			timer.Reset(wait)
		case <-ctx.Done():
			return nil, x.timedOut(ctx, errs)
		}
	}
}

func (x *exchange) timedOut(ctx context.Context, errs failures) error {
	cause := context.Cause(ctx)
	if cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	for i, s := range x.tries {
		if !x.over[i] && !slices.Contains(x.tries[:i], s) {
			errs = append(errs, fmt.Errorf("%s: %w within %v", s.addr, errSilent, x.r.cfg.Timeout))
		}
	}
	return errs
}

// launch begins the next try. false means that there is none.
func (x *exchange) launch(ctx context.Context) bool {
	s := x.next()
	if s == nil {
		return false
	}
	n := len(x.tries)
	x.tries = append(x.tries, s)
	x.over = append(x.over, false)
	x.r.work.Add(1) // never from zero: the flight is counted
	go func() {
		defer x.r.work.Done()
		o := outcome{try: n}
		defer func() {
			if p := recover(); p != nil {
				o.err = fmt.Errorf("panic: %v", p)
			}
			x.results <- o
		}()
		o.msg, o.err = s.ask(ctx, x.q, !x.r.cfg.PlainCase)
	}()
	return true
}

// next is the server that the next try goes to, nil if there is to be none: the servers in turn, without those that have
// shown that they can't answer.
func (x *exchange) next() *server {
	if len(x.tries) >= cap(x.results) {
		return nil
	}
	for i := range x.order {
		s := x.order[(len(x.tries)+i)%len(x.order)]
		if !x.useless[s] {
			return s
		}
	}
	return nil
}

// untried reports whether a server is left that was not asked at all.
func (x *exchange) untried() bool { return len(x.tries) < len(x.order) }

// won notes that a server answered, and that those which were asked earlier did not.
func (x *exchange) won(try int) {
	winner := x.tries[try]
	winner.answered()
	for i, s := range x.tries[:try] {
		if s != winner && !x.over[i] {
			s.missed()
		}
	}
}

// lost draws the conclusions from a try that failed. A server that said so itself would say so again; one that could not be
// reached may be back at the next try.
func (x *exchange) lost(o outcome) {
	s := x.tries[o.try]
	var refusal *refusal
	if !errors.As(o.err, &refusal) {
		s.missed()
		return
	}
	if x.useless == nil {
		x.useless = make(map[*server]bool)
	}
	x.useless[s] = true
}
