package message

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeWords(t *testing.T) {
	for _, c := range []struct {
		reason, value, want string
		bad                 bool
	}{
		{reason: "none", value: "plain = text?", want: "plain = text?"},
		{reason: "Q", value: "=?iso-8859-1?q?this=20is=20some_text?=", want: "this is some text"},
		{reason: "B", value: "=?UTF-8?B?R3LDvMOfZQ==?=", want: "Grüße"},
		{reason: "white space between words goes, RFC 2047 section 6.2", value: "=?utf-8?q?a?=  \t =?utf-8?q?b?= c", want: "ab c"},
		{reason: "text between words stays", value: "=?utf-8?q?a?= x =?utf-8?q?b?=", want: "a x b"},
		{reason: "a character cut in two", value: "=?utf-8?B?w7w=?= =?utf-8?q?=C3?= =?utf-8?q?=BC?=", want: "üü"},
		{reason: "cut in two in base64", value: "=?utf-8?b?ww==?= =?utf-8?b?vA==?=", want: "ü"},
		{reason: "two charsets side by side", value: "=?iso-8859-1?q?=E4?= =?utf-8?q?=C3=A4?=", want: "ää"},
		{reason: "a language, RFC 2231 section 5", value: "=?us-ascii*en?q?hi?=", want: "hi"},
		{reason: "touching text, which the RFC forbids", value: "x=?utf-8?q?a?=y", want: "xay"},
		{reason: "spaces within, which the RFC forbids", value: "=?utf-8?q?a b c?=", want: "a b c"},
		{reason: "no end", value: "=?utf-8?q?abc", want: "=?utf-8?q?abc"},
		{reason: "no such encoding", value: "=?utf-8?x?abc?=", want: "=?utf-8?x?abc?="},
		{reason: "raw 8-bit is UTF-8 or windows-1252", value: "\xc3\xbc \xfc", want: "ü ü"},
		{reason: "unknown charset", value: "=?fake?q?abc?=", want: "abc", bad: true},
		{reason: "broken base64 is read on", value: "=?utf-8?b?YW*Jj?=", want: "abc", bad: true},
		{reason: "broken escape stays", value: "=?utf-8?q?a=zb?=", want: "a=zb", bad: true},
		{reason: "an empty word", value: "=?utf-8?q??=x", want: "x"},
	} {
		got, ok := DecodeWords(c.value)
		if got != c.want || ok == c.bad {
			t.Errorf("%s: %q, %t, want %q, %t", c.reason, got, ok, c.want, !c.bad)
		}
	}
}

