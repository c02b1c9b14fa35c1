package message

import (
	"strings"
	"testing"
)

// sound is a header section without defects, up to what describes the body.
const sound = "From: a@example.org\r\nDate: Thu, 6 Nov 2008 08:15:43 +0100\r\nMessage-ID: <1@example.org>\r\n"

const mixed = sound + "Content-Type: multipart/mixed; boundary=b\r\n\r\n"

// small are limits that short messages go beyond.
var small = Limits{Header: 300, Fields: 5, Depth: 3, Parts: 3, Text: 10, HTML: 100, Links: 1, Shown: 10, Attachments: 1, Names: 1}

// defectCases have for each kind of defect a message with it.
var defectCases = []struct {
	kind, message string
	limits        Limits
}{
	{kind: "no_blank_line", message: sound + "text\r\n"},
	{kind: "bad_field", message: "oops\r\n" + sound + "\r\n"},
	{kind: "empty_header", message: "\r\ntext"},
	{kind: "header_too_big", message: sound + "X: " + strings.Repeat("x", 300) + "\r\n\r\n", limits: small},
	{kind: "many_fields", message: sound + "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", limits: small},
	{kind: "no_from", message: "To: a@example.org\r\n\r\n"},
	{kind: "many_from", message: sound + "From: b@example.org\r\n\r\n"},
	{kind: "bad_from", message: "From: nobody at all\r\n\r\n"},
	{kind: "no_date", message: "From: a@example.org\r\n\r\n"},
	{kind: "bad_date", message: "Date: today\r\n\r\n"},
	{kind: "no_message_id", message: "From: a@example.org\r\n\r\n"},
	{kind: "repeated_field", message: sound + "Subject: a\r\nSubject: b\r\n\r\n"},
	{kind: "8bit_header", message: sound + "Subject: \xfc\r\n\r\n"},
	{kind: "bad_word", message: sound + "Subject: =?fake?q?a?=\r\n\r\n"},
	{kind: "long_line", message: sound + "\r\n" + strings.Repeat("x", 999) + "\r\n"},
	{kind: "bare_lf", message: sound + "\r\na\nb\r\n"},
	{kind: "bare_cr", message: sound + "\r\na\rb\r\n"},
	{kind: "nul", message: sound + "\r\na\x00b\r\n"},
	{kind: "bad_content_type", message: sound + "Content-Type: text\r\n\r\n"},
	{kind: "bad_encoding", message: sound + "Content-Transfer-Encoding: base9000\r\n\r\n"},
	{kind: "two_names", message: sound + "Content-Type: a/b; name=a.pdf\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\n"},
	{kind: "no_boundary", message: sound + "Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n"},
	{kind: "empty_multipart", message: mixed + "text\r\n"},
	{kind: "truncated_multipart", message: mixed + "--b\r\n\r\ntext\r\n"},
	{kind: "parts_after_end", message: mixed + "--b\r\n\r\na\r\n--b--\r\n--b\r\n\r\nb\r\n--b--\r\n"},
	{kind: "deep_mime", message: strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 4), limits: small},
	{kind: "many_parts", message: mixed + strings.Repeat("--b\r\n\r\na\r\n", 4) + "--b--\r\n", limits: small},
	{kind: "bad_base64", message: sound + "Content-Transfer-Encoding: base64\r\n\r\n****\r\n"},
	{kind: "bad_qp", message: sound + "Content-Transfer-Encoding: quoted-printable\r\n\r\n=zz\r\n"},
	{kind: "bad_charset", message: sound + "Content-Type: text/plain; charset=fake\r\n\r\na\r\n"},
	{kind: "text_cut", message: sound + "\r\n0123456789a\r\n", limits: small},
	{kind: "pdf_cut", message: pdfHead + strings.Repeat("/ObjStm ", maxPDFStreams+1)},
	{kind: "many_links", message: sound + "\r\nhttp://a.de http://b.de\r\n", limits: Limits{Header: 300, Fields: 5, Depth: 3, Parts: 3, Text: 100, HTML: 100, Links: 1, Attachments: 1}},
	{kind: "many_attachments", message: mixed + strings.Repeat("--b\r\nContent-Type: a/b\r\n\r\na\r\n", 2) + "--b--\r\n", limits: Limits{Header: 300, Fields: 9, Depth: 3, Parts: 3, Text: 100, HTML: 100, Attachments: 1}},
	{kind: "archive_cut", message: sound + "Content-Type: application/zip\r\n\r\n" + strings.Repeat("PK\x03\x04"+strings.Repeat("\x00", 22)+"\x01\x00\x00\x00x", 5)}, // each within the one before
	{kind: "bad_archive", message: sound + "Content-Type: application/zip\r\n\r\nPK\x03\x04 cut off"},
}

