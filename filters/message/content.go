package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/net/html/charset"
)

// content is what people read in a message.
type content struct {
	text   string
	html   string
	hidden string
	links  []Link

	active   activeSet
	activeIn map[string]*activeSet // by the ID of the attached part
	hiddenBy hiding
}

// Text is the text that a reader sees: the text parts, those in HTML rendered to text, in their order, with LF line ends and in
// UTF-8. Of alternatives all are given. Attached texts are not in it. It ends at the limit of text.
func (m *Message) Text() string {
	m.loadContent()
	return m.content.text
}

// HTML is the source of the text/html parts in UTF-8, up to the limit of HTML.
func (m *Message) HTML() string {
	m.loadContent()
	return m.content.html
}

// Hidden is the text in the HTML parts that a reader doesn't see: not displayed, invisible, of size 0, in the colour of its
// background, or moved out of sight. Comments are not in it.
func (m *Message) Hidden() string {
	m.loadContent()
	return m.content.hidden
}

// Links are the links in the text and the HTML, those in attached HTML too, in their order and each once, up to the limit.
func (m *Message) Links() []Link {
	m.loadContent()
	return m.content.links
}

func (m *Message) loadContent() {
	m.contentOnce.Do(func() {
		defer m.contentRead.Store(true)
		l := contentLoader{
			m:       m,
			visible: textSink{max: m.limits.Text},
			hidden:  textSink{max: m.limits.Text},
			links:   linkSet{max: m.limits.Links, maxShown: m.limits.Shown},
			left:    m.limits.HTML,
			pdfLeft: maxPDF,
		}
		l.pdf.links = &l.links
		for _, p := range m.parts {
			if p.Leaf() {
				l.part(p)
			}
		}
		l.release()
		m.content = content{
			text: l.visible.String(), hidden: l.hidden.String(), html: strings.Join(l.html, ""), links: l.links.links,
			active: l.active, activeIn: l.activeIn, hiddenBy: l.hiddenBy,
		}
		if l.visible.cut || l.hidden.cut || l.cut {
			m.contentDefects.add("text_cut", "more text than is read")
		}
		if l.pdf.cut {
			m.contentDefects.add("pdf_cut", "more of a PDF than is read")
		}
		if l.links.cut {
			m.contentDefects.add("many_links", "more than %d links", m.limits.Links)
		}
	})
}

// A contentLoader gathers the content of a message from its parts.
type contentLoader struct {
	m       *Message
	visible textSink
	hidden  textSink
	html    []string
	links   linkSet
	left    int // octets of source yet to be read
	cut     bool
	source  *bytes.Buffer // of the part that is being read

	active   activeSet
	activeIn map[string]*activeSet
	hiddenBy hiding

	pdf     pdfScanner
	pdfLeft int // octets of PDFs yet to be read
}

// sources are buffers for the decoded body of a part, which is gone once its charset has been decoded.
var sources = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxSource bounds the buffers that are kept for the next message.
const maxSource = 256 << 10

func (l *contentLoader) release() {
	if l.source != nil && l.source.Cap() <= maxSource {
		sources.Put(l.source)
	}
	l.source = nil
}

func (l *contentLoader) part(p *Part) {
	kind := p.textKind()
	switch {
	case p.calendar():
		l.calendar(p, kind == plainText && p.Disposition != "attachment")
		return
	case kind == notText:
		l.document(p)
		return
	case kind == plainText && p.Disposition == "attachment":
		return
	}
	source := l.read(p)
	if kind == plainText {
		text := l.decode(p, source, p.Charset)
		l.visible.paragraph()
		l.visible.plain(text)
		l.links.scan(text, "text")
		return
	}
	attached := kind == attachedPage || p.Disposition == "attachment"
	text := l.decode(p, source, htmlCharset(source, p.Charset))
	r := htmlReader{links: &l.links, source: "html"}
	if attached {
		r.source, r.visible, r.hidden, r.active = "attachment", &textSink{}, &textSink{}, l.attachedActive(p)
	} else {
		r.visible, r.hidden, r.active = &l.visible, &l.hidden, &l.active
		l.html = append(l.html, text)
		l.visible.paragraph()
		l.hidden.paragraph()
	}
	r.render(text)
	l.hiddenBy |= r.hiddenBy
}

// calendar gathers the links of a calendar, and its text where it is shown.
func (l *contentLoader) calendar(p *Part, shown bool) {
	text := calendarText(l.decode(p, l.read(p), p.Charset))
	if shown {
		l.visible.paragraph()
		l.visible.plain(text)
	}
	l.links.scan(text, "calendar")
}

// document gathers the links of a PDF, and what is active in it.
func (l *contentLoader) document(p *Part) {
	declared := strings.Contains(p.Type, "pdf") || kindOfExtension[extension(p.Name)] == "pdf"
	if !declared && p.Type != "application/octet-stream" {
		return
	}
	if l.pdfLeft <= 0 {
		l.pdf.cut = l.pdf.cut || declared
		return
	}
	buf := l.buffer()
	body := newContentReader(p, &l.m.contentDefects)
	head, err := buf.ReadFrom(io.LimitReader(body, 1024))
	if err == nil && isPDF(buf.Bytes()) {
		_, err = buf.ReadFrom(io.LimitReader(body, int64(l.pdfLeft)-head+1))
		b := buf.Bytes()
		if len(b) > l.pdfLeft {
			l.pdf.cut = true
			b = b[:l.pdfLeft]
		}
		l.pdfLeft -= len(b)
		l.pdf.scan(b, l.attachedActive(p))
	}
	if err != nil {
		l.m.fail(fmt.Errorf("part %s: %w", p.ID, err))
	}
}

