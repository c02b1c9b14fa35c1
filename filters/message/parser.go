package message

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxBoundary is the longest boundary that is looked for. RFC 2046 section 5.1.1 allows 70, and no line may be longer than 998.
const maxBoundary = lineMust - 4

// A parser goes over a message line by line and finds its header sections and parts.
type parser struct {
	m     *Message
	lines *lineReader
	open  []openPart // the parts that the current line is in, outermost first
	head  headerReader
	state parserState
}

type parserState uint8

const (
	inHeader parserState = iota // in the header section of the innermost open part
	inBody                      // in a body, a preamble or an epilogue
)

// An openPart is a part that has begun and not ended.
type openPart struct {
	part     *Part
	boundary string // of a multipart; empty for others, and while it is sniffed
	divided  bool   // a multipart
	sniff    bool   // a multipart without boundary: its first line gives it, if it looks like one
	closed   bool   // the closing boundary has been seen
	children int
}

func (p *parser) run() error {
	p.lines = newLineReader(p.m.src, p.m.size)
	defer p.lines.close()
	p.head = headerReader{src: p.m.src, size: p.m.size, defects: &p.m.defects,
		octets: p.m.limits.Header, fields: p.m.limits.Fields}
	defer p.head.borrow()()
	p.begin(nil, 0)
	prevEOL := 0
	for {
		line, err := p.lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if !p.delimiter(line, prevEOL) {
			if err := p.line(line); err != nil {
				return err
			}
		}
		prevEOL = p.lines.eol
	}
	for p.state == inHeader {
		p.endHeader(p.m.size, p.m.size)
	}
	p.close(0, p.m.size)
	p.lineDefects()
	return nil
}

func (p *parser) line(line piece) error {
	if p.state != inHeader {
		if top := &p.open[len(p.open)-1]; top.sniff && len(bytes.TrimSpace(line.data)) > 0 {
			top.sniff = false
		}
		return nil
	}
	next, err := p.head.line(line)
	if err != nil {
		return err
	}
	end := line.off + int64(len(line.data))
	switch next {
	case headerBlank:
		p.endHeader(line.off, end)
	case headerOver:
		p.endHeader(line.off, line.off)
		// The line that was no field is the first of the body, and may open a part at once.
		if !p.delimiter(line, 0) && p.state == inHeader {
			return p.line(line)
		}
	}
	return nil
}

// begin opens a part whose header section starts at off. Beyond the limit of parts it opens none.
func (p *parser) begin(parent *Part, off int64) {
	if parent != nil {
		p.open[len(p.open)-1].children++
	}
	if len(p.m.parts) >= max(p.m.limits.Parts, 1) {
		p.m.defects.add("many_parts", "more than %d parts", p.m.limits.Parts)
		p.state = inBody
		return
	}
	part := &Part{m: p.m, Parent: parent, ID: "1", Depth: 1, headerStart: off, headerEnd: off, bodyStart: -1, bodyEnd: -1}
	if parent != nil {
		part.ID = parent.ID + "." + strconv.Itoa(p.open[len(p.open)-1].children)
		part.Depth = parent.Depth + 1
	}
	p.m.parts = append(p.m.parts, part)
	p.open = append(p.open, openPart{part: part})
	p.state = inHeader
	p.head.start()
}

// endHeader ends the header section of the innermost part, and goes into its body, which starts at body.
func (p *parser) endHeader(end, body int64) {
	top := &p.open[len(p.open)-1]
	part := top.part
	part.Header = p.head.finish()
	part.headerEnd, part.bodyStart = end, body
	part.readFields()
	p.state = inBody
	nests := part.multipart() || part.message()
	if !nests {
		return
	}
	if part.Depth >= p.m.limits.Depth {
		p.m.defects.add("deep_mime", "parts nested more than %d deep", p.m.limits.Depth)
		part.opaque = true
		return
	}
	if part.message() {
		p.begin(part, body)
		return
	}
	top.divided = true
	top.boundary = part.Params["boundary"]
	if top.boundary == "" || len(top.boundary) > maxBoundary {
		top.boundary, top.sniff = "", true
		p.m.defects.add("no_boundary", "part %s is %s without a usable boundary", part.ID, part.Type)
	}
}

