package zone_test

import (
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"postern/filters/dns/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const example = `
$ORIGIN example.org.
$TTL 300
@        SOA ns hostmaster 1 3600 600 86400 60
@        TXT "v=spf1 -all"
www      A   192.0.2.1
www      A   192.0.2.2
alias    CNAME www
far      CNAME target.elsewhere.example.
dangling CNAME nowhere.example.
loop1    CNAME loop2
loop2    CNAME loop1
deep.below.ent TXT "x"
*.wild   A   192.0.2.9
*.wild   MX  10 www
sub.wild TXT "no A here"
big      TXT "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
big      TXT "1123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
big      TXT "2123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
big      TXT "3123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
big      TXT "4123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
$ORIGIN elsewhere.example.
target   A   198.51.100.1
; @servfail broken
; @refused  closed TXT
; @truncate target MX
; @timeout  *.silent
; @formerr  old
; @lose     flaky
; a comment with an @ in it
; @ is the origin
`

func serve(t testing.TB, src string) *zone.Server {
	t.Helper()
	z, err := zone.Parse("test.zone", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	s, err := zone.Serve(z)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ask puts one question without EDNS0, over network.
func ask(t testing.TB, s *zone.Server, network, name string, typ uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, typ)
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	reply, _, err := c.Exchange(m, s.Addr())
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.Type(typ), err)
	}
	return reply
}

func TestAnswers(t *testing.T) {
	s := serve(t, example)
	tests := []struct {
		name  string
		typ   uint16
		rcode int
		want  []string // the answer section, without TTL and class
		soa   string   // owner of the SOA in the authority section; "" for none
	}{
		// Plain data, all records of the type.
		{"www.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"www.example.org. A 192.0.2.1", "www.example.org. A 192.0.2.2"}, ""},
		// The case of the question is kept, that of the zone doesn't matter.
		{"WwW.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"WwW.example.org. A 192.0.2.1", "WwW.example.org. A 192.0.2.2"}, ""},
		// The name has other types only.
		{"www.example.org.", dns.TypeTXT, dns.RcodeSuccess, nil, "example.org."},
		// Empty non-terminals exist.
		{"below.ent.example.org.", dns.TypeTXT, dns.RcodeSuccess, nil, "example.org."},
		{"ent.example.org.", dns.TypeTXT, dns.RcodeSuccess, nil, "example.org."},
		{"org.", dns.TypeTXT, dns.RcodeSuccess, nil, "."},
		// No such name, inside and outside what the file has.
		{"none.example.org.", dns.TypeA, dns.RcodeNameError, nil, "example.org."},
		{"example.net.", dns.TypeA, dns.RcodeNameError, nil, "."},
		// An alias within one origin, and to another.
		{"alias.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"alias.example.org. CNAME www.example.org.", "www.example.org. A 192.0.2.1", "www.example.org. A 192.0.2.2"}, ""},
		{"far.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"far.example.org. CNAME target.elsewhere.example.", "target.elsewhere.example. A 198.51.100.1"}, ""},
		// The alias itself is asked for.
		{"alias.example.org.", dns.TypeCNAME, dns.RcodeSuccess, []string{"alias.example.org. CNAME www.example.org."}, ""},
		// RFC 6604: the response code is that of the last name.
		{"dangling.example.org.", dns.TypeA, dns.RcodeNameError, []string{"dangling.example.org. CNAME nowhere.example."}, "."},
		// The alias leads to a name without this type.
		{"far.example.org.", dns.TypeTXT, dns.RcodeSuccess, []string{"far.example.org. CNAME target.elsewhere.example."}, "."},
		// RFC 4592: a wildcard covers several labels,
		{"a.b.wild.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"a.b.wild.example.org. A 192.0.2.9"}, ""},
		// has no data for other types,
		{"a.wild.example.org.", dns.TypeTXT, dns.RcodeSuccess, nil, "example.org."},
		// does not cover names that exist, nor what is below them.
		{"sub.wild.example.org.", dns.TypeA, dns.RcodeSuccess, nil, "example.org."},
		{"x.sub.wild.example.org.", dns.TypeA, dns.RcodeNameError, nil, "example.org."},
		// Faults.
		{"broken.elsewhere.example.", dns.TypeA, dns.RcodeServerFailure, nil, ""},
		{"closed.elsewhere.example.", dns.TypeTXT, dns.RcodeRefused, nil, ""},
		// Refused for TXT only; without records it does not exist.
		{"closed.elsewhere.example.", dns.TypeA, dns.RcodeNameError, nil, "."},
		// A format error is for those only who send EDNS0.
		{"old.elsewhere.example.", dns.TypeA, dns.RcodeNameError, nil, "."},
	}
	for _, tt := range tests {
		for _, network := range []string{"udp", "tcp", "udp"} { // the last is answered from memory
			reply := ask(t, s, network, tt.name, tt.typ)
			if reply.Rcode != tt.rcode {
				t.Errorf("%s %s over %s: rcode %d, want %d", tt.name, dns.Type(tt.typ), network, reply.Rcode, tt.rcode)
			}
			if got := texts(reply.Answer); !slices.Equal(got, tt.want) {
				t.Errorf("%s %s over %s: %q, want %q", tt.name, dns.Type(tt.typ), network, got, tt.want)
			}
			soa := ""
			for _, rr := range reply.Ns {
				soa = rr.Header().Name
			}
			if soa != tt.soa {
				t.Errorf("%s %s over %s: SOA of %q, want %q", tt.name, dns.Type(tt.typ), network, soa, tt.soa)
			}
		}
	}
}

func texts(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		h := rr.Header()
		out = append(out, h.Name+" "+dns.Type(h.Rrtype).String()+" "+strings.TrimPrefix(rr.String(), h.String()))
	}
	return out
}

func TestLoopOfAliasesEnds(t *testing.T) {
	s := serve(t, example)
	reply := ask(t, s, "tcp", "loop1.example.org.", dns.TypeA)
	if len(reply.Answer) == 0 || reply.Rcode != dns.RcodeSuccess {
		t.Errorf("rcode %d and %d aliases, want some aliases", reply.Rcode, len(reply.Answer))
	}
}

func TestTruncation(t *testing.T) {
	s := serve(t, example)
	// Larger than the 512 octets that a client without EDNS0 takes.
	if reply := ask(t, s, "udp", "big.example.org.", dns.TypeTXT); !reply.Truncated {
		t.Error("large answer over UDP: not truncated")
	}
	if reply := ask(t, s, "tcp", "big.example.org.", dns.TypeTXT); reply.Truncated || len(reply.Answer) != 5 {
		t.Errorf("large answer over TCP: truncated=%v with %d records, want all 5", reply.Truncated, len(reply.Answer))
	}
	m := new(dns.Msg)
	m.SetQuestion("big.example.org.", dns.TypeTXT)
	m.SetEdns0(1232, false)
	reply, _, err := (&dns.Client{}).Exchange(m, s.Addr())
	if err != nil || reply.Truncated || len(reply.Answer) != 5 || reply.IsEdns0() == nil {
		t.Errorf("with EDNS0: %v, %v; want all of it", reply, err)
	}
	// By directive, for one type.
	if reply := ask(t, s, "udp", "target.elsewhere.example.", dns.TypeMX); !reply.Truncated {
		t.Error("@truncate: not truncated")
	}
	if reply := ask(t, s, "udp", "target.elsewhere.example.", dns.TypeA); reply.Truncated {
		t.Error("@truncate of MX: A truncated")
	}
}

func TestFormatErrorForEDNS(t *testing.T) {
	s := serve(t, example)
	m := new(dns.Msg)
	m.SetQuestion("old.elsewhere.example.", dns.TypeA)
	m.SetEdns0(1232, false)
	reply, _, err := (&dns.Client{}).Exchange(m, s.Addr())
	if reply == nil || reply.Rcode != dns.RcodeFormatError {
		t.Errorf("%v, %v; want FORMERR", reply, err)
	}
}

// TestSilence asks a name that is never answered and one whose first query gets lost, and then one that is answered: an
// answer to the earlier questions would have come before.
func TestSilence(t *testing.T) {
	s := serve(t, example)
	c, err := net.Dial("udp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := &dns.Conn{Conn: c}
	var last uint16
	for _, name := range []string{"a.silent.elsewhere.example.", "flaky.elsewhere.example.", "www.example.org."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		last = m.Id
	}
	reply, err := conn.ReadMsg()
	if err != nil || reply.Id != last {
		t.Fatalf("first reply %v, %v; want the one to the last question", reply, err)
	}
	if reply := ask(t, s, "udp", "flaky.elsewhere.example.", dns.TypeA); reply.Rcode != dns.RcodeNameError {
		t.Errorf("second query for the flaky name: rcode %d", reply.Rcode)
	}
	want := map[string]int{
		"a.silent.elsewhere.example A": 1, "flaky.elsewhere.example A": 2, "www.example.org A": 1,
	}
	got := s.Queries()
	for k, n := range want {
		if got[k] != n {
			t.Errorf("%s was counted %d times, want %d", k, got[k], n)
		}
	}
	if s.Total() != 4 {
		t.Errorf("%d queries in all, want 4", s.Total())
	}
}

func TestLossAndDelay(t *testing.T) {
	s := serve(t, example)
	s.SetDelay(time.Millisecond)
	for range 3 {
		ask(t, s, "udp", "www.example.org.", dns.TypeA)
		ask(t, s, "tcp", "www.example.org.", dns.TypeA)
	}
	s.SetLoss(1) // all of them
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	if _, _, err := (&dns.Client{Timeout: 50 * time.Millisecond}).Exchange(m, s.Addr()); err == nil {
		t.Error("an answer although every query gets lost")
	}
}

// TestCloseWithAnswersUnderWay leaves it to goleak to find what goes on after Close.
func TestCloseWithAnswersUnderWay(t *testing.T) {
	s := serve(t, example)
	s.SetDelay(time.Hour)
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	if err := (&dns.Conn{Conn: c}).WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	u, err := net.Dial("udp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := (&dns.Conn{Conn: u}).WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	for s.Total() < 2 {
		runtime.Gosched()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ src, want string }{
		{"www A 192.0.2.1\nwww A nonsense\n", `test.zone:2:7: bad A A: "nonsense"`},
		{"; @explode www\n", `test.zone:1:3: unknown directive "@explode", expected one of [servfail timeout truncate refused formerr lie stray garbage lose]`},
		{"\n; @timeout\n", `test.zone:2:3: a directive has the form "@what name [type]"`},
		{"; @timeout www NOPE\n", `test.zone:1:3: unknown record type "NOPE"`},
		{"; @timeout a..b\n", `test.zone:1:3: "a..b." is not a domain name`},
	}
	for _, tt := range tests {
		_, err := zone.Parse("test.zone", []byte(tt.src))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%q:\n got %v\nwant %s", tt.src, err, tt.want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	m.SetEdns0(1232, false)
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:20])
	f.Add([]byte{})
	z, err := zone.Parse("test.zone", []byte(example))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, reply := range zone.Reply(z, packet) {
			if len(reply) < 12 || reply[0] != packet[0] || reply[1] != packet[1] || reply[2]&0x80 == 0 {
				t.Errorf("%x is no reply to %x", reply, packet)
			}
		}
	})
}

func BenchmarkServe(b *testing.B) {
	s := serve(b, example)
	c, err := net.Dial("udp", s.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	m := new(dns.Msg)
	m.SetQuestion("www.example.org.", dns.TypeA)
	packet, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 4096)
	for b.Loop() {
		if _, err := c.Write(packet); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
