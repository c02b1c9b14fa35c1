package message

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// benchMessages are a small one, one of usual size with text, HTML and an attachment, and a large one.
func benchMessages() map[string][]byte {
	received := strings.Repeat("Received: from mail.example.net (mail.example.net [192.0.2.1])\r\n\tby mx.example.org with ESMTPS id 4711\r\n\tfor <alice@example.org>; Thu, 6 Nov 2008 08:15:43 +0100\r\n", 3)
	head := received + sound + "To: Alice <alice@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"
	text := strings.Repeat("Dear Alice, please look at https://www.example.org/news and tell me what you think of it.\r\n\r\n", 15)
	var page strings.Builder
	page.WriteString("<html><head><style>.a { color: #333; } @media (max-width: 600px) { .b { display: none } }</style></head><body>")
	for i := range 60 {
		fmt.Fprintf(&page, "<table width=3D\"100%%\"><tr><td class=3D\"a\" style=3D\"font-size:14px;color:#333\">Offer =E2=82=AC %d: \r\n"+
			"<a href=3D\"https://shop.example.com/item/%d?utm=3Dx\">see <b>more</b></a> <img src=3D\"https://cdn.example.com/%d.png\"></td></tr></table>\r\n", i, i, i)
	}
	page.WriteString("</body></html>\r\n")
	multipart := func(attachment int) []byte {
		var b bytes.Buffer
		b.WriteString(head + "Content-Type: multipart/mixed; boundary=\"=_outer\"\r\n\r\n--=_outer\r\nContent-Type: multipart/alternative; boundary=\"=_inner\"\r\n\r\n")
		b.WriteString("--=_inner\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text)
		b.WriteString("--=_inner\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + page.String() + "--=_inner--\r\n")
		b.WriteString("--=_outer\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0x\r\n")
		line := strings.Repeat("QUJD", 19) + "\r\n"
		b.WriteString(strings.Repeat(line, attachment/len(line)))
		b.WriteString("--=_outer--\r\n")
		return b.Bytes()
	}
	return map[string][]byte{
		"4KB":  []byte(head + "Content-Type: text/plain; charset=utf-8\r\n\r\n" + text + text + text[:200]),
		"30KB": multipart(12 << 10),
		"10MB": multipart(10 << 20),
	}
}

func bench(b *testing.B, ask func(m *Message)) {
	for name, data := range benchMessages() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := Read(bytes.NewReader(data), int64(len(data)))
				if err != nil {
					b.Fatal(err)
				}
				ask(m)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) { bench(b, func(*Message) {}) }

// Text and links come out of the same pass: each is Read and that pass.
func BenchmarkText(b *testing.B)  { bench(b, func(m *Message) { m.Text() }) }
func BenchmarkLinks(b *testing.B) { bench(b, func(m *Message) { m.Links() }) }

func BenchmarkAttachments(b *testing.B) { bench(b, func(m *Message) { m.Attachments() }) }

func BenchmarkParseAddresses(b *testing.B) {
	for b.Loop() {
		if _, ok := ParseAddresses(`"Smith, Bob" <bob@example.org>, =?utf-8?q?J=C3=BCrgen?= <j@example.org>`); !ok {
			b.Fatal("not read")
		}
	}
}

// What is looked into costs as it weighs, and mail without it nothing: PDFs of two sizes, and an archive of a hundred files.
func BenchmarkDocuments(b *testing.B) {
	annotations := strings.Repeat(linkObject, 20)
	for _, c := range []struct {
		name string
		mail []byte
	}{
		{name: "PDF 100KB", mail: pdfMail("application/pdf", "a.pdf", "%PDF-1.7\n"+strings.Repeat("x", 100<<10)+objects(annotations))},
		{name: "PDF 1MB", mail: pdfMail("application/pdf", "a.pdf", "%PDF-1.7\n"+strings.Repeat("x", 1<<20)+objects(annotations))},
		{name: "ZIP", mail: pdfMail("application/zip", "a.zip", zipOf(b, slices.Repeat([]packed{{name: "a.txt", content: strings.Repeat("some text ", 500)}}, 100)...))},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.mail)))
			b.ReportAllocs()
			for b.Loop() {
				m := read(b, c.mail)
				m.Links()
				m.Attachments()
			}
		})
	}
}
