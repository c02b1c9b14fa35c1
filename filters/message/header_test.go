package message

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeader(t *testing.T) {
	m := read(t, []byte("Received: one\r\nsubject : a\r\n\tb \r\n  c\r\nRECEIVED: two\r\nEmpty:\r\nX-Long: =?utf-8?q?=C3=BC?=\r\n\r\nSubject: body\r\n"))
	if n := m.Header.Count("Received"); n != 2 {
		t.Errorf("%d Received fields, want 2", n)
	}
	for _, c := range []struct{ name, value, decoded string }{
		{name: "Received", value: "one", decoded: "one"},          // the topmost
		{name: "SUBJECT", value: "a\tb   c", decoded: "a\tb   c"}, // white space before the colon; folding goes, its white space stays
		{name: "empty", value: "", decoded: ""},
		{name: "x-long", value: "=?utf-8?q?=C3=BC?=", decoded: "ü"},
	} {
		f, ok := m.Header.First(c.name)
		if !ok || f.Value() != c.value || f.Decoded() != c.decoded {
			t.Errorf("%s: %q, %q, want %q, %q", c.name, f.Value(), f.Decoded(), c.value, c.decoded)
		}
	}
	if f, ok := m.Header.First("To"); ok {
		t.Errorf("there is no To, but %v was found", f)
	}
	var names []string
	for _, f := range m.Header.All("received") {
		names = append(names, f.Name+"="+f.Value())
	}
	if d := cmp.Diff([]string{"Received=one", "RECEIVED=two"}, names); d != "" {
		t.Error(d)
	}
}

func TestHeaderEnd(t *testing.T) {
	for _, c := range []struct {
		reason  string
		message string
		fields  int
		body    string
		defect  string // "" for none of those that are about the end
	}{
		{reason: "the usual", message: "A: b\r\n\r\nbody", fields: 1, body: "body"},
		{reason: "a body is optional: RFC 5322 section 3.5", message: "A: b\r\n", fields: 1, body: ""},
		{reason: "the last line has no end", message: "A: b", fields: 1, body: ""},
		{reason: "bare LF", message: "A: b\n\nbody\n", fields: 1, body: "body\n"},
		{reason: "no header section", message: "\r\nbody", fields: 0, body: "body"},
		{reason: "nothing at all", message: "", fields: 0, body: ""},
		{reason: "a line of white space continues a field, it doesn't end the section", message: "A: b\r\n \r\nC: d\r\n\r\nbody", fields: 2, body: "body"},
		{reason: "the oldest client", message: "A: b\r\nHello Mary.\r\n\r\ntext", fields: 1, body: "Hello Mary.\r\n\r\ntext", defect: "no_blank_line"},
		{reason: "prose with a colon is a field: no one could tell", message: "A: b\r\nHello: Mary.\r\n\r\ntext", fields: 2, body: "text"},
		{reason: "unknown fields after a line that is none don't make the section go on", message: "A: b\r\nHello Mary\r\nNote: x\r\n\r\ntext", fields: 1, body: "Hello Mary\r\nNote: x\r\n\r\ntext", defect: "no_blank_line"},
		{reason: "a known one does", message: "A: b\r\nbroken line\r\nSubject: x\r\n\r\ntext", fields: 3, body: "text", defect: "bad_field"},
		{reason: "one below an empty line doesn't", message: "A: b\r\nHello Mary\r\n\r\nSubject: x\r\n", fields: 1, body: "Hello Mary\r\n\r\nSubject: x\r\n", defect: "no_blank_line"},
		{reason: "the separator of an mbox", message: "From a@b Thu Nov  6 08:15:43 2008\r\nA: b\r\n\r\nbody", fields: 2, body: "body", defect: "bad_field"},
		{reason: "white space on the first line continues nothing", message: " A: b\r\nC: d\r\n\r\nbody", fields: 2, body: "body", defect: "bad_field"},
		{reason: "an 8-bit name is none", message: "A: b\r\nH\xc3\xa4: x\r\n", fields: 1, body: "H\xc3\xa4: x\r\n", defect: "no_blank_line"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			m := read(t, []byte(c.message))
			checkBytes(t, m, []byte(c.message))
			body := new(bytes.Buffer)
			if _, err := body.ReadFrom(m.Body()); err != nil {
				t.Fatal(err)
			}
			if len(m.Header) != c.fields || body.String() != c.body {
				t.Errorf("%d fields, body %q, want %d and %q", len(m.Header), body, c.fields, c.body)
			}
			for _, kind := range []string{"no_blank_line", "bad_field"} {
				if got := m.defects.has(kind); got != (kind == c.defect) {
					t.Errorf("%s: %t", kind, got)
				}
			}
		})
	}
}

func TestNewField(t *testing.T) {
	for _, c := range []struct{ reason, name, value, want string }{
		{reason: "short", name: "X-Spam-Flag", value: "YES", want: "X-Spam-Flag: YES\r\n"},
		{reason: "no value", name: "X", value: " ", want: "X:\r\n"},
		{reason: "no line is added", name: "X", value: "a\r\nBcc: b\x00c\x7f", want: "X: a  Bcc: b c\r\n"},
		{reason: "no line is added by the name", name: "X:\r\nY", value: "a", want: "X---Y: a\r\n"},
		{
			reason: "folded before the word that would pass 78", name: "Subject", value: strings.Repeat("word ", 17) + "end",
			want: "Subject: " + strings.TrimSuffix(strings.Repeat("word ", 14), " ") + "\r\n word word word end\r\n",
		},
		{
			reason: "a long word has a line of its own", name: "X", value: "a " + strings.Repeat("b", 100) + " c",
			want: "X: a\r\n " + strings.Repeat("b", 100) + "\r\n c\r\n",
		},
		{
			reason: "a word too long for any line is broken", name: "X", value: strings.Repeat("b", 2000),
			want: "X: " + strings.Repeat("b", 995) + "\r\n " + strings.Repeat("b", 997) + "\r\n " + strings.Repeat("b", 8) + "\r\n",
		},
		{
			reason: "a line of white space alone is obsolete and trips readers", name: "X", value: "a" + strings.Repeat(" ", 3000) + "b",
			want: "X: a b\r\n",
		},
	} {
		if got := string(NewField(c.name, c.value).Raw); got != c.want {
			t.Errorf("%s:\n%q, want\n%q", c.reason, got, c.want)
		}
	}
}

func FuzzNewField(f *testing.F) {
	f.Add("Subject", "a\r\n b")
	f.Add("X:", strings.Repeat("ü", 1200)+" \t x")
	f.Add(strings.Repeat("x", 2000), "\x00")
	f.Fuzz(func(t *testing.T, name, value string) {
		field := NewField(name, value)
		for i, line := range strings.SplitAfter(string(field.Raw), "\r\n") {
			text, ended := strings.CutSuffix(line, "\r\n")
			if line == "" {
				continue
			}
			if !ended || strings.ContainsAny(text, "\r\n\x00") || len(text) > lineMust {
				t.Fatalf("a bad line: %q", line)
			}
			if i > 0 && (text[0] != ' ' && text[0] != '\t' || strings.Trim(text, " \t") == "") {
				t.Fatalf("a line that continues nothing: %q", line)
			}
		}
		m := read(t, append(bytes.Clone(field.Raw), "\r\nbody"...))
		if len(m.Header) != 1 || !bytes.Equal(m.Header[0].Raw, field.Raw) || m.Header[0].Name != field.Name {
			t.Fatalf("%q is read as %q", field.Raw, m.Header)
		}
	})
}
