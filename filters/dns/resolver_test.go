package dns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"postern/filters/dns"
	"postern/filters/dns/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient never gives up by itself: where a test passes with it, no time-out helped.
const patient = time.Hour

const example = `
$ORIGIN example.org.
$TTL 300
@        SOA ns hostmaster 1 3600 600 86400 60
@        MX  20 backup
@        MX  10 MAIL
nullmx   MX  0 .
@        TXT "v=spf1 " "include:x " "-all"
@        TXT "tab\009quote\"backslash\\umlaut\195\164"
www      A   192.0.2.1
www      A   192.0.2.2
www      AAAA 2001:db8::1
v6       AAAA 2001:db8::2
mapped   AAAA ::ffff:192.0.2.7
alias    CNAME Www
chain    CNAME alias
loop1    CNAME loop2
loop2    CNAME loop1
self     CNAME self
dangling CNAME nowhere.example.
bare     CNAME text
text     TXT "only text"
x._domainkey TXT "v=DKIM1; p="
o'hara+x TXT "odd octets"
bücher   TXT "never asked for"
xn--bcher-kva TXT "a-label"
_dmarc.xn--bcher-kva TXT "v=DMARC1; p=none"
wide     TXT "0123456789"
; @truncate wide
; @servfail servfail
; @refused  refused
; @timeout  timeout
; @garbage  garbage
; @lie      lie
; @stray    www
; @formerr  old
old      A   192.0.2.3
1.2.0.192.in-addr.arpa. PTR WWW.example.org.
1.2.0.192.in-addr.arpa. PTR a\.b.example.org.
2.2.0.192.in-addr.arpa. PTR .
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR www.example.org.
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

func newResolver(t testing.TB, cfg dns.Config) *dns.Resolver {
	t.Helper()
	r, err := dns.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// look gives the records of a name as text, whatever their type.
func look(ctx context.Context, l dns.Lookuper, typ, name string) (out []string, err error) {
	var addrs []netip.Addr
	switch typ {
	case "A":
		addrs, err = l.A(ctx, name)
	case "AAAA":
		addrs, err = l.AAAA(ctx, name)
	case "TXT":
		return l.TXT(ctx, name)
	case "MX":
		var mx []dns.MX
		mx, err = l.MX(ctx, name)
		for _, m := range mx {
			out = append(out, fmt.Sprintf("%d %s", m.Pref, m.Host))
		}
	case "PTR":
		return l.PTR(ctx, netip.MustParseAddr(name))
	}
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out, err
}

func TestRecords(t *testing.T) {
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient, Retry: patient})
	tests := []struct {
		typ, name string
		want      []string
	}{
		// The server sends forged answers before the right ones for this name.
		{"A", "www.example.org", []string{"192.0.2.1", "192.0.2.2"}},
		{"AAAA", "WWW.Example.ORG.", []string{"2001:db8::1"}},
		{"AAAA", "mapped.example.org", []string{"::ffff:192.0.2.7"}},
		// Character-strings are joined, escapes of the zone file undone, octets kept.
		{"TXT", "example.org", []string{"v=spf1 include:x -all", "tab\tquote\"backslash\\umlautä"}},
		// Sorted by preference, lower case.
		{"MX", "example.org", []string{"10 mail.example.org", "20 backup.example.org"}},
		{"MX", "nullmx.example.org", []string{"0 ."}},
		{"A", "alias.example.org", []string{"192.0.2.1", "192.0.2.2"}},
		{"A", "chain.example.org", []string{"192.0.2.1", "192.0.2.2"}},
		{"TXT", "x._domainkey.example.org", []string{"v=DKIM1; p="}},
		{"TXT", "O'Hara+x.example.org", []string{"odd octets"}},
		// Unicode names are asked in their ASCII form, labels with an underscore beside them.
		{"TXT", "Bücher.example.org", []string{"a-label"}},
		{"TXT", "_dmarc.bücher.example.org", []string{"v=DMARC1; p=none"}},
		// Over TCP, since it is truncated over UDP.
		{"TXT", "wide.example.org", []string{"0123456789"}},
		// Without EDNS0, to which the server answers FORMERR.
		{"A", "old.example.org", []string{"192.0.2.3"}},
		// The name with a dot inside a label is no host's.
		{"PTR", "192.0.2.1", []string{"www.example.org"}},
		{"PTR", "::ffff:192.0.2.1", []string{"www.example.org"}},
		{"PTR", "2001:db8::1", []string{"www.example.org"}},
	}
	for _, tt := range tests {
		got, err := look(t.Context(), r, tt.typ, tt.name)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: %q, %v; want %q", tt.typ, tt.name, got, err, tt.want)
		}
	}
	// The second half of the EDNS0 story: known by now, it is not tried again.
	if n := s.Queries()["old.example.org A"]; n != 2 {
		t.Errorf("the server without EDNS0 was asked %d times, want twice", n)
	}
}

func TestKinds(t *testing.T) {
	const silence = "no answer within 100ms"
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient, Retry: patient})
	hasty := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: 100 * time.Millisecond})
	tests := []struct {
		typ, name string
		want      dns.Kind
		cause     string // part of the error's text
	}{
		{"A", "none.example.org", dns.NotExist, ""},
		// The alias exists, its target does not (RFC 6604).
		{"A", "dangling.example.org", dns.NotExist, ""},
		{"TXT", "www.example.org", dns.NoData, ""},
		{"A", "bare.example.org", dns.NoData, ""},
		// Exists, for the sake of what is below it.
		{"TXT", "_domainkey.example.org", dns.NoData, ""},
		// All its names are unusable.
		{"PTR", "192.0.2.2", dns.NoData, ""},
		{"PTR", "192.0.2.3", dns.NotExist, ""},
		{"TXT", "servfail.example.org", dns.Temporary, "SERVFAIL"},
		{"TXT", "refused.example.org", dns.Temporary, "REFUSED"},
		{"TXT", "timeout.example.org", dns.Temporary, silence},
		{"TXT", "garbage.example.org", dns.Temporary, "malformed"},
		// Answers to something else are ignored, so nothing comes.
		{"TXT", "lie.example.org", dns.Temporary, silence},
		{"A", "loop1.example.org", dns.Temporary, "CNAME loop"},
		{"A", "self.example.org", dns.Temporary, "CNAME loop"},
		// Names that DNS cannot have: nobody is asked.
		{"A", "", dns.NotExist, "empty"},
		{"A", ".", dns.NotExist, "empty"},
		{"A", "a..example.org", dns.NotExist, "label"},
		{"A", ".example.org", dns.NotExist, "label"},
		{"A", strings.Repeat("a", 64) + ".example.org", dns.NotExist, "label"},
		{"A", strings.Repeat("a.", 127) + "org", dns.NotExist, "253"},
		{"A", strings.Repeat("a", 1<<20), dns.NotExist, "253"},
		{"A", "a\x00.example.org", dns.NotExist, "control"},
		{"A", "a\n.example.org", dns.NotExist, "control"},
		{"A", "a\xff.example.org", dns.NotExist, "UTF-8"},
		{"A", "a\u202e.example.org", dns.NotExist, "ASCII"},
	}
	for _, tt := range tests {
		ask := r
		if tt.cause == silence {
			ask = hasty
		}
		got, err := look(t.Context(), ask, tt.typ, tt.name)
		if dns.KindOf(err) != tt.want || len(got) > 0 || !strings.Contains(err.Error(), tt.cause) {
			t.Errorf("%s %.40q: %q, %v; want %v and %q", tt.typ, tt.name, got, err, tt.want, tt.cause)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x00\n") {
			t.Errorf("%s %.40q: the error has control characters: %q", tt.typ, tt.name, err)
		}
	}
	if _, err := r.PTR(t.Context(), netip.Addr{}); !dns.IsNotExist(err) {
		t.Errorf("PTR of no address: %v", err)
	}
}

func TestErrorHelpers(t *testing.T) {
	kind := func(k dns.Kind) error { return fmt.Errorf("wrapped: %w", &dns.Error{Kind: k}) }
	tests := []struct {
		err                             error
		notExist, noData, void, tmp, of bool
	}{
		{nil, false, false, false, false, false},
		{kind(dns.NotExist), true, false, true, false, false},
		{kind(dns.NoData), false, true, true, false, false},
		{kind(dns.Temporary), false, false, false, true, false},
		{kind(dns.NoNetwork), false, false, false, true, true},
		{kind(dns.OverBudget), false, false, false, true, false},
		// Whatever else goes wrong is never taken for an answer.
		{errors.New("other"), false, false, false, true, false},
	}
	for _, tt := range tests {
		if dns.IsNotExist(tt.err) != tt.notExist || dns.IsNoData(tt.err) != tt.noData || dns.IsVoid(tt.err) != tt.void ||
			dns.IsTemporary(tt.err) != tt.tmp || dns.IsOffline(tt.err) != tt.of {
			t.Errorf("%v: wrong", tt.err)
		}
	}
}

func TestOffline(t *testing.T) {
	r := dns.Offline()
	defer r.Close()
	for _, typ := range []string{"A", "AAAA", "TXT", "MX"} {
		if _, err := look(t.Context(), r, typ, "example.org"); !dns.IsOffline(err) || !dns.IsTemporary(err) {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

func TestAddrs(t *testing.T) {
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	tests := []struct {
		name string
		want []string
		kind dns.Kind
	}{
		{"www.example.org", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, 0},
		{"old.example.org", []string{"192.0.2.3"}, 0},
		{"v6.example.org", []string{"2001:db8::2"}, 0},
		{"text.example.org", nil, dns.NoData},
		{"none.example.org", nil, dns.NotExist},
		{"servfail.example.org", nil, dns.Temporary},
	}
	for _, tt := range tests {
		addrs, err := r.Addrs(t.Context(), tt.name)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) || dns.KindOf(err) != tt.kind {
			t.Errorf("%s: %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.kind)
		}
	}
}

// TestLargeAnswers has answers of up to 64 KB: text beyond the bound is a failure, sets of addresses are cut.
func TestLargeAnswers(t *testing.T) {
	var src strings.Builder
	src.WriteString("$ORIGIN example.org.\n")
	for i := range 250 {
		fmt.Fprintf(&src, "huge TXT \"%03d%s\"\n", i, strings.Repeat("x", 240))
	}
	for i := range 2000 {
		fmt.Fprintf(&src, "many A 10.0.%d.%d\n", i/250, i%250)
	}
	for range 3000 {
		fmt.Fprintf(&src, "empty TXT \"\"\n")
	}
	for i := range 100 {
		fmt.Fprintf(&src, "large TXT \"%03d%s\"\n", i, strings.Repeat("x", 240))
	}
	s := serve(t, src.String())
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	if got, err := r.TXT(t.Context(), "large.example.org"); len(got) != 100 {
		t.Errorf("24 KB of text: %d records, %v", len(got), err)
	}
	for _, name := range []string{"huge.example.org", "empty.example.org"} {
		if got, err := r.TXT(t.Context(), name); !dns.IsTemporary(err) || len(got) > 0 {
			t.Errorf("%s: %d records, %v; want a failure", name, len(got), err)
		}
	}
	if got, err := r.A(t.Context(), "many.example.org"); len(got) != 256 {
		t.Errorf("2000 addresses: %d, %v; want the first 256", len(got), err)
	}
}

func TestOctetsOfTextSurvive(t *testing.T) {
	all := make([]byte, 256)
	var src strings.Builder
	src.WriteString("all.example. TXT \"")
	for i := range all {
		all[i] = byte(i)
		fmt.Fprintf(&src, "\\%03d", i)
	}
	src.WriteString("\"\n")
	s := serve(t, src.String())
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	got, err := r.TXT(t.Context(), "all.example")
	if err != nil || len(got) != 1 || !bytes.Equal([]byte(got[0]), all) {
		t.Errorf("%q, %v; want all octets", got, err)
	}
}

func TestAccounts(t *testing.T) {
	s := serve(t, example)
	r := newResolver(t, dns.Config{Servers: []string{s.Addr()}, Timeout: patient})
	var message, check dns.Stats
	var shown []dns.Lookup
	ctx := dns.WithBudget(dns.WithStats(t.Context(), &message), 4)
	inner := dns.WithTrace(dns.WithBudget(dns.WithStats(ctx, &check), 3), func(l dns.Lookup) { shown = append(shown, l) })

	for _, name := range []string{"Www.example.org", "www.example.org.", "a..b"} {
		r.A(inner, name) // the errors are looked at below
	}
	if _, err := r.A(inner, "www.example.org"); dns.KindOf(err) != dns.OverBudget {
		t.Errorf("fourth look-up of a budget of three: %v", err)
	}
	// The look-up that the inner budget refused was charged to the outer one as well.
	if _, err := r.A(ctx, "www.example.org"); dns.KindOf(err) != dns.OverBudget {
		t.Errorf("fifth look-up of a budget of four: %v", err)
	}
	if message.Lookups() != 5 || check.Lookups() != 4 {
		t.Errorf("%d and %d look-ups counted, want 5 and 4", message.Lookups(), check.Lookups())
	}
	if message.Queries() != 1 || check.Queries() != 1 {
		t.Errorf("%d and %d queries counted, want one each", message.Queries(), check.Queries())
	}
	if message.Time() <= 0 {
		t.Error("no time counted")
	}
	want := []dns.Lookup{
		{Name: "www.example.org", Type: "A", Answer: []string{"192.0.2.1", "192.0.2.2"}},
		{Name: "www.example.org", Type: "A", Answer: []string{"192.0.2.1", "192.0.2.2"}, Cached: true},
		{Name: "a..b", Type: "A", Cached: true},
		{Name: "www.example.org", Type: "A", Cached: true},
	}
	if d := cmp.Diff(want, shown, cmpopts.IgnoreFields(dns.Lookup{}, "Took", "Err")); d != "" {
		t.Errorf("trace (-want +got):\n%s", d)
	}
	if !dns.IsNotExist(shown[2].Err) || dns.KindOf(shown[3].Err) != dns.OverBudget {
		t.Errorf("trace shows the errors %v and %v", shown[2].Err, shown[3].Err)
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		cfg  dns.Config
		want string
	}{
		{dns.Config{Servers: []string{"ns.example.org"}}, `dns: server "ns.example.org": expected an IP address, with or without port, such as "127.0.0.1:53"`},
		{dns.Config{Servers: []string{"127.0.0.1:0"}}, "expected an IP address"},
		{dns.Config{Servers: []string{"127.0.0.1:99999"}}, "expected an IP address"},
		{dns.Config{Servers: []string{""}}, "expected an IP address"},
		{dns.Config{Servers: make([]string, 9)}, "at most 8"},
		{dns.Config{Timeout: -1}, "negative"},
	}
	for _, tt := range tests {
		r, err := dns.New(tt.cfg)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

func TestParseServer(t *testing.T) {
	tests := []struct{ in, want string }{
		{"192.0.2.53", "192.0.2.53:53"},
		{"192.0.2.53:5353", "192.0.2.53:5353"},
		{"2001:db8::53", "[2001:db8::53]:53"},
		{"[2001:db8::53]", "[2001:db8::53]:53"},
		{"[2001:db8::53]:5353", "[2001:db8::53]:5353"},
		{"fe80::1%eth0", "[fe80::1%eth0]:53"},
	}
	for _, tt := range tests {
		if got, err := dns.ParseServer(tt.in); err != nil || got.String() != tt.want {
			t.Errorf("%s: %v, %v; want %s", tt.in, got, err, tt.want)
		}
	}
}

// deadPort gives an address at which nobody answers, and the kernel says so.
func deadPort(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}
