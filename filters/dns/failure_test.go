package dns_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"postern/filters/dns"
)

// The tests here set Timeout, and where it must not help Retry, to an hour: one that passes did not wait for them.

func TestNextServerIsAskedEarly(t *testing.T) {
	silent := serve(t, "; @timeout *.\n")
	good := serve(t, example)
	r := newResolver(t, dns.Config{
		Servers: []string{silent.Addr(), good.Addr()}, Timeout: patient, Retry: 5 * time.Millisecond,
	})
	if got, err := r.A(t.Context(), "www.example.org"); len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if silent.Total() == 0 {
		t.Error("the preferred server was not asked")
	}
}

func TestNextServerIsAskedAtOnce(t *testing.T) {
	tests := []struct {
		name, first string
	}{
		{"the first says SERVFAIL", "; @servfail *.\n"},
		{"the first refuses", "; @refused *.\n"},
		{"the first answers in garbage", "; @garbage *.\n"},
		{"the first is not there", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			first := deadPort(t)
			if tt.first != "" {
				first = serve(t, tt.first).Addr()
			}
			good := serve(t, example)
			r := newResolver(t, dns.Config{Servers: []string{first, good.Addr()}, Timeout: patient, Retry: patient})
			if got, err := r.A(t.Context(), "www.example.org"); len(got) != 2 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestAllServersFail(t *testing.T) {
	s1, s2 := serve(t, "; @servfail *.\n"), serve(t, "; @refused *.\n")
	r := newResolver(t, dns.Config{Servers: []string{s1.Addr(), s2.Addr()}, Timeout: patient, Retry: patient})
	_, err := r.A(t.Context(), "www.example.org")
	if !dns.IsTemporary(err) || !strings.Contains(err.Error(), "SERVFAIL; ") || !strings.Contains(err.Error(), "REFUSED") {
		t.Errorf("%v; want both failures", err)
	}
	if n := s1.Total() + s2.Total(); n != 2 {
		t.Errorf("%d queries, want one to each server", n)
	}
}

func TestLostPackets(t *testing.T) {
	s := serve(t, "*.example.org. A 192.0.2.1\n; @lose flaky.example.org.\n")
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient, Retry: 5 * time.Millisecond, Cache: -1})
	if got, err := r.A(t.Context(), "flaky.example.org"); !dns.IsNotExist(err) && len(got) != 1 {
		t.Errorf("first packet lost: %v, %v", got, err)
	}
	s.SetLoss(3)
	for i := range 30 {
		if got, err := r.A(t.Context(), fmt.Sprintf("n%d.example.org", i)); len(got) != 1 {
			t.Errorf("every third packet lost: %v, %v", got, err)
		}
	}
}

// TestTriesAreBounded counts what goes out to a server that never answers.
func TestTriesAreBounded(t *testing.T) {
	s := serve(t, "; @timeout *.\n")
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: 100 * time.Millisecond, Retry: time.Microsecond})
	if _, err := r.A(t.Context(), "example.org"); !dns.IsTemporary(err) {
		t.Error(err)
	}
	waitFor(func() bool { return s.Total() > 0 }) // what was sent last may not have been read yet
	if n := s.Total(); n > 4 {
		t.Errorf("%d queries, want 1 to 4", n)
	}
}

// TestSilentServerIsAskedLast needs a handful of look-ups until the order changes.
func TestSilentServerIsAskedLast(t *testing.T) {
	silent, good := serve(t, "; @timeout *.\n"), serve(t, "*.example.org. A 192.0.2.1\n")
	r := newResolver(t, dns.Config{
		Servers: []string{silent.Addr(), good.Addr()}, Timeout: patient, Retry: 5 * time.Millisecond, Concurrent: 1,
	})
	for i := range 3 {
		if _, err := r.A(t.Context(), fmt.Sprintf("n%d.example.org", i)); err != nil {
			t.Fatal(err)
		}
	}
	order := dns.Order(r)
	if len(order) != 2 || order[0] != good.Addr() {
		t.Errorf("the order is %q, want %s first", order, good.Addr())
	}
}

func TestServerWithoutRecursion(t *testing.T) {
	s := newStub(t, func(q *mdns.Msg, _ bool) *mdns.Msg {
		m := new(mdns.Msg).SetReply(q)
		m.Ns = []mdns.RR{&mdns.NS{
			Hdr: mdns.RR_Header{Name: "org.", Rrtype: mdns.TypeNS, Class: mdns.ClassINET, Ttl: 60}, Ns: "ns.example.",
		}}
		return m
	})
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	_, err := r.A(t.Context(), "www.example.org")
	if !dns.IsTemporary(err) || !strings.Contains(err.Error(), "referral") {
		t.Errorf("%v; want a failure that speaks of the referral", err)
	}
}

// TestPartOfAChain has a server that gives one alias at a time.
func TestPartOfAChain(t *testing.T) {
	s := newStub(t, func(q *mdns.Msg, _ bool) *mdns.Msg {
		m := new(mdns.Msg).SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		h := mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeCNAME, Class: mdns.ClassINET, Ttl: 60}
		switch {
		case name == "a1.example.":
			m.Answer = []mdns.RR{&mdns.CNAME{Hdr: h, Target: "A2.example."}}
		case name == "a2.example.":
			h.Rrtype = mdns.TypeA
			m.Answer = []mdns.RR{&mdns.A{Hdr: h, A: []byte{192, 0, 2, 1}}}
		default: // without end
			m.Answer = []mdns.RR{&mdns.CNAME{Hdr: h, Target: "x" + name[:min(len(name)-9, 50)] + ".example."}}
		}
		return m
	})
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	if got, err := r.A(t.Context(), "a1.example"); len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := r.A(t.Context(), "endless.example"); !dns.IsTemporary(err) || !strings.Contains(err.Error(), "CNAME") {
		t.Errorf("endless chain: %v", err)
	}
	if n := s.asked(); n > 14 {
		t.Errorf("%d queries, want at most 2 and 12", n)
	}
}

