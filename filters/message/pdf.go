package message

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"io"
	"strings"
	"unicode/utf16"
)

// A PDF file (ISO 32000-2) is a row of objects: dictionaries of names and values, of which some have a stream of data. What
// happens at a click or when the file is opened is told by actions, which are dictionaries as well:
//
//	5 0 obj
//	<< /Type /Annot /Subtype /Link /A << /S /URI /URI (https://example.org/) >> >>
//	endobj
//
// Since version 1.5 objects can stand in object streams, which are compressed (section 7.5.7).
//
// The scanner does not build the tree of objects: readers find objects through a table that can lead them past anything, and
// repair what is broken, so a part that no reader should see may be what they show. It goes through the octets once, looks
// at each name, inflates the object streams within bounds, and takes down the links and what is active.

// Bounds of what is read of one PDF and of all in a message.
const (
	maxPDF         = 4 << 20 // octets read of the PDFs of a message
	maxPDFInflated = 4 << 20 // octets that come out of their object streams
	maxPDFStreams  = 2_000   // object streams that are opened
	maxPDFString   = 4096    // octets of the source of a link
	maxPDFName     = 32      // octets of the names that are known, with room for escapes
	maxPDFTries    = 4_000   // links that are read
)

// pdfWords are names in a PDF, each with the word of [ActiveWords] for it.
var pdfWords = map[string]string{
	"JS": "script", "JavaScript": "script", "OpenAction": "open_action", "AA": "open_action", "Launch": "launch",
	"EmbeddedFile": "embedded", "EmbeddedFiles": "embedded", "SubmitForm": "form",
}

// A pdfScanner goes through the PDFs of one message.
type pdfScanner struct {
	links    *linkSet
	active   *activeSet // of the one that is being read
	inflate  io.ReadCloser
	buf      bytes.Buffer // what came out of a stream
	inflated int
	streams  int
	tries    int
	cut      bool // something was left out
}

// isPDF reports whether a file is taken for a PDF by the programs that open it: the mark may stand within the first KiB.
func isPDF(head []byte) bool {
	return bytes.Contains(head[:min(len(head), 1024)], []byte("%PDF-"))
}

// scan reads a whole PDF.
func (s *pdfScanner) scan(b []byte, active *activeSet) {
	s.active = active
	s.names(b, true)
}

// names goes through the names in b. Object streams are opened in the file itself, and not within each other.
func (s *pdfScanner) names(b []byte, file bool) {
	for i := 0; i < len(b); {
		slash := bytes.IndexByte(b[i:], '/')
		if slash < 0 {
			return
		}
		i += slash + 1
		name, after := pdfName(b, i)
		i = after
		switch name {
		case "URI":
			i = s.uri(b, i)
		case "ObjStm":
			if file {
				s.objectStream(b[i:])
			}
		default:
			if word := pdfWords[name]; word != "" {
				s.active.add(word)
			}
		}
	}
}

// pdfName reads the name that begins at i, with its escapes (section 7.3.5); empty for one that is too long to be of any
// interest.
func pdfName(b []byte, i int) (name string, after int) {
	start, escaped := i, false
	for i < len(b) && i-start <= maxPDFName && pdfRegular(b[i]) {
		escaped = escaped || b[i] == '#'
		i++
	}
	if i-start > maxPDFName {
		return "", i
	}
	raw := b[start:i]
	if !escaped {
		return string(raw), i
	}
	plain := make([]byte, 0, len(raw))
	for j := 0; j < len(raw); j++ {
		var c [1]byte
		if raw[j] == '#' && j+2 < len(raw) {
			if _, err := hex.Decode(c[:], raw[j+1:j+3]); err == nil {
				plain = append(plain, c[0])
				j += 2
				continue
			}
		}
		plain = append(plain, raw[j])
	}
	return string(plain), i
}

// pdfRegular reports whether c is neither white space nor a delimiter (section 7.2.3).
func pdfRegular(c byte) bool {
	return c > ' ' && c != '/' && c != '(' && c != ')' && c != '<' && c != '>' && c != '[' && c != ']' && c != '{' && c != '}' && c != '%'
}

