package filters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/filters/message"
)

func TestAuthResultsField(t *testing.T) {
	tests := []struct {
		name string // the reason for the case
		in   AuthResults
		want string
	}{
		{
			name: "no result is said so",
			in:   AuthResults{AuthservID: "mx.example.org"},
			want: "Authentication-Results: mx.example.org; none\r\n",
		},
		{
			name: "one result a line, folded where it becomes long",
			in: AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{
				{Method: "spf", Result: "pass", Props: []Prop{{Type: "smtp", Name: "mailfrom", Value: "bob@example.com"}}},
				{Method: "dkim", Result: "fail", Reason: "the body was changed", Props: []Prop{
					{Type: "header", Name: "d", Value: "example.com"}, {Type: "header", Name: "s", Value: "s1"},
					{Type: "header", Name: "b", Value: "AuUo/fD="},
				}},
			}},
			want: "Authentication-Results: mx.example.org;\r\n" +
				"\tspf=pass smtp.mailfrom=bob@example.com;\r\n" +
				"\tdkim=fail reason=\"the body was changed\" header.d=example.com header.s=s1\r\n" +
				"\theader.b=\"AuUo/fD=\"\r\n",
		},
		{
			name: "version is written when asked for",
			in:   AuthResults{AuthservID: "mx.example.org", Version: 1},
			want: "Authentication-Results: mx.example.org 1; none\r\n",
		},
		{
			name: "an IPv6 address is no token",
			in: AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{
				{Method: "iprev", Result: "pass", Props: []Prop{{Type: "policy", Name: "iprev", Value: "2001:db8::1"}}},
			}},
			want: "Authentication-Results: mx.example.org;\r\n\tiprev=pass policy.iprev=\"2001:db8::1\"\r\n",
		},
		{
			name: "line ends, quotes and backslashes of a stranger",
			in: AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{
				{Method: "spf", Result: "fail", Props: []Prop{{Type: "smtp", Name: "mailfrom", Value: "a\"\\\r\nX: y; dkim=pass@example.com"}}},
			}},
			want: "Authentication-Results: mx.example.org;\r\n" +
				"\tspf=fail smtp.mailfrom=\"a\\\"\\\\??X: y; dkim=pass@example.com\"\r\n",
		},
		{
			name: "a comment of a stranger stays in quotes",
			in: AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{
				{Method: "dkim", Result: "pass", Props: []Prop{{Type: "header", Name: "i", Value: "(x; dmarc=pass)@example.com"}}},
			}},
			want: "Authentication-Results: mx.example.org;\r\n" +
				"\tdkim=pass header.i=\"(x; dmarc=pass)@example.com\"\r\n",
		},
		{
			name: "internationalised addresses are UTF-8 in quotes",
			in: AuthResults{AuthservID: "mx.example.org", Results: []AuthResult{
				{Method: "spf", Result: "pass", Props: []Prop{{Type: "smtp", Name: "mailfrom", Value: "jürgen@xn--mller-kva.example"}}},
			}},
			want: "Authentication-Results: mx.example.org;\r\n" +
				"\tspf=pass smtp.mailfrom=jürgen@xn--mller-kva.example\r\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(tt.in.Field().Raw)); diff != "" {
				t.Errorf("field (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuthservID(t *testing.T) {
	tests := []struct {
		value, want string
		ok          bool
		reason      string
	}{
		{value: " mx.example.org; spf=pass", want: "mx.example.org", ok: true, reason: "plain"},
		{value: "\r\n\tMX.example.ORG\r\n\t;spf=pass", want: "MX.example.ORG", ok: true, reason: "folded, other case"},
		{value: " (a (nested \\) comment)) mx.example.org (b) 1; none", want: "mx.example.org", ok: true, reason: "comments, version"},
		{value: ` "mx.example.org"; none`, want: "mx.example.org", ok: true, reason: "quoted"},
		{value: ` "mx.\example.org"; none`, want: "mx.example.org", ok: true, reason: "quoted with an escape"},
		{value: " \"mx.exam\r\n ple.org\"; none", want: "mx.exam ple.org", ok: true, reason: "folded within quotes"},
		{value: " mx . example (x) . org; none", want: "mx", ok: true, reason: "obsolete spelling with spaces at the dots"},
		{value: " mx.example.org(comment);none", want: "mx.example.org", ok: true, reason: "comment without space"},
		{value: " mx.example.org", want: "mx.example.org", ok: true, reason: "nothing behind it"},
		{value: " example/net; dkim=pass", want: "example/net", ok: true, reason: "no token, but others may take it"},
		{value: " dkim=pass header.d=example.org", reason: "no id at all"},
		{value: " dkim = pass", reason: "no id, spaces"},
		{value: " ; dkim=pass", reason: "empty"},
		{value: "", reason: "empty field"},
		{value: " (mx.example.org; none", reason: "all of it a comment without end"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			got, ok := AuthservID(tt.value)
			if got != tt.want || ok != tt.ok {
				t.Errorf("AuthservID(%q) = %q, %v, want %q, %v", tt.value, got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestClaimsAuthservID(t *testing.T) {
	tests := []struct {
		value, reason string
		want          bool
	}{
		{value: " mx.example.org; spf=pass", want: true, reason: "plain"},
		{value: "\r\n\tMX.example.ORG\r\n\t;spf=pass", want: true, reason: "folded, other case"},
		{value: " (a (nested \\) comment)) mx.example.org (b) 1; none", want: true, reason: "comments, version"},
		{value: ` "mx.\example.org"; none`, want: true, reason: "quoted with an escape"},
		{value: ` " mx.example.org "; none`, want: true, reason: "quoted with spaces"},
		{value: " mx . example (x) . org; none", want: true, reason: "obsolete spelling with spaces at the dots"},
		{value: ` mx.example."org" ; none`, want: true, reason: "half of it in quotes"},
		{value: " mx.example.org. 1; none", want: true, reason: "final dot and version"},
		{value: " mx.example.org", want: true, reason: "nothing behind it"},
		{value: ` "mx.example.org`, want: true, reason: "no closing quotation mark"},
		{value: " mx.example.org.evil.example; dkim=pass", reason: "another name that begins like ours"},
		{value: " mx.example.or; dkim=pass", reason: "a shorter one"},
		{value: " mx.example.net; dkim=pass header.d=mx.example.org", reason: "our name further on"},
		{value: " (mx.example.org) mx.example.net; none", reason: "our name in a comment"},
		{value: " dkim=pass header.d=example.org", reason: "no id at all"},
		{value: "\vmx.example.org; dkim=pass", want: true, reason: "a vertical tab before it"},
		{value: "mx.example.org\f; dkim=pass", want: true, reason: "a form feed behind it"},
		{value: "\x01\x7f mx.example.org; dkim=pass", want: true, reason: "other control characters"},
		{value: "\u00a0mx.example.org; dkim=pass", want: true, reason: "a no-break space"},
		{value: "mx.example.org/1; dkim=pass", want: true, reason: "a version behind a slash"},
		{value: "mx.example.org,; dkim=pass", want: true, reason: "a comma"},
		{value: "(mx.example.org; dkim=pass", want: true, reason: "a comment that never ends"},
		{value: "(a) (mx.example.org; dkim=pass", reason: "a comment that never ends, behind another word"},
		{value: "=?utf-8?q?mx.example.org=3B_dkim=3Dpass?=", want: true, reason: "an encoded word"},
		{value: "=?utf-8?b?bXguZXhhbXBsZS5vcmc=?=; dkim=pass", want: true, reason: "an encoded word in base64"},
		{value: "=?utf-8?q?mx.example.net?=; dkim=pass", reason: "an encoded word of another name"},
		{value: "mx.example.org-evil.example; dkim=pass", reason: "another name with a hyphen"},
		{value: "mx.example.orgé; dkim=pass", reason: "another name with a letter beyond ASCII"},
		{value: "", reason: "empty field"},
		{value: strings.Repeat(" x", 100000), reason: "a long field of nothing"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			if got := ClaimsAuthservID(tt.value, "mx.example.org"); got != tt.want {
				t.Errorf("ClaimsAuthservID(%q) = %v, want %v", tt.value, got, tt.want)
			}
		})
	}
}

// TestAuthResultsSuite reads the fields of the corpus. What is listed is each field's reading from the top: id and
// results, or "error".
func TestAuthResultsSuite(t *testing.T) {
	want := map[string][]string{
		"alignment-auid_not_in_sdid":               {"example.net dkim=pass header.d=example.net header.i=joe@football.example.com"},
		"alignment-from_not_in_sdid":               {"example.net dkim=pass header.d=unrelated.com"},
		"dkim-unknown_result":                      {"example.net dkim=timeout header.d=example.com"},
		"fakePayPal":                               {"example.net dkim=pass header.d=unrelated.com"},
		"multiple_arh-newest_no_authserv":          {"error", "unrelated.com dkim=pass header.d=unrelated.com", "error"},
		"multiple_arh-newest_no_result":            {"example.net", "unrelated.com dkim=pass header.d=unrelated.com", "example.net dkim=pass header.d=example.com"},
		"multiple_arh-newest_parsing_error_01":     {"error", "unrelated.com dkim=pass header.d=unrelated.com", "example.net dkim=pass header.d=example.com"},
		"multiple_arh-newest_parsing_error_02":     {"error", "unrelated.com dkim=pass header.d=unrelated.com", "error"},
		"multiple_arh-newest_unknown_method":       {"example.net foo=pass", "unrelated.com dkim=pass header.d=unrelated.com", "example.net dkim=pass header.d=example.com"},
		"multiple_arh-same_and_different_authserv": {"example.net spf=pass", "example.net dkim=pass header.d=example.com", "example.net dkim=pass header.d=football.example.com", "foo.example.net dkim=pass header.d=foo.example.com", "unrelated.com dkim=pass header.d=unrelated.com", "error", "example.net dkim=pass header.d=last.example.com"},
		"multiple_dkim_results":                    {"example.net dkim=fail header.d=example.com dkim=pass header.d=unrelated.org dkim=pass header.d=example.com dkim=fail reason=test failure header.d=example.com dkim=fail reason=test failure signed by unrelated header.d=unrelated.org dkim=fail header.d=example.com dkim=pass header.d=example.org"},
		"multiple_spf_and_dmarc_results":           {"example.net spf=fail spf=pass spf=none spf=softfail spf=policy spf=neutral spf=temperror spf=permerror dmarc=fail dmarc=pass dmarc=permerror dmarc=none dmarc=temperror"},
		"rfc6376-A.2-arh-failed-no_reason":         {"example.net spf=pass smtp.mailfrom=example.com dkim=fail header.d=example.com"},
		"rfc6376-A.2-arh-failed":                   {"example.net spf=pass smtp.mailfrom=example.com dkim=fail reason=bad signature header.d=example.com"},
		"rfc6376-A.2-arh-valid-a_tag":              {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.d=example.com header.a=rsa-sha256"},
		"rfc6376-A.2-arh-valid-a_tag_sha1":         {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.d=example.com header.a=rsa-sha1"},
		"rfc6376-A.2-arh-valid-auid":               {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.i=joe@football.example.com"},
		"rfc6376-A.2-arh-valid-no_sdid_or_auid":    {"example.net spf=pass smtp.mailfrom=example.com dkim=pass"},
		"rfc6376-A.2-arh-valid-sdid_and_auid":      {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.d=example.com header.i=joe@football.example.com"},
		"rfc6376-A.2-arh-valid":                    {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.d=example.com"},
		"rfc6376-A.2-arh-valid_relaxed":            {"example.net spf=pass smtp.mailfrom=example.com dkim=pass header.d=example.com"},
	}
	files, err := filepath.Glob("testdata/authresults/*.eml")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d messages, want %d (%v)", len(files), len(want), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range readMessage(t, file).Header.All("Authentication-Results") {
				got = append(got, describeAuth(f.Value()))
			}
			if diff := cmp.Diff(want[name], got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func describeAuth(value string) string {
	a, err := ParseAuthResults(value)
	if err != nil {
		return "error"
	}
	words := []string{a.AuthservID}
	for _, r := range a.Results {
		words = append(words, r.Method+"="+r.Result)
		if r.Reason != "" {
			words = append(words, "reason="+r.Reason)
		}
		for _, p := range r.Props {
			words = append(words, p.Type+"."+p.Name+"="+p.Value)
		}
	}
	return strings.Join(words, " ")
}

// readMessage reads a file with any line ends as a message with CRLF.
func readMessage(t testing.TB, file string) *message.Message {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseMessage(t, withCRLF(string(src)))
}

func withCRLF(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

func parseMessage(t testing.TB, src string) *message.Message {
	t.Helper()
	m, err := message.Read(strings.NewReader(src), int64(len(src)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// FuzzAuthResults puts any octets where a sender can put some, and wants the reader to find what the writer was given
// and nothing else, in a field that is one field.
func FuzzAuthResults(f *testing.F) {
	f.Add("mx.example.org", "bob@example.com", "the body was changed", "header", "d")
	f.Add("mx\r\nX: y", "\"a\\\r\n b\"@x; dkim=pass", "(", "x.y=", "\x00")
	f.Add("", "jürgen@bücher.example", "\xff\xfe", "", "")
	f.Add("\"", strings.Repeat("x ", 2000), strings.Repeat("\\", 500), "reason", "reason")
	f.Add("none", "none", "none", "none", "none")
	f.Fuzz(func(t *testing.T, id, value, reason, ptype, name string) {
		in := AuthResults{AuthservID: id, Version: 1, Results: []AuthResult{
			{Method: "spf", Result: "pass", Reason: reason, Props: []Prop{{Type: ptype, Name: name, Value: value}}},
			{Method: "dkim", Result: "fail", Props: []Prop{{Type: "header", Name: "d", Value: value}, {Type: "header", Name: "i", Value: "@" + value}}},
		}}
		raw := string(in.Field().Raw)
		checkOneField(t, raw)
		if strings.EqualFold(authKeyword(ptype), "reason") {
			return // "reason.x=" can't be a property; ours have other types
		}
		got, err := ParseAuthResults(raw[len(authResultsName)+1:])
		if err != nil {
			t.Fatalf("can't be read: %v\n%s", err, raw)
		}
		want := AuthResults{AuthservID: authClean(id, maxAuthValue), Version: 1, Results: []AuthResult{
			{Method: "spf", Result: "pass", Reason: authClean(reason, maxAuthReason), Props: []Prop{
				{Type: authKeyword(ptype), Name: authKeyword(name), Value: authClean(value, maxAuthValue)},
			}},
			{Method: "dkim", Result: "fail", Props: []Prop{
				{Type: "header", Name: "d", Value: authClean(value, maxAuthValue)},
				{Type: "header", Name: "i", Value: authClean("@"+value, maxAuthValue)},
			}},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s\n%s", diff, raw)
		}
		if read, ok := AuthservID(raw[len(authResultsName)+1:]); !ok || read != want.AuthservID {
			t.Errorf("AuthservID = %q, %v, want %q", read, ok, want.AuthservID)
		}
	})
}

// checkOneField wants a single folded field with lines of at most 998 octets.
func checkOneField(t *testing.T, raw string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(raw, "\r\n"), "\r\n")
	for i, line := range lines {
		switch {
		case len(line) > 998:
			t.Errorf("a line has %d octets", len(line))
		case strings.ContainsAny(line, "\r\n\x00"):
			t.Errorf("a line has a control character: %q", line)
		case i > 0 && !strings.HasPrefix(line, "\t"):
			t.Errorf("a line begins another field: %q", line)
		case strings.TrimSpace(line) == "":
			t.Errorf("a line is empty: %q", raw)
		}
	}
}

// FuzzParseAuthResults reads anything without harm, and what it can read it can write and read again.
func FuzzParseAuthResults(f *testing.F) {
	f.Add(" mx.example.org 1; spf/1=pass (c) reason=\"x\" smtp . mailfrom = \"a b\"@example.org")
	f.Add(" example.net; none")
	f.Add(" (((((((; dkim=pass")
	f.Add(` "a\"; b"; dkim=pass header.b="/d5r"`)
	f.Fuzz(func(t *testing.T, value string) {
		AuthservID(value)
		first, err := ParseAuthResults(value)
		if err != nil || len(value) > maxAuthReason {
			return
		}
		again, err := ParseAuthResults(string(first.Field().Raw[len(authResultsName)+1:]))
		if err != nil {
			t.Fatalf("%q: written, it can't be read: %v", value, err)
		}
		if len(again.Results) != len(first.Results) {
			t.Errorf("%q: %d results, then %d", value, len(first.Results), len(again.Results))
		}
	})
}