// delimiter handles a line that is a boundary delimiter (RFC 2046 section 5.1.1): "--" and the boundary, "--" once more at
// the end, and white space. The line end before it belongs to it.
func (p *parser) delimiter(line piece, prevEOL int) bool {
	if len(p.open) == 0 || !line.first || len(line.data) < 3 || line.data[0] != '-' || line.data[1] != '-' {
		return false
	}
	text := bytes.TrimRight(line.data[2:], " \t\r\n")
	i, last := p.match(text)
	if i < 0 {
		return false
	}
	if p.state == inHeader {
		p.endHeader(line.off, line.off)
		// A message part opens its content at once, which then has neither header nor body.
		for p.state == inHeader {
			p.endHeader(line.off, line.off)
		}
	}
	p.close(i+1, line.off-int64(prevEOL))
	top := &p.open[i]
	p.state = inBody
	if last {
		top.closed = true
		return true
	}
	if top.closed {
		p.m.defects.add("parts_after_end", "part %s goes on after its closing boundary", top.part.ID)
	}
	p.begin(top.part, line.off+int64(len(line.data)))
	return true
}

// match finds the open multipart that the delimiter text belongs to: the innermost that is not closed, else the innermost.
// A nested multipart may have the boundary of the one around it; what follows its end then belongs to the outer one.
func (p *parser) match(text []byte) (index int, last bool) {
	index = -1
	for i := len(p.open) - 1; i >= 0; i-- {
		o := &p.open[i]
		if o.sniff && i == len(p.open)-1 && len(bytes.Trim(text, "-")) > 0 && len(text) <= maxBoundary {
			o.boundary, o.sniff = string(text), false
		}
		b := o.boundary
		if b == "" || !bytes.HasPrefix(text, []byte(b)) {
			continue
		}
		rest := text[len(b):]
		if len(rest) != 0 && string(rest) != "--" {
			continue
		}
		if !o.closed {
			return i, len(rest) != 0
		}
		if index < 0 {
			index, last = i, len(rest) != 0
		}
	}
	return index, last
}

// close ends all open parts from index on, at offset end.
func (p *parser) close(index int, end int64) {
	for i := len(p.open) - 1; i >= index; i-- {
		o := p.open[i]
		o.part.bodyEnd = max(end, o.part.bodyStart)
		switch {
		case !o.divided:
		case o.children == 0:
			o.part.opaque = true
			p.m.defects.add("empty_multipart", "part %s is %s, but its boundary is not in it", o.part.ID, o.part.Type)
		case !o.closed:
			p.m.defects.add("truncated_multipart", "part %s has no closing boundary", o.part.ID)
		}
	}
	p.open = p.open[:index]
}

func (p *parser) lineDefects() {
	l := p.lines
	for _, d := range []struct {
		saw    bool
		kind   string
		detail string
	}{
		{saw: l.sawNUL, kind: "nul", detail: "a NUL octet"},
		{saw: l.sawCR || l.lastCR, kind: "bare_cr", detail: "a CR without LF"},
		{saw: l.sawLF, kind: "bare_lf", detail: "an LF without CR"},
		{saw: l.sawLong, kind: "long_line", detail: "a line of more than 998 octets"},
	} {
		if d.saw {
			p.m.defects.add(d.kind, "%s", d.detail)
		}
	}
}

// judgeHeader notes what is wrong with the message's own fields (RFC 5322 section 3.6).
func (m *Message) judgeHeader() {
	if len(m.Header) == 0 {
		m.defects.add("empty_header", "no header field")
	}
	for _, name := range []string{"From", "Date", "Message-ID"} {
		if m.Header.Count(name) == 0 {
			m.defects.add("no_"+strings.ToLower(strings.ReplaceAll(name, "-", "_")), "no %s field", name)
		}
	}
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References",
		"Subject", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"} {
		n := m.Header.Count(name)
		if n < 2 {
			continue
		}
		m.defects.add("repeated_field", "%d %s fields", n, name)
		if name == "From" {
			m.defects.add("many_from", "%d From fields", n)
		}
	}
	if f, ok := m.Header.First("From"); ok {
		if addrs, ok := ParseAddresses(f.Value()); !ok || len(addrs) == 0 {
			m.defects.add("bad_from", "From: %s", f.Value())
		}
	}
	if f, ok := m.Header.First("Date"); ok {
		if _, ok := ParseDate(f.Value()); !ok {
			m.defects.add("bad_date", "Date: %s", f.Value())
		}
	}
	m.judgeWords()
}

// judgeWords notes 8-bit bytes and undecodable words in the fields that people read.
func (m *Message) judgeWords() {
	for _, f := range m.Header {
		if !valid8bit(f.Raw) {
			m.defects.add("8bit_header", "in %s", f.Name)
		}
		if !hasWords(f.Name) {
			continue
		}
		if _, ok := DecodeWords(f.Value()); !ok {
			m.defects.add("bad_word", "in %s", f.Name)
		}
	}
}

// hasWords reports whether people read the field of that name.
func hasWords(name string) bool {
	for _, known := range [...]string{"Subject", "From", "To", "Cc", "Reply-To", "Sender", "Comments"} {
		if strings.EqualFold(name, known) {
			return true
		}
	}
	return false
}
