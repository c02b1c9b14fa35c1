package dns

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

func TestWireName(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 octets
	tests := []struct{ in, want string }{
		{"example.org", "example.org."},
		{"Example.ORG.", "example.org."},
		{"_dmarc.example.org", "_dmarc.example.org."},
		{long, long + "."},
		{"bücher.example", "xn--bcher-kva.example."},
		{"BÜCHER.example", "xn--bcher-kva.example."},
		{"faß.example", "xn--fa-hia.example."}, // IDNA 2008, not "fass"
		{"bücher。example", "xn--bcher-kva.example."},
		{"xn--bcher-kva.example", "xn--bcher-kva.example."},
		{"a--b.r3---sn.example", "a--b.r3---sn.example."},
		// What the macros of SPF can make.
		{`a b."c"\.example`, `a\ b.\"c\"\\.example.`},
		{"user@host.example", `user\@host.example.`},
		{"a/b=c+d.example", "a/b=c+d.example."},
		// Refused.
		{"", ""}, {".", ""}, {"..", ""}, {"a..b", ""}, {".a", ""}, {"a.b..", ""},
		{strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example."},
		{strings.Repeat("a", 64) + ".example", ""},
		{"a" + long, ""}, {long + ".a", ""},
		{strings.Repeat("ü", 64) + ".example", ""},
		{strings.Repeat("ü", 100_000), ""},
		{"a\x00b.example", ""}, {"a\tb.example", ""}, {"a\x7fb.example", ""}, {"a\xff.example", ""},
	}
	for _, tt := range tests {
		got, err := wireName(tt.in)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%.60q: %q, %v; want %q", tt.in, got, err, tt.want)
		}
		if err == nil && mustRepack(t, got) != got {
			t.Errorf("%.60q: %q comes back from a packet as %q", tt.in, got, mustRepack(t, got))
		}
	}
}

