package upstream

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAddress(t *testing.T) {
	good := []struct{ address, network, dial string }{
		{address: "smtp://127.0.0.1:2525", network: "tcp", dial: "127.0.0.1:2525"},
		{address: "smtp://mail.example.org", network: "tcp", dial: "mail.example.org:25"},
		{address: "smtp://mail.example.org/", network: "tcp", dial: "mail.example.org:25"},
		{address: "smtps://mail.example.org", network: "tcp", dial: "mail.example.org:465"},
		{address: "lmtp://localhost", network: "tcp", dial: "localhost:24"},
		{address: "smtp://[2001:db8::1]", network: "tcp", dial: "[2001:db8::1]:25"},
		{address: "smtp://[2001:db8::1]:587", network: "tcp", dial: "[2001:db8::1]:587"},
		{address: "lmtp+unix:///run/dovecot/lmtp", network: "unix", dial: "/run/dovecot/lmtp"},
		{address: "lmtp+unix:/run/dovecot/lmtp", network: "unix", dial: "/run/dovecot/lmtp"},
		{address: "maildir:/var/mail/x"},
		{address: "maildir:///var/mail/x"},
		{address: "maildir:./x"},
	}
	for _, tc := range good {
		u, err := New(Config{Address: tc.address})
		if err != nil {
			t.Errorf("%s: %v", tc.address, err)
			continue
		}
		if network, dial := u.Addr(); network != tc.network || dial != tc.dial || u.String() != tc.address {
			t.Errorf("%s: dials %q %q and calls itself %q", tc.address, network, dial, u)
		}
	}
}

