package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"postern/proxy/upstream"
)

// A health is what is known of whether an upstream can be used. Each connection that is opened for mail tells it (the
// passive check), and so does each probe (the active one). After some failures in a row the upstream is out: mail goes
// to the others, as long as there are any, and it is asked at growing pauses, until it answers. It is a guess, and no
// reason to refuse mail: where all upstreams are out, they are tried all the same.
//
// Several upstreams of the configuration that are reached in the same way share one, and a reload keeps it, with what
// the upstream offers.
type health struct {
	caps atomic.Pointer[upstream.Caps] // what it offered when it answered last

	mu      sync.Mutex
	cfg     Health
	known   bool  // it answered at some time
	fails   int   // in a row
	failure error // the last of them
	out     bool
	since   time.Time // when it was taken out
	due     time.Time // when it should be asked next
}

// A change is one of the two events that are logged.
type change uint8

const (
	noChange change = iota
	wentDown
	cameUp
)

func newHealth(cfg Health) *health { return &health{cfg: cfg} }

// configure sets the limits that count from now on.
func (h *health) configure(cfg Health) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg = cfg
}

// answered notes that the upstream could be used. down is how long it was out, where that ends.
func (h *health) answered(now time.Time) (c change, down time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out {
		c, down = cameUp, now.Sub(h.since)
	}
	h.known, h.fails, h.failure, h.out = true, 0, nil, false
	h.due = now.Add(h.cfg.Interval)
	return c, down
}

// failed notes that it could not. One that never answered is out at once: there is nothing to believe in.
func (h *health) failed(now time.Time, err error) change {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails++
	h.failure = err
	h.due = now.Add(h.pause())
	if h.out || h.known && h.fails < h.cfg.Fails {
		return noChange
	}
	h.out, h.since = true, now
	return wentDown
}

// pause is how long to wait after the last failure: the longer the more there were.
func (h *health) pause() time.Duration {
	pause := h.cfg.Retry
	for range h.fails - 1 {
		if pause >= h.cfg.Interval {
			break
		}
		pause *= 2
	}
	return min(pause, max(h.cfg.Interval, h.cfg.Retry))
}

// asking reports whether it is time to probe, and if so takes the turn. The answer sets the next one.
func (h *health) asking(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.due) {
		return false
	}
	h.due = now.Add(h.cfg.Timeout + h.cfg.Retry)
	return true
}

// next is when it should be asked.
func (h *health) next() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.due
}

func (h *health) usable() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.out
}

// state is nil for an upstream that is in use; else it is why not.
func (h *health) state() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.out:
		return h.failure
	case !h.known:
		return errNotAsked
	}
	return nil
}
