package wire

import (
	"net/netip"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	var r Rate
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a4, b4, c4 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.3.1")
	a6, b6 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for i, tc := range []struct {
		a     netip.Addr
		after time.Duration
		want  bool
	}{
		{a: a4, want: true}, {a: a4, want: true}, {a: a4, want: false}, // two a minute, at once if it likes
		{a: b4, want: true}, {a: b4, want: false}, // three from a /24
		{a: c4, want: true},                                                                 // another one
		{a: a6, want: true}, {a: a6, want: true}, {a: b6, want: true}, {a: b6, want: false}, // or a /64
		{a: a4, after: 19 * time.Second, want: false}, // the network has one more every 20 seconds
		{a: a4, after: 29 * time.Second, want: false}, // and the address one every 30
		{a: a4, after: 30 * time.Second, want: true},
		{a: a4, after: 30 * time.Second, want: false},
		{a: b4, after: 40 * time.Second, want: true}, // what was refused used nothing up
		{a: a4, after: 10 * time.Minute, want: true}, {a: a4, after: 10 * time.Minute, want: true}, {a: a4, after: 10 * time.Minute, want: false},
		{a: a4, after: -time.Hour, want: true}, // the clock was set back: nobody is locked out until it is that late again
		{a: netip.Addr{}, want: true},
	} {
		if got := r.Allow(tc.a, 2, 3, start.Add(tc.after)); got != tc.want {
			t.Errorf("%d: %v after %v: got %v", i, tc.a, tc.after, got)
		}
	}
}

// A flood from everywhere takes no more memory than is meant for it, and does not set free the network that floods.
func TestRateIsBounded(t *testing.T) {
	var r Rate
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	passed := 0
	for i := range 3 * rateKept {
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		if r.Allow(a, 5, 10, now) {
			passed++
		}
		r.Allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5, 10, now)
	}
	if n := r.whole.Len(); n > rateKept {
		t.Errorf("%d are kept, expected at most %d", n, rateKept)
	}
	if passed != 10 {
		t.Errorf("%d connections from one /64, expected 10", passed)
	}
}

func TestArrivals(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	census := new(Census)
	cfg := Config{Census: census, ProxyFrom: loopback(), Limits: Limits{Arrivals: 2}, Now: func() time.Time { return now }}
	one, two := serve(t, cfg), serve(t, cfg)
	come := func(s *site, ip, want string) {
		t.Helper()
		c := s.dial()
		c.send("PROXY TCP4 " + ip + " 198.51.100.1 1 25\r\n")
		c.want(want)
		if want == "220" {
			c.do("QUIT", "221")
		}
		c.wantEnd()
	}
	come(one, "192.0.2.7", "220")
	come(two, "192.0.2.7", "220")
	come(one, "192.0.2.7", "421 4.7.0 mx.test too many new connections from your address, try again in a minute") // over both listeners
	come(two, "192.0.2.8", "220")
	if st := one.l.Stats(); st.Hasty != 1 || st.Crowded != 0 {
		t.Errorf("%+v", st)
	}
}

// Listeners that share a census share the limit of all connections.
func TestSharedCensus(t *testing.T) {
	cfg := Config{Census: new(Census), Limits: Limits{Connections: 1}}
	one, two := serve(t, cfg), serve(t, cfg)
	c := one.dial()
	c.hello()
	two.dial().want("421 4.3.2 mx.test too many connections")
	c.do("QUIT", "221")
	one.reason()
	two.dial().hello()
}