func TestBadConfig(t *testing.T) {
	cases := []struct {
		cfg  Config
		want string
	}{
		{cfg: Config{Address: "ftp://x"}, want: `unknown scheme "ftp", expected smtp, smtps, lmtp, lmtp+unix or maildir`},
		{cfg: Config{Address: "127.0.0.1"}, want: `address "127.0.0.1" has no scheme, expected one like smtp://127.0.0.1:25`},
		{cfg: Config{Address: "127.0.0.1:25"}, want: `unknown scheme "127.0.0.1", expected smtp, smtps, lmtp, lmtp+unix or maildir`},
		{cfg: Config{Address: "smtp:mail.example.org"}, want: `address "smtp:mail.example.org": no "//" after the scheme, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://"}, want: `address "smtp://": "" is not a host name or an IP address, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://:25"}, want: `address "smtp://:25": "" is not a host name or an IP address, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://a b"}, want: `address "smtp://a b": "a b" is not a host name or an IP address, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://x:0"}, want: `address "smtp://x:0": port "0" is not a number from 1 to 65535, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://x:65536"}, want: `address "smtp://x:65536": port "65536" is not a number from 1 to 65535, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://x:smtp"}, want: `address "smtp://x:smtp": port "smtp" is not a number from 1 to 65535, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://2001:db8::1"}, want: `address "smtp://2001:db8::1": an IPv6 address needs brackets, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://[x]:25"}, want: `address "smtp://[x]:25": "[x]:25" is not an IP address in brackets, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://[::1]25"}, want: `address "smtp://[::1]25": port "25" is not a number from 1 to 65535, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "smtp://user@x"}, want: `address "smtp://user@x": '@' has no meaning here, expected smtp://host or smtp://host:port`},
		{cfg: Config{Address: "lmtp://x/path"}, want: `address "lmtp://x/path": '/' has no meaning here, expected lmtp://host or lmtp://host:port`},
		{cfg: Config{Address: "maildir:"}, want: `address "maildir:" has no path, expected maildir:/path`},
		{cfg: Config{Address: "lmtp+unix://host/x"}, want: `address "lmtp+unix://host/x" has a host where a path is meant, expected lmtp+unix:/path`},
		{cfg: Config{Address: "smtp://x", ClientInfo: "xclint"}, want: `unknown client_info "xclint", expected one of auto, xclient, xforward, proxy, proxy-v2, none`},
		{cfg: Config{Address: "smtp://x", TLS: "yes"}, want: `unknown tls "yes", expected one of opportunistic, required, none`},
		{cfg: Config{Address: "smtps://x", TLS: TLSNone}, want: `tls "none" does not go with smtps://, which is always verified; expected "required" or nothing`},
		{cfg: Config{Address: "lmtp+unix:/x", TLS: TLSRequired}, want: `tls "required" does not go with lmtp+unix:, which stays on this machine; expected "none" or nothing`},
		{cfg: Config{Address: "smtp://x", Hostname: "a\r\nb"}, want: `bad host name "a\r\nb", expected one like mx.example.org`},
	}
	for _, tc := range cases {
		if _, err := New(tc.cfg); err == nil || err.Error() != tc.want {
			t.Errorf("%+v:\n got %v\nwant %s", tc.cfg.Address, err, tc.want)
		}
	}
}

func TestDefaultTLS(t *testing.T) {
	for address, want := range map[string]string{
		"smtp://mail.example.org": TLSOpportunistic,
		"lmtp://192.0.2.1":        TLSOpportunistic,
		"smtp://127.0.0.1":        TLSNone,
		"smtp://[::1]:25":         TLSNone,
		"smtp://localhost":        TLSNone,
		"smtps://127.0.0.1":       TLSRequired,
		"lmtp+unix:/x":            TLSNone,
	} {
		u, err := New(Config{Address: address})
		if err != nil {
			t.Fatal(err)
		}
		if got := u.(*hop).cfg.TLS; got != want {
			t.Errorf("%s: %q, expected %q", address, got, want)
		}
	}
}

func TestReply(t *testing.T) {
	cases := []struct {
		in     string
		want   Reply
		text   string // of String
		reason string
	}{
		{in: "250 Ok\r\n", want: Reply{Code: 250, Lines: []string{"Ok"}}, text: "250 Ok"},
		{in: "250\r\n", want: Reply{Code: 250}, text: "250"},
		{in: "250 \r\n", want: Reply{Code: 250}, text: "250"},
		{in: "550 5.1.1 User unknown\r\n", want: Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"User unknown"}}, text: "550 5.1.1 User unknown"},
		{in: "550 5.1.1\r\n", want: Reply{Code: 550, Enhanced: "5.1.1"}, text: "550 5.1.1"},
		{in: "550-5.7.1 One\r\n550-5.7.1 two\r\n550 5.7.1 three\r\n", want: Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"One", "two", "three"}}, text: "550 5.7.1 One two three"},
		{in: "550-5.7.1 One\r\n550 two\r\n", want: Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"One", "two"}}, text: "550 5.7.1 One two", reason: "some servers say it once"},
		{in: "550 4.7.1 Odd\r\n", want: Reply{Code: 550, Lines: []string{"4.7.1 Odd"}}, text: "550 4.7.1 Odd", reason: "the class must be that of the code (RFC 3463 section 2)"},
		{in: "250 2.0.0.1 x\r\n", want: Reply{Code: 250, Lines: []string{"2.0.0.1 x"}}, text: "250 2.0.0.1 x"},
		{in: "250 2.1000.0 x\r\n", want: Reply{Code: 250, Lines: []string{"2.1000.0 x"}}, text: "250 2.1000.0 x", reason: "at most three digits"},
		{in: "250 2..0 x\r\n", want: Reply{Code: 250, Lines: []string{"2..0 x"}}, text: "250 2..0 x"},
		{in: "550 tab\there \x1b[31m \xff ü\r\n", want: Reply{Code: 550, Lines: []string{"tab?here ?[31m ? ü"}}, text: "550 tab?here ?[31m ? ü", reason: "logs and terminals show it"},
	}
	for _, tc := range cases {
		got, err := readReply(bufio.NewReaderSize(strings.NewReader(tc.in), 16))
		if err != nil || !reflect.DeepEqual(got, tc.want) || got.String() != tc.text {
			t.Errorf("%q: %s\ngot %#v (%s), %v\nwant %#v (%s)", tc.in, tc.reason, got, got, err, tc.want, tc.text)
		}
	}
}

func TestReplyClasses(t *testing.T) {
	for code, want := range map[int][3]bool{
		0: {}, 250: {true}, 354: {true}, 421: {false, true}, 499: {false, true}, 500: {false, false, true}, 599: {false, false, true},
	} {
		r := Reply{Code: code}
		if got := [3]bool{r.Positive(), r.Temporary(), r.Permanent()}; got != want {
			t.Errorf("%d: %v, expected %v", code, got, want)
		}
	}
}