func TestParseMediaType(t *testing.T) {
	for _, c := range []struct {
		reason, value, want string
		params              map[string]string
		bad                 bool
	}{
		{reason: "usual", value: `Text/HTML; Charset="utf-8"`, want: "text/html", params: map[string]string{"charset": "utf-8"}},
		{reason: "comment", value: "text/plain (really); charset=us-ascii", want: "text/plain", params: map[string]string{"charset": "us-ascii"}},
		{reason: "quoted pairs", value: `a/b; x="\"q\\"`, want: "a/b", params: map[string]string{"x": `"q\`}},
		{reason: "a semicolon in quotes", value: `a/b; x="1;2"; y=3`, want: "a/b", params: map[string]string{"x": "1;2", "y": "3"}},
		{reason: "a final semicolon", value: "a/b;", want: "a/b", params: map[string]string{}},
		{reason: "RFC 2231 section 4", value: "a/b; name*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", want: "a/b", params: map[string]string{"name": "This is ***fun***"}},
		{reason: "RFC 2231 section 4.1, out of order", value: `a/b; n*1*=%2a; n*0*=utf-8''%C3%BC; n*2="%20"`, want: "a/b", params: map[string]string{"n": "ü*%20"}},
		{reason: "an encoded word, which doesn't belong there", value: `a/b; name="=?utf-8?q?=C3=BC.exe?="`, want: "a/b", params: map[string]string{"name": "ü.exe"}},
		{reason: "no semicolon", value: `application/pdf name="x.pdf"`, want: "application/pdf", params: map[string]string{"name": "x.pdf"}, bad: true},
		{reason: "no type", value: `name="x.pdf"`, want: "", params: map[string]string{"name": "x.pdf"}, bad: true},
		{reason: "unquoted specials", value: `a/b; name=x (1).pdf; y=2`, want: "a/b", params: map[string]string{"name": "x (1).pdf", "y": "2"}, bad: true},
		{reason: "no closing quote", value: `a/b; name="x; y=2`, want: "a/b", params: map[string]string{"name": "x", "y": "2"}, bad: true},
		{reason: "twice: the first counts", value: `a/b; n=1; n=2`, want: "a/b", params: map[string]string{"n": "1"}, bad: true},
		{reason: "spaces around the slash", value: "text / plain; a=b", want: "text/plain", params: map[string]string{"a": "b"}},
		{reason: "a disposition", value: "attachment; filename=a.b", want: "attachment", params: map[string]string{"filename": "a.b"}},
		{reason: "nothing", value: "", want: "", params: map[string]string{}, bad: true},
	} {
		got, params, ok := ParseMediaType(c.value)
		if d := cmp.Diff(c.params, params); got != c.want || ok == c.bad || d != "" {
			t.Errorf("%s: %q, %t, want %q, %t\n%s", c.reason, got, ok, c.want, !c.bad, d)
		}
	}
}

func TestParseDate(t *testing.T) {
	for _, c := range []struct{ reason, value, want string }{
		{reason: "RFC 5322 appendix A.1.1", value: "Fri, 21 Nov 1997 09:55:06 -0600", want: "1997-11-21T09:55:06-06:00"},
		{reason: "comment, RFC 5322 appendix A.5", value: "Thu,\t13\t Feb 1969 23:32 -0330 (Newfoundland Time)", want: "1969-02-13T23:32:00-03:30"},
		{reason: "obsolete, RFC 5322 appendix A.6.2", value: "21 Nov 97 09:55:06 GMT", want: "1997-11-21T09:55:06Z"},
		{reason: "obsolete zone", value: "Thu, 6 Nov 2008 08:15:43 EST", want: "2008-11-06T08:15:43-05:00"},
		{reason: "two digits below 50 are of this century", value: "1 Jan 08 00:00:00 +0000", want: "2008-01-01T00:00:00Z"},
		{reason: "a leap second", value: "31 Dec 2016 23:59:60 +0000", want: "2016-12-31T23:59:59Z"},
		{reason: "no zone", value: "Thu, 6 Nov 2008 08:15:43", want: "2008-11-06T08:15:43Z"},
		{reason: "the oldest client: no such day name, a dot after the month", value: "Thurs., 6 Nov. 2008 08:15:43", want: ""},
		{reason: "no such day", value: "30 Feb 2008 08:15:43 +0000", want: ""},
		{reason: "no comma", value: "Thu 6 Nov 2008 08:15:43 +0000", want: ""},
		{reason: "another order", value: "2008-11-06 08:15:43", want: ""},
		{reason: "a zone that is none", value: "6 Nov 2008 08:15:43 +05-30", want: ""},
		{reason: "minutes of a zone", value: "6 Nov 2008 08:15:43 -0180", want: ""},
		{reason: "hours", value: "6 Nov 2008 24:15:43 +0000", want: ""},
		{reason: "a sign where a digit belongs", value: "+6 Nov 2008 08:15:43 +0000", want: ""},
		{reason: "before there was mail", value: "Mon, 10 Jun 0102 16:27:33 +0600", want: ""},
		{reason: "empty", value: "", want: ""},
	} {
		got := ""
		if d, ok := ParseDate(c.value); ok {
			got = d.Format(time.RFC3339)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
	}
}

func TestTransferDecoders(t *testing.T) {
	for _, c := range []struct {
		reason, encoding, body, want, defect string
	}{
		{reason: "base64 in lines", encoding: "base64", body: "SGVs\r\nbG8=\r\n", want: "Hello"},
		{reason: "junk is passed over", encoding: "base64", body: "SG*Vs\r\n!bG8=", want: "Hello", defect: "bad_base64"},
		{reason: "cut off, with whole bytes", encoding: "base64", body: "SGVsbG8", want: "Hello", defect: "bad_base64"},
		{reason: "cut off in a byte", encoding: "base64", body: "SGVsb", want: "Hel", defect: "bad_base64"},
		{reason: "text after the end is read, since some clients do", encoding: "base64", body: "SGVs\r\nbG8=\r\nSGVsbG8=", want: "HelloHello", defect: "bad_base64"},
		{reason: "padding at once", encoding: "base64", body: "====", want: "", defect: "bad_base64"},
		{reason: "soft line breaks", encoding: "quoted-printable", body: "a=\r\nb= \t\r\nc=\nd\r\n", want: "abcd\r\n"},
		{reason: "lower-case digits", encoding: "quoted-printable", body: "=c3=bc", want: "ü"},
		{reason: "a broken escape stays", encoding: "quoted-printable", body: "a=zz =4 =", want: "a=zz =4 ", defect: "bad_qp"},
		{reason: "a broken escape before another", encoding: "quoted-printable", body: "==41", want: "=A", defect: "bad_qp"},
		{reason: "white space that ends nothing", encoding: "quoted-printable", body: "a=  b", want: "a=  b", defect: "bad_qp"},
		{reason: "cut off in an escape", encoding: "quoted-printable", body: "a=4", want: "a=4", defect: "bad_qp"},
		{reason: "none", encoding: "8bit", body: "a=41", want: "a=41"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			m := read(t, []byte("Content-Type: text/plain\r\nContent-Transfer-Encoding: "+c.encoding+"\r\n\r\n"+c.body))
			b, err := io.ReadAll(m.Parts()[0].Content())
			if err != nil || string(b) != c.want {
				t.Errorf("%q, %v, want %q", b, err, c.want)
			}
			for _, kind := range []string{"bad_base64", "bad_qp"} {
				all := defectSet{seen: m.Defects()}
				if all.has(kind) != (kind == c.defect) {
					t.Errorf("%s: %t", kind, all.has(kind))
				}
			}
			// Cut into single bytes, it is the same.
			dec := newContentReader(m.Parts()[0], nil).dec
			var out []byte
			for i := range len(c.body) {
				out = dec.decode(out, []byte(c.body[i:i+1]))
			}
			if out = dec.finish(out); string(out) != c.want {
				t.Errorf("byte by byte %q, want %q", out, c.want)
			}
		})
	}
}

func TestDecodeCharset(t *testing.T) {
	for _, c := range []struct {
		charset, in, want string
		bad               bool
	}{
		{charset: "", in: "\xfc", want: "ü"},
		{charset: "utf-8", in: "a\xffb", want: "aÿb", bad: true},
		{charset: "US-ASCII", in: "\xc3\xbc", want: "ü", bad: true},
		{charset: "windows-1250", in: "\xb3", want: "ł"},
		{charset: "x-sjis", in: "\x82\xa0", want: "あ"},
		{charset: "ks_c_5601-1987", in: "\xb0\xa1", want: "가"},
		{charset: "gb18030", in: "\xc4\xe3", want: "你"},
		{charset: "hz-gb-2312", in: "~{VPND~}", want: "中文"},
		{charset: "cp850", in: "\x84", want: "ä"},
		{charset: "utf-7", in: "+AOQ-+-x+", want: "ä+x+", bad: true},
		{charset: "utf-16", in: "\xff\xfea\x00", want: "a"},
		{charset: "iso-2022-kr", in: "abc", want: "abc", bad: true}, // a decoder that replaces all would hide the text
		{charset: "no-such", in: "abc", want: "abc", bad: true},
		{charset: "utf-8", in: "vi\x00agra", want: "viagra"},
	} {
		got, ok := decodeCharset([]byte(c.in), c.charset)
		if got != c.want || ok == c.bad {
			t.Errorf("%s %q: %q, %t, want %q, %t", c.charset, c.in, got, ok, c.want, !c.bad)
		}
	}
}

func TestOrgDomain(t *testing.T) {
	for _, c := range []struct{ reason, domain, want string }{
		{reason: "a host", domain: "mail.example.org", want: "example.org"},
		{reason: "itself", domain: "Example.ORG.", want: "example.org"},
		{reason: "a suffix of two labels", domain: "a.b.example.co.uk", want: "example.co.uk"},
		{reason: "a public suffix", domain: "co.uk", want: ""},
		{reason: "one label", domain: "localhost", want: ""},
		{reason: "U-labels", domain: "mail.bücher.example", want: "xn--bcher-kva.example"},
		{reason: "an address", domain: "192.0.2.1", want: ""},
		{reason: "an address literal", domain: "[192.0.2.1]", want: ""},
		{reason: "underscores are in use", domain: "_dmarc.mail.example.org", want: "example.org"},
		{reason: "an empty label", domain: "a..example.org", want: ""},
		{reason: "a control", domain: "a\x00b.example.org", want: ""},
		{reason: "too long a label", domain: strings.Repeat("a", 64) + ".example.org", want: ""},
		{reason: "nothing", domain: "", want: ""},
	} {
		if got := OrgDomain(c.domain); got != c.want {
			t.Errorf("%s: %q, want %q", c.reason, got, c.want)
		}
	}
}
