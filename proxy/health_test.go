package proxy

import (
	"errors"
	"testing"
	"time"
)

var errTest = errors.New("connection refused")

// A step is what an upstream did after a time.
type healthStep struct {
	after time.Duration
	fails bool
	want  change
	out   bool
	pause time.Duration // until it should be asked
}

func TestHealth(t *testing.T) {
	cfg := Health{Interval: 10 * time.Second, Timeout: time.Second, Fails: 3, Retry: 2 * time.Second}
	for name, steps := range map[string][]healthStep{
		"it answers": {
			{pause: 10 * time.Second},
			{after: time.Minute, pause: 10 * time.Second},
		},
		"three failures in a row take it out, growing pauses follow, one answer brings it back": {
			{pause: 10 * time.Second},
			{fails: true, pause: 2 * time.Second},
			{fails: true, pause: 4 * time.Second},
			{fails: true, want: wentDown, out: true, pause: 8 * time.Second},
			{fails: true, out: true, pause: 10 * time.Second},
			{fails: true, out: true, pause: 10 * time.Second},
			{want: cameUp, pause: 10 * time.Second},
			{fails: true, pause: 2 * time.Second},
		},
		"an answer in between begins the count anew": {
			{pause: 10 * time.Second},
			{fails: true, pause: 2 * time.Second},
			{fails: true, pause: 4 * time.Second},
			{pause: 10 * time.Second},
			{fails: true, pause: 2 * time.Second},
			{fails: true, pause: 4 * time.Second},
		},
		"one that never answered has no credit": {
			{fails: true, want: wentDown, out: true, pause: 2 * time.Second},
			{fails: true, out: true, pause: 4 * time.Second},
			{want: cameUp, pause: 10 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, now := newHealth(cfg), time.Unix(0, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				var got change
				if s.fails {
					got = h.failed(now, errTest)
				} else {
					got, _ = h.answered(now)
				}
				if got != s.want || h.usable() == s.out || h.next().Sub(now) != s.pause {
					t.Fatalf("step %d: change %d, usable %v, next in %v, expected %+v", i, got, h.usable(), h.next().Sub(now), s)
				}
				if wrong := h.state(); s.out != errors.Is(wrong, errTest) {
					t.Fatalf("step %d: its state is %v", i, wrong)
				}
			}
		})
	}
}

func TestHealthTellsHowLongItWasOut(t *testing.T) {
	h, now := newHealth(DefaultConfig().Health), time.Unix(0, 0)
	h.failed(now, errTest)
	if _, down := h.answered(now.Add(90 * time.Second)); down != 90*time.Second {
		t.Errorf("it was out for %v", down)
	}
}

// Only one asks at a time: who takes the turn sets the next one.
func TestHealthIsAskedOnce(t *testing.T) {
	h, now := newHealth(DefaultConfig().Health), time.Unix(0, 0)
	if !h.asking(now) || h.asking(now) {
		t.Error("the turn was not taken, or taken twice")
	}
	h.answered(now)
	if h.asking(now.Add(time.Minute-1)) || !h.asking(now.Add(time.Minute)) {
		t.Error("it is not asked when the interval is over")
	}
}

// Many failures in a short time must not overflow the pause.
func TestHealthPauseIsBounded(t *testing.T) {
	h, now := newHealth(DefaultConfig().Health), time.Unix(0, 0)
	for range 1000 {
		h.failed(now, errTest)
	}
	if got := h.next().Sub(now); got != time.Minute {
		t.Errorf("the pause is %v", got)
	}
}
