package message

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A Header is a header section's fields from top to bottom. A line that is no field, but stands among fields, is kept in
// its place as a Field without name: so the Raw of all fields together are the bytes of the section.
type Header []Field

// A Field is one header field.
type Field struct {
	Name string // as written; empty for a line that is no field
	Raw  []byte // the exact bytes with name, folding and final line end; not to be changed
}

// All gives the fields of that name, in any case, from top to bottom.
func (h Header) All(name string) []Field {
	var all []Field
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			all = append(all, f)
		}
	}
	return all
}

// First gives the topmost field of that name, in any case.
func (h Header) First(name string) (Field, bool) {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return Field{}, false
}

// Count says how many fields have that name, in any case.
func (h Header) Count(name string) int {
	n := 0
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// Value is what stands after the colon: unfolded (RFC 5322 section 2.2.3: the line ends go, the white space stays),
// without white space at its ends, otherwise the raw bytes.
func (f Field) Value() string {
	v := f.Raw
	if i := bytes.IndexByte(v, ':'); i >= 0 && f.Name != "" {
		v = v[i+1:]
	}
	v = bytes.Trim(v, " \t\r\n")
	if bytes.IndexByte(v, '\n') < 0 {
		return string(v)
	}
	var b strings.Builder
	b.Grow(len(v))
	for len(v) > 0 {
		i := bytes.IndexByte(v, '\n')
		if i < 0 {
			b.Write(v)
			break
		}
		b.Write(bytes.TrimSuffix(v[:i], []byte("\r")))
		v = v[i+1:]
	}
	return b.String()
}

// Decoded is the value as a person reads it: encoded words (RFC 2047) decoded, valid UTF-8.
func (f Field) Decoded() string {
	s, _ := DecodeWords(f.Value())
	return s
}

// Lengths of lines, without CRLF (RFC 5322 section 2.1.1).
const (
	lineShould = 78
	lineMust   = 998
)

// NewField makes a field. It is folded at white space so that lines have no more than 78 octets where that can be, and
// never more than 998: a longer word is broken. White space at the ends goes. Controls, of which CR, LF and NUL are the
// ones that do harm, become spaces, so no value adds a line; bytes that can't stand in a name become "-".
func NewField(name, value string) Field {
	name = fieldName(name)
	raw := make([]byte, 0, len(name)+len(value)+len(value)/60+8)
	raw = append(raw, name...)
	raw = append(raw, ':')
	lineStart := 0
	for _, w := range splitWords(value) {
		if len(raw)-lineStart+len(w) > lineShould && len(raw) > len(name)+1 {
			raw = append(raw, "\r\n"...)
			lineStart = len(raw)
		}
		for len(raw)-lineStart+len(w) > lineMust {
			n := lineMust - (len(raw) - lineStart)
			for n > 1 && n < len(w) && !utf8.RuneStart(w[n]) {
				n--
			}
			raw = append(raw, w[:n]...)
			raw = append(raw, "\r\n "...)
			lineStart = len(raw) - 1
			w = w[n:]
		}
		raw = append(raw, w...)
	}
	return Field{Name: name, Raw: append(raw, "\r\n"...)}
}

// fieldName makes name a field name of RFC 5322 section 2.2: printable ASCII but the colon.
func fieldName(name string) string {
	if name == "" {
		return "-"
	}
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == ':' {
			return '-'
		}
		return r
	}, name)
	return name[:min(len(name), lineShould-2)]
}

// splitWords cuts a value into words, each with the white space that stands before it; the first has one space.
// White space of more than a line's length would make lines of nothing else, so it becomes one space.
func splitWords(value string) []string {
	b := []byte(value)
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			b[i] = ' '
		}
	}
	value = strings.Trim(string(b), " \t")
	var words []string
	space := " "
	for value != "" {
		end := strings.IndexAny(value, " \t")
		if end < 0 {
			end = len(value)
		}
		words = append(words, space+value[:end])
		value = value[end:]
		next := len(value) - len(strings.TrimLeft(value, " \t"))
		space = value[:next]
		if next > lineShould/2 {
			space = " "
		}
		value = value[next:]
	}
	return words
}
