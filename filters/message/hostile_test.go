package message

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// A countingSource counts the bytes that are read of it.
type countingSource struct {
	data string
	read int64
}

func (s *countingSource) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, s.data[min(off, int64(len(s.data))):])
	s.read += int64(n)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// numbered repeats a format with a running number.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// hostile are messages that cost a careless reader more than they weigh.
var hostile = []struct{ name, message string }{
	{name: "a field of 1 MB", message: "Subject: " + strings.Repeat("a b ", 250_000) + "\r\n\r\nx"},
	{name: "a field of 250,000 lines", message: "Subject: " + strings.Repeat("a\r\n ", 250_000) + "\r\n\r\nx"},
	{name: "20,000 fields", message: strings.Repeat("X: y\r\n", 20_000) + "\r\nx"},
	{name: "lines that are no fields among fields", message: strings.Repeat("x\r\nFrom: y\r\n", 100_000) + "\r\nx"},
	{name: "lines that are no fields", message: strings.Repeat("x\r\n", 300_000)},
	{name: "170,000 addresses", message: "From: " + strings.Repeat("a@b.c,", 170_000) + "\r\n\r\nx"},
	{name: "quotes in From", message: "From: \"" + strings.Repeat(`\"`, 400_000) + "\r\n\r\nx"},
	{name: "comments in From", message: "From: " + strings.Repeat("(", 1_000_000) + "\r\n\r\nx"},
	{name: "address literals in From", message: "From: " + strings.Repeat("[", 300_000) + "\r\n\r\nx"},
	{name: "encoded words without end", message: "Subject: " + strings.Repeat("=?x?q?", 170_000) + "\r\n\r\nx"},
	{name: "parameters in pieces", message: "Content-Type: a/b;" + numbered("n*%d*=x;", 80_000) + "\r\n\r\nx"},
	{name: "comments in Content-Type", message: "Content-Type: a/b" + strings.Repeat("(", 1_000_000) + "\r\n\r\nx"},
	{name: "4 MB of empty lines", message: "A: b\r\n\r\n" + strings.Repeat("\r\n", 2<<20)},
	{name: "10,000 nested multiparts", message: numbered("Content-Type: multipart/mixed; boundary=b%[1]d\r\n\r\n--b%[1]d\r\n", 10_000)},
	{name: "10,000 nested messages", message: strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 10_000)},
	{name: "100,000 parts", message: "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 100_000)},
	{name: "lines like delimiters, deep inside", message: numbered("Content-Type: multipart/mixed; boundary=b%[1]d\r\n\r\n--b%[1]d\r\n", 60) + strings.Repeat("--b\r\n", 200_000)},
	{name: "a line of 10 MB", message: "A: b\r\n\r\n" + strings.Repeat("a", 10<<20)},
	{name: "a line of links", message: "A: b\r\n\r\n" + strings.Repeat("http://a.b/", 1<<18)},
	{name: "slashes", message: "A: b\r\n\r\n" + strings.Repeat("a.de/", 200_000)},
	{name: "base64 bomb", message: "Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(strings.Repeat("UEsDBAAA", 9)+"\r\n", 40_000)},
	{name: "escapes that don't end", message: "Content-Type: a/b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + strings.Repeat("= ", 1<<20)},
	{name: "comments for Outlook", message: htmlHead + strings.Repeat("<!--[if mso]><a href=http://a.de/><![endif]-->", 20_000)},
	{name: "open elements", message: htmlHead + strings.Repeat("<div>", 80_000)},
	{name: "end tags that close nothing", message: htmlHead + strings.Repeat("<i>", maxElements) + strings.Repeat("</b>", 80_000)},
	{name: "an element of many attributes", message: htmlHead + "<a " + numbered("x%d ", 60_000) + ">"},
	{name: "tags that don't end", message: htmlHead + strings.Repeat("<a ", 1<<18)},
	{name: "comments that don't end", message: htmlHead + strings.Repeat("<!--", 1<<18)},
	{name: "character references that don't end", message: htmlHead + strings.Repeat("&", 1<<20)},
	{name: "style blocks in each other", message: htmlHead + "<style>" + strings.Repeat("@media x{", 1<<17)},
	{name: "style comments", message: htmlHead + "<style>" + strings.Repeat("/*", 1<<18)},
	{name: "many rules for many classes", message: htmlHead + "<style>" + numbered(".x%d{display:none}", 50_000) + "</style>" + strings.Repeat("<p class='"+strings.Repeat("a ", 400)+"'>", 1000)},
	{name: "30,000 links", message: htmlHead + numbered("<a href=http://x%d.de/>", 30_000)},
	{name: "a PDF of links", message: pdfHead + strings.Repeat("/URI(http://a.b)", 60_000)},
	{name: "a PDF of links that don't end", message: pdfHead + strings.Repeat("/URI(", 200_000)},
	{name: "a PDF of object streams", message: pdfHead + strings.Repeat("/ObjStm stream\nx\x9c", 50_000)},
	{name: "a PDF that inflates", message: pdfHead + strings.Repeat("/ObjStm stream\n"+deflated(strings.Repeat("/URI(x)", 100_000)), 300)},
	{name: "a PDF of escapes", message: pdfHead + strings.Repeat("/#", 500_000)},
	{name: "a ZIP archive whose files are one", message: zipHead + overlapping(20_000)},
	{name: "a ZIP archive that is in itself", message: zipHead + strings.Repeat("PK\x03\x04"+strings.Repeat("\x00", 22)+"\x01\x00\x00\x00x", 30_000)},
	{name: "7z names that end badly", message: "Content-Type: application/x-7z-compressed\r\n\r\n" + sevenZipOf("\x01"+strings.Repeat("\x11\xc0\xff\xff\x00"+strings.Repeat("a\x00\x00\x00", 20_000), 10))},
	{name: "a tar archive of names", message: "Content-Type: application/x-tar\r\n\r\n" + strings.Repeat("x"+strings.Repeat("\x00", 256)+"ustar"+strings.Repeat("\x00", 250), 4_000)},
	{name: "one link 100,000 times, below a long base", message: htmlHead + "<base href='http://" + strings.Repeat("a", 2000) + ".de/'>" + strings.Repeat("<a href=x>", 100_000)},
}

const zipHead = "Content-Type: application/zip\r\n\r\n"

// overlapping is a ZIP archive with one file, which its directory has n times.
func overlapping(n int) string {
	file := "PK\x03\x04" + strings.Repeat("\x00", 22) + "\x01\x00\x00\x00x" + strings.Repeat("x", 100_000)
	entry := "PK\x01\x02" + strings.Repeat("\x00", 24) + "\x01\x00" + strings.Repeat("\x00", 16) + "x"
	size := binary.LittleEndian.AppendUint32(nil, uint32(n*len(entry)))
	at := binary.LittleEndian.AppendUint32(nil, uint32(len(file)))
	count := binary.LittleEndian.AppendUint16(nil, uint16(n))
	return file + strings.Repeat(entry, n) + "PK\x05\x06\x00\x00\x00\x00" + string(count) + string(count) + string(size) + string(at) + "\x00\x00"
}

// sevenZipOf is an archive of 7-Zip with a header and nothing else.
func sevenZipOf(header string) string {
	size := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return "7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("\x00", 12) + string(size) + "\x00\x00\x00\x00" + header
}

const pdfHead = "Content-Type: application/pdf\r\n\r\n%PDF-1.7\r\n"

const htmlHead = "Content-Type: text/html\r\n\r\n"

// TestHostile shows that what is read of the source and allocated is linear in the message's size, and what is kept is bounded.
func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && len(c.message) > 1<<20 {
				t.Skip("a large message")
			}
			src := &countingSource{data: c.message}
			size := int64(len(c.message))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			m, err := Read(src, size)
			if err != nil {
				t.Fatal(err)
			}
			if over := src.read - size; over > maxBadLines*lookAhead+lookAhead {
				t.Errorf("%d bytes were read again, of %d", over, size)
			}
			m.Defects()
			for _, f := range m.Header {
				f.Decoded()
			}
			runtime.ReadMemStats(&after)
			// Three passes: the structure, the text, the attachments.
			if src.read > 3*size+maxBadLines*lookAhead+lookAhead {
				t.Errorf("%d bytes were read, of %d", src.read, size)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > uint64(60*size)+(8<<20) {
				t.Errorf("%d bytes were allocated for %d", n, size)
			}
			checkLimits(t, m)
		})
	}
}