func TestServerThatForgetsTheCase(t *testing.T) {
	s := newStub(t, func(q *mdns.Msg, tcp bool) *mdns.Msg {
		m := new(mdns.Msg).SetReply(q)
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
		ip := []byte{192, 0, 2, 66} // what a forger would send
		if tcp {
			ip = []byte{192, 0, 2, 1}
		}
		h := mdns.RR_Header{Name: m.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}
		m.Answer = []mdns.RR{&mdns.A{Hdr: h, A: ip}}
		return m
	})
	// So many letters that they are all lower case once in 2^60 runs.
	name := strings.Repeat("a", 60) + ".example"
	for _, plain := range []bool{false, true} {
		r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient, PlainCase: plain})
		want := "192.0.2.1"
		if plain {
			want = "192.0.2.66"
		}
		if got, err := r.A(t.Context(), name); len(got) != 1 || got[0].String() != want {
			t.Errorf("PlainCase %v: %v, %v; want %s", plain, got, err, want)
		}
	}
}

func TestFloodOfStrays(t *testing.T) {
	s := newRawStub(t, func(q []byte) [][]byte {
		out := make([][]byte, 200)
		for i := range out {
			p := append([]byte(nil), q...)
			p[0] ^= 0xff
			p[2] |= 0x80
			out[i] = p
		}
		return out
	})
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: 200 * time.Millisecond})
	if _, err := r.A(t.Context(), "www.example.org"); !dns.IsTemporary(err) {
		t.Error(err)
	}
}

// gate makes a stub that answers only after open is called.
func gate(t *testing.T) (s *stub, open func()) {
	c := make(chan struct{})
	s = newStub(t, func(q *mdns.Msg, _ bool) *mdns.Msg {
		<-c
		m := new(mdns.Msg).SetReply(q)
		h := mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}
		m.Answer = []mdns.RR{&mdns.A{Hdr: h, A: []byte{192, 0, 2, 1}}}
		return m
	})
	open = sync.OnceFunc(func() { close(c) })
	t.Cleanup(open) // runs before the stub's own
	return s, open
}

func waitFor(cond func() bool) {
	for !cond() {
		runtime.Gosched()
	}
}

func TestOneQueryForAll(t *testing.T) {
	s, open := gate(t)
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	const n = 100
	errs := make(chan error, n)
	for range n {
		go func() {
			got, err := r.A(t.Context(), "www.example.org")
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("got %v", got)
			}
			errs <- err
		}()
	}
	waitFor(func() bool { return dns.Waiters(r, "www.example.org", mdns.TypeA) == n })
	open()
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if s.asked() != 1 {
		t.Errorf("%d queries, want one", s.asked())
	}
}

func TestOneWaiterGivesUp(t *testing.T) {
	s, open := gate(t)
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	first, cancel := context.WithCancelCause(t.Context())
	reset := errors.New("the client sent RSET")
	errs := make(chan error, 2)
	go func() { _, err := r.A(first, "www.example.org"); errs <- err }()
	waitFor(func() bool { return dns.Waiters(r, "www.example.org", mdns.TypeA) == 1 })
	result := make(chan error)
	go func() { _, err := r.A(t.Context(), "www.example.org"); result <- err }()
	waitFor(func() bool { return dns.Waiters(r, "www.example.org", mdns.TypeA) == 2 })
	cancel(reset)
	if err := <-errs; !dns.IsTemporary(err) || !errors.Is(err, reset) {
		t.Errorf("the one who gave up got %v", err)
	}
	open()
	if err := <-result; err != nil {
		t.Errorf("the one who stayed got %v", err)
	}
	if s.asked() != 1 {
		t.Errorf("%d queries, want one", s.asked())
	}
}

func TestAllWaitersGiveUp(t *testing.T) {
	s, open := gate(t)
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { _, err := r.A(ctx, "www.example.org"); errs <- err }()
	waitFor(func() bool { return s.asked() == 1 })
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	open()
	// Nothing was learned, so nothing is remembered.
	if got, err := r.A(t.Context(), "www.example.org"); len(got) != 1 {
		t.Errorf("after that: %v, %v", got, err)
	}
	if _, err := r.A(ctx, "other.example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("under a context that has ended: %v", err)
	}
}

func TestCloseEndsLookups(t *testing.T) {
	s, open := gate(t)
	defer open()
	r := newResolver(t, dns.Config{Servers: []string{s.addr()}, Timeout: patient, Retry: patient})
	errs := make(chan error)
	go func() { _, err := r.A(t.Context(), "www.example.org"); errs <- err }()
	waitFor(func() bool { return s.asked() == 1 })
	r.Close()
	if err := <-errs; !dns.IsTemporary(err) || !errors.Is(err, dns.ErrClosed) {
		t.Errorf("under way: %v", err)
	}
	if _, err := r.A(t.Context(), "www.example.org"); !errors.Is(err, dns.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	s := serve(t, "*.example.org. A 192.0.2.1\n")
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: 100 * time.Millisecond, Concurrent: 1})
	free := dns.Occupy(r)
	_, err := r.A(t.Context(), "n0.example.org")
	if !dns.IsTemporary(err) || !strings.Contains(err.Error(), "too many") {
		t.Errorf("without room: %v", err)
	}
	if n := s.Total(); n != 0 {
		t.Errorf("%d queries without room", n)
	}
	free()
	// On a busy machine even an answer may come too late, but not each time.
	for i := 1; err != nil; i++ {
		_, err = r.A(t.Context(), fmt.Sprintf("n%d.example.org", i))
	}
}