// The longest reply that is taken, and the first that is not.
func TestReplyBounds(t *testing.T) {
	line := "250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n"
	lines := strings.Repeat("250-x\r\n", maxReplyLines-1)
	for in, ok := range map[string]bool{
		line:                    true,
		"250 x" + line[4:]:      false,
		lines + "250 x\r\n":     true,
		lines + "250-x\r\n250 ": false,
	} {
		_, err := readReply(bufio.NewReader(strings.NewReader(in)))
		if (err == nil) != ok || !ok && !errors.Is(err, ErrProtocol) {
			t.Errorf("%d octets: %v, expected to be taken: %v", len(in), err, ok)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"250 Ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 no\r\n", "250\r\n", "250-a\r\n251 b\r\n", "250 a\n250 b\r\n",
		"250 a\rb\r\n", "\r\n", "25", "999 x\r\n", "250 \x00\r\n", "220 x\r\n220 y\r\n", "421 4.4.2 bye\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		src := strings.NewReader(string(in))
		r := bufio.NewReaderSize(src, 64)
		reply, err := readReply(r)
		if err != nil {
			if reply.Code != 0 || reply.Lines != nil {
				t.Fatalf("a reply with an error: %v, %v", reply, err)
			}
			return
		}
		taken := string(in[:len(in)-src.Len()-r.Buffered()])
		body, ok := strings.CutSuffix(taken, "\r\n")
		if !ok || strings.ContainsAny(strings.ReplaceAll(body, "\r\n", ""), "\r\n\x00") {
			t.Fatalf("taken for a reply: %q", taken)
		}
		if reply.Code < 200 || reply.Code > 599 || len(reply.Lines) > maxReplyLines || strings.ContainsFunc(reply.String(), isControl) {
			t.Fatalf("got %+v", reply)
		}
		// Every line of it says the same code, and only the last says that it is the last.
		for i, line := range strings.Split(body, "\r\n") {
			last := i == strings.Count(body, "\r\n")
			if !strings.HasPrefix(line, reply.String()[:3]) || last == (len(line) > 3 && line[3] == '-') {
				t.Fatalf("line %q in %q", line, taken)
			}
		}
	})
}

func TestCaps(t *testing.T) {
	cases := []struct {
		lines []string
		want  Caps
	}{
		{lines: nil, want: Caps{Extended: true}},
		{
			lines: []string{"mx.example.org Hello", "PIPELINING", "size 1000", "8bitmime", "SMTPUTF8", "DSN", "STARTTLS", "REQUIRETLS", "AUTH PLAIN", "ENHANCEDSTATUSCODES", "XCLIENT name Addr", "XFORWARD NAME"},
			want: Caps{
				Name: "mx.example.org", Extended: true, Pipelining: true, Size: true, MaxSize: 1000, EightBit: true, SMTPUTF8: true, DSN: true,
				StartTLS: true, RequireTLS: true, Auth: true, EnhancedStatus: true, XClient: []string{"NAME", "ADDR"}, XForward: []string{"NAME"},
			},
		},
		{lines: []string{"x", "SIZE", "AUTH=LOGIN", "", "CHUNKING"}, want: Caps{Name: "x", Extended: true, Size: true, Auth: true}},
		{lines: []string{"x", "SIZE 99999999999999999999"}, want: Caps{Name: "x", Extended: true, Size: true}},
		{lines: []string{"x", "SIZE -5", "XCLIENT"}, want: Caps{Name: "x", Extended: true, Size: true, XClient: []string{}}},
		{lines: []string{"x", "SIZE 0"}, want: Caps{Name: "x", Extended: true, Size: true}}, // RFC 1870: no fixed maximum
	}
	for _, tc := range cases {
		if diff := cmp.Diff(tc.want, parseCaps(Reply{Code: 250, Lines: tc.lines})); diff != "" {
			t.Errorf("%q: %s", tc.lines, diff)
		}
	}
}