// attachedActive is where the active things of an attached part are noted.
func (l *contentLoader) attachedActive(p *Part) *activeSet {
	if l.activeIn == nil {
		l.activeIn = map[string]*activeSet{}
	}
	set := &activeSet{}
	l.activeIn[p.ID] = set
	return set
}

// read gives the decoded body of a part, as much as may yet be read. It is valid until the next one is read.
func (l *contentLoader) read(p *Part) []byte {
	buf := l.buffer()
	buf.Grow(int(min(p.Raw().Size(), int64(l.left))) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(newContentReader(p, &l.m.contentDefects), int64(l.left)+1))
	if err != nil {
		l.m.fail(fmt.Errorf("part %s: %w", p.ID, err))
	}
	b := buf.Bytes()
	if n > int64(l.left) {
		l.cut = true
		b = b[:l.left]
	}
	l.left -= len(b)
	return b
}

// buffer is empty, and used for one part after the other.
func (l *contentLoader) buffer() *bytes.Buffer {
	if l.source == nil {
		l.source = sources.Get().(*bytes.Buffer)
	}
	l.source.Reset()
	return l.source
}

func (l *contentLoader) decode(p *Part, b []byte, name string) string {
	text, ok := decodeCharset(b, name)
	if !ok && !l.cut {
		l.m.contentDefects.add("bad_charset", "part %s: %q", p.ID, name)
	}
	return text
}

type textKind uint8

const (
	notText textKind = iota
	plainText
	htmlText
	attachedPage // HTML or SVG that opens in a browser, whatever its declared type
)

// textKind says whether the part is text to be read, and of what kind.
func (p *Part) textKind() textKind {
	switch {
	case p.Type == "text/html" || p.Type == "application/xhtml+xml" || p.Type == "text/x-amp-html" || p.Type == "text/watch-html":
		return htmlText
	case p.attachedPage():
		return attachedPage
	case p.opaque:
		return plainText // a body that could not be divided is shown as it is
	case p.Type == "text/css" || p.Type == "text/javascript" || p.Type == "text/csv" || strings.HasSuffix(p.Type, "vcard"):
		return notText
	case strings.HasPrefix(p.Type, "text/") || p.Type == "message/delivery-status":
		return plainText
	}
	return notText
}

// attachedPage reports whether a part is a page or a picture that a browser opens: by its name, as systems go by that, or
// as a picture in SVG, which can hold all that a page can.
func (p *Part) attachedPage() bool {
	if p.Type == "image/svg+xml" {
		return true
	}
	if p.Name == "" || strings.HasPrefix(p.Type, "text/") && p.Disposition != "attachment" {
		return false
	}
	kind := kindOfExtension[extension(p.Name)]
	return kind == "html" || kind == "svg"
}

// htmlCharset is the charset of an HTML source: the declared one, else that of a byte order mark or a meta element.
func htmlCharset(source []byte, declared string) string {
	head := source[:min(len(source), 1024)]
	if declared != "" && declared != "us-ascii" {
		return declared
	}
	_, name, certain := charset.DetermineEncoding(head, "")
	if certain || name != "utf-8" && name != "windows-1252" {
		return name
	}
	return declared // these two are what undeclared text is taken for anyway
}

// A textSink gathers text up to a limit. Text of HTML comes in with its white space collapsed.
type textSink struct {
	b     strings.Builder
	max   int
	cut   bool
	space bool // a space is due before the next word
	lines int  // line ends are due before the next word
}

func (s *textSink) String() string { return s.b.String() }

// paragraph begins on a new line.
func (s *textSink) paragraph() {
	if s.b.Len() > 0 {
		s.lines = max(s.lines, 1)
	}
	s.space = false
}

// put appends text after the white space that is due.
func (s *textSink) put(text string) {
	for ; s.lines > 0; s.lines-- {
		s.write("\n")
		s.space = false
	}
	if s.space {
		s.write(" ")
		s.space = false
	}
	s.write(text)
}

func (s *textSink) write(text string) {
	if room := s.max - s.b.Len(); len(text) > room {
		s.cut = true
		text = cutUTF8(text, room)
	}
	s.b.WriteString(text)
}

// plain appends text as it is, but for its line ends.
func (s *textSink) plain(text string) {
	s.b.Grow(max(min(len(text)+s.lines+1, s.max-s.b.Len()), 0))
	for len(text) > 0 {
		line, rest, found := strings.Cut(text, "\n")
		s.put(strings.TrimRight(line, "\r"))
		text = rest
		if !found {
			break
		}
		s.lines++
	}
}

// words appends text with each run of white space become one space.
func (s *textSink) words(text string) {
	for len(text) > 0 {
		n := 0
		for n < len(text) && !isHTMLSpace(text, n) {
			n++
		}
		if n > 0 {
			s.put(text[:n])
			text = text[n:]
			continue
		}
		s.space = s.space || s.b.Len() > 0 && s.lines == 0
		if text[0] >= 0x80 {
			text = text[2:] // a no-break space
		} else {
			text = text[1:]
		}
	}
}

// isHTMLSpace reports whether there is white space at s[i]. The no-break space counts: it matters to the line only, and words
// that are matched are hidden behind it.
func isHTMLSpace(s string, i int) bool {
	switch s[i] {
	case ' ', '\t', '\n', '\r', '\f':
		return true
	case 0xC2:
		return i+1 < len(s) && s[i+1] == 0xA0
	}
	return false
}
