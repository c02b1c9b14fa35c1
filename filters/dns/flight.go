package dns

import (
	"context"
	"errors"
	"fmt"
)

// flight is a look-up on the wire and all who wait for it. It is not bound to the context of the one who began it: it ends
// early only when nobody waits any more.
type flight struct {
	done    chan struct{} // closed once answer is set
	answer  answer
	waiters int // guarded by Resolver.mu
	cancel  context.CancelFunc
}

var errBusy = errors.New("too many look-ups at once")

// fly joins the flight for q, or begins one, and waits for it as long as ctx allows.
func (r *Resolver) fly(ctx context.Context, q question) answer {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return failed(ErrClosed)
	}
	f, ok := r.flights[q]
	if !ok {
		// One may have landed since the caller looked into the cache.
		if a, ok := r.cache.get(q, r.cfg.Now()); ok {
			r.mu.Unlock()
			return a
		}
		fctx, cancel := context.WithTimeout(r.ctx, r.cfg.Timeout)
		f = &flight{done: make(chan struct{}), cancel: cancel}
		r.flights[q] = f
		r.work.Add(1)
		go r.run(fctx, q, f)
	}
	f.waiters++
	r.mu.Unlock()

	select {
	case <-f.done:
		return f.answer
	case <-ctx.Done():
		r.leave(q, f)
		return failed(context.Cause(ctx))
	}
}

// leave takes one waiter off f, and ends it with the last.
func (r *Resolver) leave(q question, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		r.forget(q, f)
	}
}

// forget lets the next look-up of q begin a flight of its own. The caller holds r.mu.
func (r *Resolver) forget(q question, f *flight) {
	if r.flights[q] == f {
		delete(r.flights, q)
	}
}

// run carries a flight through.
func (r *Resolver) run(ctx context.Context, q question, f *flight) {
	defer r.work.Done()
	defer f.cancel()
	a := r.resolveSafely(ctx, q)
	// A flight that was called off has learned nothing about q.
	if !errors.Is(context.Cause(ctx), context.Canceled) && !errors.Is(context.Cause(ctx), ErrClosed) {
		r.cfg.clamp(&a)
		r.cache.put(q, a, r.cfg.Now())
	}
	f.answer = a
	r.mu.Lock()
	r.forget(q, f)
	r.mu.Unlock()
	close(f.done)
}

// resolveSafely turns a panic, of which a strange packet might be the cause, into a failed look-up.
func (r *Resolver) resolveSafely(ctx context.Context, q question) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = failed(fmt.Errorf("panic: %v", p))
		}
	}()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
		return r.resolve(ctx, q)
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return failed(errBusy)
		}
		return failed(context.Cause(ctx))
	}
}

// resolve asks for q, and again for the rest of a CNAME chain where a server gave only a part of it.
func (r *Resolver) resolve(ctx context.Context, q question) answer {
	rd := reading{question: q, ttl: maxTTL}
	for {
		msg, err := r.exchange(ctx, rd.question)
		if err != nil {
			return failed(err)
		}
		if a, done := rd.read(msg); done {
			return a
		}
	}
}