func TestDefects(t *testing.T) {
	tried := map[string]bool{}
	for _, c := range defectCases {
		t.Run(c.kind, func(t *testing.T) {
			limits := c.limits
			if limits == (Limits{}) {
				limits = DefaultLimits
			}
			m := readLimited(t, []byte(c.message), limits)
			before := defectSet{seen: m.KnownDefects()}
			if before.has(c.kind) == BodyDefect(c.kind) {
				t.Errorf("%v before a body was decoded, BodyDefect is %t", before.seen, BodyDefect(c.kind))
			}
			all := defectSet{seen: m.Defects()}
			if !all.has(c.kind) {
				t.Errorf("%v, want %s among them", all.seen, c.kind)
			}
			for _, d := range all.seen {
				if DefectKinds()[d.Kind] == "" {
					t.Errorf("%s is not in the table of kinds", d.Kind)
				}
			}
		})
		tried[c.kind] = true
	}
	for kind := range DefectKinds() {
		if !tried[kind] {
			t.Errorf("no message with %s is tried", kind)
		}
	}
}

func TestNoDefects(t *testing.T) {
	for _, c := range []struct{ reason, message string }{
		{reason: "no body", message: sound},
		{reason: "text", message: sound + "\r\ntext\r\n"},
		{reason: "UTF-8 in the header, RFC 6532", message: sound + "Subject: ü\r\n\r\n"},
		{reason: "a line of 998 octets is allowed", message: sound + "\r\n" + strings.Repeat("x", 998) + "\r\n"},
		{reason: "parts nested as deep as is read", message: strings.Repeat("Content-Type: message/rfc822\r\n", 1) + sound + "\r\n" + sound + "\r\n"},
		{reason: "a sound multipart with preamble and epilogue", message: mixed + "preamble\r\n--b\r\n\r\ntext\r\n--b-- \t\r\nepilogue\r\n"},
		{reason: "soft line break at the end", message: sound + "Content-Transfer-Encoding: quoted-printable\r\n\r\ntext=\r\n"},
		{reason: "one file name twice", message: sound + "Content-Type: a/b; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\n"},
	} {
		if got := read(t, []byte(c.message)).Defects(); len(got) > 0 {
			t.Errorf("%s: %v", c.reason, got)
		}
	}
}

// A line end may fall anywhere relative to the buffer.
func TestLinesAcrossBuffer(t *testing.T) {
	for pad := lineBuffer - 4; pad < lineBuffer+4; pad++ {
		fill := strings.Repeat("x", pad-len(sound)-len("A: \r\n\r\n"))
		for _, c := range []struct{ body, defect string }{
			{body: "ab\r\nc\r\n"}, {body: "\r\n\r\n\r\n"}, {body: "a\rb", defect: "bare_cr"}, {body: "a\nb", defect: "bare_lf"},
			{body: "\r\r\n", defect: "bare_cr"}, {body: "\r", defect: "bare_cr"},
		} {
			b := []byte(sound + "A: " + fill + "\r\n\r\n" + c.body)
			m := read(t, b)
			checkBytes(t, m, b)
			for _, kind := range []string{"bare_cr", "bare_lf"} {
				if m.defects.has(kind) != (kind == c.defect) {
					t.Errorf("%d octets, %q: %s %t", pad, c.body, kind, m.defects.has(kind))
				}
			}
		}
	}
}