// uri reads the value of a URI entry, and gives where to go on. What is no text is the name of an action's kind, or refers to
// another object, whose text is not followed.
func (s *pdfScanner) uri(b []byte, i int) (after int) {
	start := i
	for i < len(b) && i-start < 64 && (b[i] <= ' ') {
		i++
	}
	if i >= len(b) || b[i] != '(' && b[i] != '<' {
		return start
	}
	if s.tries >= maxPDFTries || s.links.full() {
		s.cut = true
		return start
	}
	s.tries++
	window := b[i:min(len(b), i+maxPDFString)]
	var text []byte
	var n int
	if window[0] == '(' {
		text, n = pdfLiteral(window)
	} else {
		text, n = pdfHex(window)
	}
	if n == 0 {
		return start
	}
	s.links.add("", pdfText(text), "", "pdf")
	return i + n
}

// pdfLiteral reads a string in parentheses (section 7.3.4.2); n is 0 for one that does not end.
func pdfLiteral(b []byte) (text []byte, n int) {
	depth := 0
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch c {
		case '(':
			if depth++; depth == 1 {
				continue
			}
		case ')':
			if depth--; depth == 0 {
				return text, i + 1
			}
		case '\\':
			var used int
			text, used = pdfEscape(text, b[i+1:])
			i += used
			continue
		}
		text = append(text, c)
	}
	return nil, 0
}

// pdfEscape appends what an escape stands for, and gives how many octets follow the backslash.
func pdfEscape(text, b []byte) ([]byte, int) {
	if len(b) == 0 {
		return text, 0
	}
	switch c := b[0]; c {
	case 'n':
		return append(text, '\n'), 1
	case 'r':
		return append(text, '\r'), 1
	case 't':
		return append(text, '\t'), 1
	case 'b', 'f':
		return append(text, ' '), 1
	case '\r':
		if len(b) > 1 && b[1] == '\n' {
			return text, 2
		}
		return text, 1
	case '\n':
		return text, 1
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v, n := 0, 0
		for n < 3 && n < len(b) && b[n] >= '0' && b[n] <= '7' {
			v = v<<3 | int(b[n]-'0')
			n++
		}
		return append(text, byte(v)), n
	default:
		return append(text, c), 1
	}
}

// pdfHex reads a string in angle brackets (section 7.3.4.3); n is 0 for what is none.
func pdfHex(b []byte) (text []byte, n int) {
	end := bytes.IndexByte(b, '>')
	if end < 1 {
		return nil, 0
	}
	digits := make([]byte, 0, end)
	for _, c := range b[1:end] {
		if c > ' ' {
			digits = append(digits, c)
		}
	}
	if len(digits)%2 == 1 {
		digits = append(digits, '0')
	}
	text = make([]byte, hex.DecodedLen(len(digits)))
	if _, err := hex.Decode(text, digits); err != nil {
		return nil, 0
	}
	return text, end + 1
}

// pdfText is a text string, in UTF-16 if it says so (section 7.9.2.2).
func pdfText(b []byte) string {
	if !bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	units := make([]uint16, 0, len(b)/2)
	for b = b[2:]; len(b) >= 2; b = b[2:] {
		units = append(units, uint16(b[0])<<8|uint16(b[1]))
	}
	return string(utf16.Decode(units))
}

// pdfDictionary bounds, in octets, how far a stream's data are from its type.
const pdfDictionary = 1024

// objectStream goes through the objects in the stream whose dictionary b is in. Filters other than the one that is in use for
// them leave what can't be inflated, and a stream that breaks off gives what came before.
func (s *pdfScanner) objectStream(b []byte) {
	if s.streams >= maxPDFStreams || s.inflated >= maxPDFInflated {
		s.cut = true
		return
	}
	s.streams++
	at := bytes.Index(b[:min(len(b), pdfDictionary)], []byte("stream"))
	if at < 0 {
		return
	}
	b = bytes.TrimPrefix(b[at+len("stream"):], []byte("\r"))
	b = bytes.TrimPrefix(b, []byte("\n"))
	if len(b) < 2 || b[0]&0x0f != 8 { // RFC 1950: the method is deflate
		return // without a filter it is read as it stands in the file
	}
	src := bytes.NewReader(b[2:])
	if s.inflate == nil {
		s.inflate = flate.NewReader(src)
	} else if err := s.inflate.(flate.Resetter).Reset(src, nil); err != nil {
		return
	}
	s.buf.Reset()
	left := maxPDFInflated - s.inflated
	n, err := s.buf.ReadFrom(io.LimitReader(s.inflate, int64(left)))
	s.inflated += int(n)
	s.cut = s.cut || err == nil && int(n) == left
	s.names(s.buf.Bytes(), false)
}