func checkLimits(t *testing.T, m *Message) {
	t.Helper()
	limits := m.limits
	fields, octets, depth := 0, 0, 0
	for _, p := range m.Parts() {
		fields += len(p.Header)
		depth = max(depth, p.Depth)
		for _, f := range p.Header {
			octets += len(f.Raw)
		}
	}
	for _, c := range []struct {
		what     string
		got, max int
	}{
		{what: "fields", got: fields, max: limits.Fields},
		{what: "octets of header", got: octets, max: int(limits.Header)},
		{what: "parts", got: len(m.Parts()), max: limits.Parts},
		{what: "depth", got: depth, max: limits.Depth},
		{what: "octets of text", got: len(m.Text()), max: limits.Text},
		{what: "octets of hidden text", got: len(m.Hidden()), max: limits.Text},
		{what: "links", got: len(m.Links()), max: limits.Links},
		{what: "attachments", got: len(m.Attachments()), max: limits.Attachments},
	} {
		if c.got > c.max {
			t.Errorf("%d %s, more than %d", c.got, c.what, c.max)
		}
	}
}

// A 25 MB message costs little memory.
func TestLargeMessageStaysInSource(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(mixed + "--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/octet-stream; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for b.Len() < 25<<20 {
		b.WriteString(strings.Repeat("QUJD", 19) + "\r\n")
	}
	b.WriteString("--b--\r\n")
	read := func() {
		m, err := Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if m.Text() != "text" || len(m.Attachments()) != 1 || m.Attachments()[0].Size < 18<<20 || len(m.Defects()) != 0 {
			t.Fatalf("%q, %v, %v", m.Text(), m.Attachments(), m.Defects())
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
		t.Errorf("%d bytes were allocated, want 2 MB at most", n)
	}
}

// failingSource fails to give what lies behind its end.
type failingSource struct {
	data string
	err  error
}

func (s failingSource) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, s.data[min(off, int64(len(s.data))):])
	if n < len(p) {
		return n, s.err
	}
	return n, nil
}
