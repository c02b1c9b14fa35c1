package message

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// deflated is text as a stream of a PDF holds it.
func deflated(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.String()
}

// objects is an object stream with some objects in it.
func objects(text string) string {
	data := deflated(text)
	return fmt.Sprintf("7 0 obj\n<< /Type /ObjStm /N 1 /First 4 /Filter /FlateDecode /Length %d >>\nstream\r\n%s\nendstream\nendobj\n", len(data), data)
}

const linkObject = "5 0 obj\n<< /Type /Annot /Subtype /Link /A << /S /URI /URI (https://evil.example/a) >> >>\nendobj\n"

// pdfMail is a message with a file attached.
func pdfMail(mediaType, name, file string) []byte {
	return []byte(mixed + "--b\r\n\r\nsee https://text.example/\r\n--b\r\nContent-Type: " + mediaType + "; name=\"" + name + "\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(file)) + "\r\n--b--\r\n")
}

func TestPDF(t *testing.T) {
	for _, c := range []struct {
		why, file string
		links     []string
		active    []string
		defect    string
	}{
		{why: "a link", file: linkObject, links: []string{"https://evil.example/a"}},
		{why: "in an object stream", file: objects(linkObject), links: []string{"https://evil.example/a"}},
		{why: "in one that breaks off", file: objects(linkObject + strings.Repeat("/Type /Annot ", 20))[:180], links: []string{"https://evil.example/a"}},
		{why: "escapes", file: `/URI (http\072//evil.example/\(a\)/b(c)\` + "\n" + `d)`, links: []string{"http://evil.example/(a)/b(c)d"}},
		{why: "an escaped name", file: "/#55R#49(http://evil.example/a)", links: []string{"http://evil.example/a"}},
		{why: "a hexadecimal string", file: "/URI <687474703a2f2f6576 696c2e6578616d706c652f61>", links: []string{"http://evil.example/a"}},
		{why: "UTF-16", file: "/URI (\xfe\xff\x00h\x00t\x00t\x00p\x00:\x00/\x00/\x00e\x00.\x00d\x00e\x00/)", links: []string{"http://e.de/"}},
		{why: "a string that does not end, before one that does", file: "/URI (http://x.example/" + strings.Repeat("x", 5000) + "/URI (http://evil.example/a)", links: []string{"http://evil.example/a"}},
		{why: "an unclosed string elsewhere hides nothing", file: "/Title (((( unclosed\n" + linkObject, links: []string{"https://evil.example/a"}},
		{why: "a script at opening", file: "/OpenAction << /S /JavaScript /JS (app.alert(1)) >>", active: []string{"open_action", "script"}},
		{why: "a program", file: "/A << /S /Launch /F (cmd.exe) >>", active: []string{"launch"}},
		{why: "a file", file: "<< /Type /EmbeddedFile >>", active: []string{"embedded"}},
		{why: "a form", file: "/S /SubmitForm", active: []string{"form"}},
		{why: "names that only begin so", file: "/JSON /URIs (http://x.example/) /Launcher /AAA"},
		{why: "more than is read", file: strings.Repeat(" ", maxPDF) + linkObject, defect: "pdf_cut"},
		{why: "more than is inflated", file: objects(strings.Repeat(" ", maxPDFInflated) + linkObject), defect: "pdf_cut"},
	} {
		t.Run(c.why, func(t *testing.T) {
			m := read(t, pdfMail("application/pdf", "a.pdf", "%PDF-1.7\n"+c.file))
			var links []string
			for _, l := range m.Links() {
				if l.Source == "pdf" {
					links = append(links, l.URL)
				}
			}
			if d := cmp.Diff(c.links, links); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.active, m.ActiveIn(m.Attachments()[0].PartID)); d != "" {
				t.Error(d)
			}
			if cut := (m.contentDefects).has("pdf_cut"); cut != (c.defect != "") {
				t.Errorf("pdf_cut: %v", cut)
			}
		})
	}
}

// A PDF is one by its content, whatever it is declared as, and what is no PDF has no links of one.
func TestPDFUnderOtherTypes(t *testing.T) {
	for _, c := range []struct {
		mediaType, name, file string
		want                  int
	}{
		{mediaType: "application/octet-stream", name: "invoice", file: "%PDF-1.4\n" + linkObject, want: 1},
		{mediaType: "application/x-pdf", name: "", file: "%PDF-1.4\n" + linkObject, want: 1},
		{mediaType: "image/png", name: "invoice.pdf", file: strings.Repeat("\n", 1000) + "%PDF-1.4\n" + linkObject, want: 1},
		{mediaType: "application/pdf", name: "a.pdf", file: linkObject},
		{mediaType: "image/png", name: "a.png", file: "%PDF-1.4\n" + linkObject},
	} {
		m := read(t, pdfMail(c.mediaType, c.name, c.file))
		n := 0
		for _, l := range m.Links() {
			if l.Source == "pdf" {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s %q: %d links, want %d", c.mediaType, c.name, n, c.want)
		}
	}
}

// FuzzPDF reads any file as a PDF: it does not panic, and keeps to its bounds.
func FuzzPDF(f *testing.F) {
	for _, seed := range []string{
		linkObject, objects(linkObject), objects(linkObject)[:100], "/URI <68 7>/URI(\\", "/#5/#55#5/URI (\xfe\xff\x00)", "/ObjStm stream\n\x78",
		"/OpenAction<</JS(/Launch)>>", "/URI(((((", "/ObjStm stream\r\n" + deflated("/ObjStm stream\n"+deflated("/URI(http://a.de/)")),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		links := linkSet{max: 100}
		s := pdfScanner{links: &links}
		var active activeSet
		s.scan(file, &active)
		if len(links.links) > 100 || s.inflated > maxPDFInflated || s.streams > maxPDFStreams || s.tries > maxPDFTries {
			t.Errorf("%d links, %d octets inflated of %d streams", len(links.links), s.inflated, s.streams)
		}
		words := ActiveWords()
		for _, w := range active.words {
			if words[w] == "" {
				t.Errorf("the unknown word %q", w)
			}
		}
	})
}

// Invitations bring links, shown or attached, folded over lines as they may be.
func TestCalendar(t *testing.T) {
	event := "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Meeting\\, at noon\r\nDESCRIPTION:Join at https://meet.example/long\r\n er-path/x\\nand bring tea\r\nURL:https://evil.example/\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	want := []string{"https://meet.example/longer-path/x", "https://evil.example/"}
	for _, c := range []struct {
		why, head string
		shown     bool
	}{
		{why: "shown", head: "Content-Type: text/calendar; method=REQUEST", shown: true},
		{why: "attached", head: "Content-Type: text/calendar\r\nContent-Disposition: attachment; filename=invite.ics"},
		{why: "by another type", head: "Content-Type: application/ics; name=invite.ics"},
		{why: "by its name", head: "Content-Type: application/octet-stream; name=invite.ics"},
	} {
		m := read(t, []byte(mixed+"--b\r\n"+c.head+"\r\n\r\n"+event+"--b--\r\n"))
		var links []string
		for _, l := range m.Links() {
			if l.Source == "calendar" {
				links = append(links, l.URL)
			}
		}
		if d := cmp.Diff(want, links); d != "" {
			t.Errorf("%s: %s", c.why, d)
		}
		if shown := strings.Contains(m.Text(), "Meeting, at noon") && strings.Contains(m.Text(), "\nand bring tea"); shown != c.shown {
			t.Errorf("%s: the text is %q", c.why, m.Text())
		}
	}
}