func TestPathString(t *testing.T) {
	cases := []struct {
		path Path
		want string
	}{
		{path: Path{}, want: ""},
		{path: bob, want: "bob@example.com"},
		{path: Path{Local: "postmaster"}, want: "postmaster"},
		{path: Path{Local: "a.b+c", Domain: "[192.0.2.1]"}, want: "a.b+c@[192.0.2.1]"},
		{path: Path{Local: "", Domain: "example.org"}, want: `""@example.org`},
		{path: Path{Local: "a..b", Domain: "example.org"}, want: `"a..b"@example.org`},
		{path: Path{Local: ".a", Domain: "example.org"}, want: `".a"@example.org`},
		{path: Path{Local: "a.", Domain: "example.org"}, want: `"a."@example.org`},
		{path: Path{Local: "a b", Domain: "example.org"}, want: `"a b"@example.org`},
		{path: Path{Local: `a"b\c`, Domain: "example.org"}, want: `"a\"b\\c"@example.org`},
		{path: Path{Local: "a@b", Domain: "example.org"}, want: `"a@b"@example.org`},
		{path: Path{Local: "jürgen", Domain: "example.org"}, want: "jürgen@example.org"},
	}
	for _, tc := range cases {
		if got := tc.path.String(); got != tc.want {
			t.Errorf("%#v: %s, expected %s", tc.path, got, tc.want)
		}
	}
}

// Whatever the parts of a path are: what passes the check can be read back and is one word up to the bracket.
func TestPathRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Path{
			Local:  rapid.OneOf(rapid.String(), rapid.StringMatching(`[a.@<>" \\\r\n]{1,8}`)).Draw(t, "local"),
			Domain: rapid.OneOf(rapid.Just("example.org"), rapid.String(), rapid.StringMatching(`[a.@<>" \[\]:\r\n]{1,8}`)).Draw(t, "domain"),
		}
		if checkPath(p) != nil || p.Local == "" || p.Domain == "" {
			return
		}
		s := p.String() + "> NEXT"
		local, rest := unquote(s)
		domain, next, ok := strings.Cut(strings.TrimPrefix(rest, "@"), ">")
		if local != p.Local || domain != p.Domain || !ok || next != " NEXT" || strings.ContainsAny(s, "\r\n\x00") {
			t.Fatalf("%#v became %q, read back as %q and %q", p, s, local, domain)
		}
	})
}

// unquote reads a local part as RFC 5321 section 4.1.2 defines it, and gives what follows.
func unquote(s string) (local, rest string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, "@> ")
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// The stuffer, fed in pieces, against the plain definition: a dot before each line that begins with one.
func FuzzStuffer(f *testing.F) {
	for _, seed := range []string{"", ".", "a\r\n.b\r\n", "..\r\n.\r\n", "a\n.\r\n", "a\r.\r\n", "\r\n.\r\n", "\r\r\n", "a\r", ".\r\n.\r\n."} {
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(200))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		var out strings.Builder
		w := bufio.NewWriterSize(&out, 16)
		s := stuffer{w: w, bol: true}
		var err error
		for rest := in; len(rest) > 0 && err == nil; {
			n := min(int(piece)+1, len(rest))
			_, err = s.Write(rest[:n])
			rest = rest[n:]
		}
		var missing string
		if err == nil {
			missing, err = s.end()
		}
		w.Flush()
		bare := strings.ContainsAny(strings.ReplaceAll(string(in), "\r\n", ""), "\r\n")
		if bare != errors.Is(err, ErrBareNewline) || !bare && err != nil {
			t.Fatalf("%q: %v, expected a bare newline: %v", in, err, bare)
		}
		if err != nil {
			return
		}
		whole := string(in)
		if whole != "" && !strings.HasSuffix(whole, "\r\n") {
			whole += "\r\n"
		}
		want := strings.ReplaceAll("\r\n"+whole, "\r\n.", "\r\n..")[2:]
		if got := out.String() + missing; got != want {
			t.Fatalf("%q became %q, expected %q", in, got, want)
		}
	})
}

func TestXtext(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc~!": "abc~!", "a+b=c": "a+2Bb+3Dc", " \r\n": "+20+0D+0A", "ü\x7f": "+C3+BC+7F"} {
		if got := xtext(in); got != want {
			t.Errorf("%q: %s, expected %s", in, got, want)
		}
	}
}

// A message that is read in small pieces gets its line end, whatever the size of the pieces.
func TestLineEnder(t *testing.T) {
	for in, want := range map[string]string{"": "\r\n", "a": "a\r\n", "a\r\n": "a\r\n"} {
		got, err := io.ReadAll(oneByOne{&lineEnder{r: oneByOne{strings.NewReader(in)}}})
		if err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; expected %q", in, got, err, want)
		}
	}
}