// mustRepack packs name and unpacks it again.
func mustRepack(t *testing.T, name string) string {
	t.Helper()
	p, err := newPacket(question{name: name, qtype: mdns.TypeA}, false, false)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := mdns.UnpackDomainName(p.octets, headerLen)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestReverseName(t *testing.T) {
	tests := []struct{ in, want string }{
		{"192.0.2.1", "1.2.0.192.in-addr.arpa"},
		{"::ffff:192.0.2.1", "1.2.0.192.in-addr.arpa"},
		{"2001:db8::cb01", "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	}
	for _, tt := range tests {
		if got := ReverseName(netip.MustParseAddr(tt.in)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
	if got := ReverseName(netip.Addr{}); got != "" {
		t.Errorf("no address: %q", got)
	}
}

func TestMatches(t *testing.T) {
	name := strings.Repeat("a", 60) + ".example." // mixed in case but for once in 2^60 runs
	p, err := newPacket(question{name: name, qtype: mdns.TypeA}, true, true)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(a []byte) []byte
		want   error
	}{
		{"the answer", func(a []byte) []byte { return a }, nil},
		{"empty", func([]byte) []byte { return nil }, errStray},
		{"cut in the header", func(a []byte) []byte { return a[:11] }, errStray},
		{"cut in the question", func(a []byte) []byte { return a[:headerLen+len(p.question)-1] }, errStray},
		{"another id", func(a []byte) []byte { a[1] ^= 1; return a }, errStray},
		{"our own question", func(a []byte) []byte { a[2] &^= flagResponse; return a }, errStray},
		{"another opcode", func(a []byte) []byte { a[2] |= 0x10; return a }, errStray},
		{"no question", func(a []byte) []byte { a[5] = 0; return a }, errStray},
		{"two questions", func(a []byte) []byte { a[5] = 2; return a }, errStray},
		{"another name", func(a []byte) []byte { a[headerLen+1] = 'b'; return a }, errStray},
		{"another type", func(a []byte) []byte { binary.BigEndian.PutUint16(a[headerLen+len(p.question)-4:], 28); return a }, errStray},
		{"another class", func(a []byte) []byte { a[headerLen+len(p.question)-1] = 3; return a }, errStray},
		{"truncated", func(a []byte) []byte { a[2] |= flagTruncated; return a }, errTruncated},
		{"in lower case", func(a []byte) []byte {
			copy(a[headerLen:], strings.ToLower(string(a[headerLen:headerLen+61])))
			return a
		}, errCase},
		// Servers that can't read the question may leave it out; nothing else may.
		{"format error alone", func(a []byte) []byte { a[5] = 0; a[3] = mdns.RcodeFormatError; return a[:headerLen] }, nil},
		{"NXDOMAIN alone", func(a []byte) []byte { a[5] = 0; a[3] = mdns.RcodeNameError; return a[:headerLen] }, errStray},
	}
	for _, tt := range tests {
		answer := append([]byte(nil), p.octets...)
		answer[2] |= flagResponse
		if err := p.matches(tt.change(answer)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestPacketsDiffer(t *testing.T) {
	ids := make(map[string]bool)
	for range 64 {
		p, err := newPacket(question{name: strings.Repeat("a", 60) + ".example.", qtype: mdns.TypeA}, true, true)
		if err != nil {
			t.Fatal(err)
		}
		ids[string(p.octets)] = true
	}
	if len(ids) != 64 { // they have 76 random bits
		t.Errorf("%d of 64 packets differ", len(ids))
	}
}

// FuzzAnswer reads octets as the answer to a question for each type: no panic, all bounds kept, and no name that could
// not be asked for again.
func FuzzAnswer(f *testing.F) {
	types := []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeMX, mdns.TypePTR}
	for _, rrs := range [][]string{
		{"www.example. 60 A 192.0.2.1", "www.example. 60 A 192.0.2.2"},
		{"www.example. 60 AAAA 2001:db8::1"},
		{"www.example. 60 CNAME a.example.", "a.example. 60 CNAME www.example."},
		{"www.example. 60 CNAME a.example.", `a.example. 60 TXT "a\000b" "c"`},
		{`www.example. 60 MX 10 a\.b.example.`, "www.example. 60 MX 5 ."},
		{"www.example. 60 PTR host.example."},
	} {
		m := new(mdns.Msg).SetQuestion("www.example.", mdns.TypeA)
		m.Response, m.Compress = true, true
		for _, s := range rrs {
			rr, err := mdns.NewRR(s)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		p, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, octets []byte) {
		msg, err := usable(unpack(octets))
		if err != nil {
			return
		}
		for _, typ := range types {
			rd := reading{question: question{name: "www.example.", qtype: typ}, ttl: maxTTL}
			a, done := rd.read(msg)
			if !done {
				if rd.links == 0 || rd.links > maxChain {
					t.Fatalf("asks on after %d aliases", rd.links)
				}
				continue
			}
			if (a.kind == 0) != (len(a.text()) > 0) {
				t.Errorf("kind %v with %q", a.kind, a.text())
			}
			if len(a.text()) > maxRecords && typ != mdns.TypeTXT || a.size() > 4*maxText || a.ttl < 0 {
				t.Errorf("%d records of %d octets for %v", len(a.text()), a.size(), a.ttl)
			}
			for _, m := range a.mx {
				a.names = append(a.names, m.Host)
			}
			for _, n := range a.names {
				if n == "." {
					continue
				}
				if wire, err := wireName(n); err != nil || wire != n+"." {
					t.Errorf("the name %q can't be asked for: %q, %v", n, wire, err)
				}
			}
		}
	})
}

func FuzzWireName(f *testing.F) {
	for _, s := range []string{"example.org", "bücher.example", `a\.b`, "a..b", "xn--a", "\u202eabc", "℀.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		wire, err := wireName(name)
		if err != nil {
			return
		}
		if got := mustRepack(t, wire); got != wire {
			t.Errorf("%q: %q comes back from a packet as %q", name, wire, got)
		}
	})
}
