package samples

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"

	"postern/filters/dns/zone"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load gives the samples.
func load(t *testing.T) []Sample {
	t.Helper()
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestIndexIsWholeAndSound(t *testing.T) {
	all := load(t)
	var indexed []string
	for _, s := range all {
		indexed = append(indexed, s.File)
		if s.Title == "" || s.Helo == "" || !s.IP.IsValid() || len(s.Rcpt) == 0 || s.Expect.Code == 0 {
			t.Errorf("%s: a field is missing: %+v", s.File, s.Expect)
		}
		if !slices.Contains([]string{"accept", "tag", "quarantine", "defer", "reject", "refuse"}, s.Expect.Action) {
			t.Errorf("%s: unknown action %q", s.File, s.Expect.Action)
		}
	}
	for _, pattern := range []string{"*.eml", "*.smtp"} {
		onDisk, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range onDisk {
			if !slices.Contains(indexed, f) {
				t.Errorf("%s is not in the index", f)
			}
		}
	}
	if len(all) < 12 {
		t.Errorf("%d samples, want at least 12", len(all))
	}
}

// A sample must be what a server would hear: signatures cover each octet, and a bare LF would be refused.
func TestSamplesAreAsOnTheWire(t *testing.T) {
	for _, s := range load(t) {
		rest := s.Data
		for n := 1; len(rest) > 0; n++ {
			line, after, ok := bytes.Cut(rest, []byte("\r\n"))
			if !ok {
				t.Errorf("%s:%d: the last line does not end in CRLF", s.File, n)
			}
			if bytes.ContainsAny(line, "\r\n\x00") {
				t.Errorf("%s:%d: a bare CR, bare LF or NUL", s.File, n)
			}
			if len(line) > 998 {
				t.Errorf("%s:%d: %d octets, want at most 998 (RFC 5322 section 2.1.1)", s.File, n, len(line))
			}
			rest = after
		}
	}
}

func TestDialogueIsTheOneOfAnOldClient(t *testing.T) {
	for _, s := range load(t) {
		if !s.Dialogue() {
			continue
		}
		text := string(s.Data)
		want := "HELO " + s.Helo + "\r\nMAIL FROM:<" + s.From + ">\r\nRCPT TO:<" + s.Rcpt[0] + ">\r\nDATA\r\n"
		if !strings.HasPrefix(text, want) || !strings.HasSuffix(text, "\r\n.\r\nQUIT\r\n") {
			t.Errorf("%s does not begin with\n%s or not end with a dot and QUIT", s.File, want)
		}
		if strings.Contains(text, "\r\n\r\n") {
			t.Errorf("%s has an empty line, whose absence is the point of it", s.File)
		}
		return
	}
	t.Error("there is no dialogue among the samples")
}

func TestSignaturesAreAsTheIndexSays(t *testing.T) {
	resolver := startZone(t)
	lookup := func(name string) ([]string, error) { return resolver.LookupTXT(context.Background(), name) }
	for _, s := range load(t) {
		if len(s.Sign) == 0 {
			continue
		}
		results, err := dkim.VerifyWithOptions(bytes.NewReader(s.Data), &dkim.VerifyOptions{LookupTXT: lookup})
		if err != nil {
			t.Errorf("%s: %v", s.File, err)
			continue
		}
		if len(results) != len(s.Sign) {
			t.Errorf("%s: %d signatures, the index has %d", s.File, len(results), len(s.Sign))
			continue
		}
		for i, sign := range s.Sign {
			got := results[len(results)-1-i] // the last one added stands on top
			broken := sign.Without != "" || s.Tamper.From != ""
			if got.Domain != sign.Domain || (got.Err != nil) != broken {
				t.Errorf("%s: signature of %s: error %v, want broken: %v", s.File, got.Domain, got.Err, broken)
			}
		}
	}
}

func TestSPFIsAsTheIndexSays(t *testing.T) {
	resolver := startZone(t)
	for _, s := range load(t) {
		for _, symbol := range s.Expect.Symbols {
			want, ok := strings.CutPrefix(symbol, "spf.")
			if !ok {
				continue
			}
			sender := s.From
			if sender == "" {
				sender = "postmaster@" + s.Helo // RFC 7208 section 2.4
			}
			got, err := spf.CheckHostWithSender(net.IP(s.IP.AsSlice()), s.Helo, sender, spf.WithResolver(resolver))
			if string(got) != want {
				t.Errorf("%s: SPF is %s (%v), the index says %s", s.File, got, err, want)
			}
		}
	}
}

func TestReverseNamesAreConfirmed(t *testing.T) {
	resolver := startZone(t)
	ctx := context.Background()
	for _, s := range load(t) {
		names, err := resolver.LookupAddr(ctx, s.IP.String())
		if s.IP.String() == "203.0.113.80" {
			if err == nil {
				t.Errorf("%s: the client has the name %q, want none", s.File, names)
			}
			continue
		}
		if err != nil || len(names) != 1 {
			t.Errorf("%s: names of %s are %q (%v), want one", s.File, s.IP, names, err)
			continue
		}
		addrs, err := resolver.LookupHost(ctx, names[0])
		if err != nil || !slices.Contains(addrs, s.IP.String()) {
			t.Errorf("%s: %s has the addresses %q (%v), want %s among them", s.File, names[0], addrs, err, s.IP)
		}
		if strings.TrimSuffix(names[0], ".") != s.Helo {
			t.Errorf("%s: HELO is %s, the client's name %s", s.File, s.Helo, names[0])
		}
	}
}

func TestBlocklistOfTheZone(t *testing.T) {
	resolver := startZone(t)
	for _, tc := range []struct {
		name   string
		listed bool
	}{
		{"99.113.0.203.dnsbl.example", true}, // the client of 05-dnsbl.eml
		{"10.2.0.192.dnsbl.example", false},  // the client of 01-clean.eml
		{"2.0.0.127.dnsbl.example", true},    // RFC 5782 section 5: must be listed
		{"2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.dnsbl.example", true}, // the same for IPv6: ::FFFF:7F00:2
		{"1.0.0.127.dnsbl.example", false}, // RFC 5782 section 5: must not be listed
	} {
		addrs, err := resolver.LookupHost(context.Background(), tc.name)
		if tc.listed && !slices.Equal(addrs, []string{"127.0.0.2"}) {
			t.Errorf("%s is %q (%v), want 127.0.0.2", tc.name, addrs, err)
		}
		if !tc.listed && err == nil {
			t.Errorf("%s is %q, want no such name", tc.name, addrs)
		}
	}
}

// startZone serves the samples' zone and gives a resolver that asks nobody else.
func startZone(t *testing.T) *net.Resolver {
	t.Helper()
	src, err := Zone()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zone.Parse("zone", src)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := zone.Serve(z)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, srv.Addr())
	}}
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
