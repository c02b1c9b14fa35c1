package filters

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// bodyDigest hashes a body under one canonicalization (RFC 6376 section 3.4). It takes the body in pieces of any size,
// holds nothing of it, and costs the same per octet whatever the body is made of.
type bodyDigest struct {
	hash    hash.Hash
	relaxed bool
	limit   int64 // octets that are hashed, -1 for all: l=
	total   int64 // octets that came out of canonicalization

	heldCR bool  // the last piece ended in a CR, which may begin a line end
	text   bool  // the line so far has any text
	space  bool  // relaxed: white space was seen that counts if text follows on the line
	empty  int64 // empty lines that count if text follows
	any    bool  // something was written
	done   []byte
}

func newBodyDigest(relaxed bool, limit int64) *bodyDigest {
	return &bodyDigest{hash: sha256.New(), relaxed: relaxed, limit: limit}
}

// Write takes the next piece. It never fails.
func (d *bodyDigest) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		lf := bytes.IndexByte(p, '\n')
		switch {
		case lf < 0:
			held := p[len(p)-1] == '\r'
			if held {
				p = p[:len(p)-1]
			}
			if held && d.heldCR && len(p) == 0 { // a second one: the first was text
				d.words([]byte{'\r'})
			}
			d.part(p)
			d.heldCR = d.heldCR || held
			return n, nil
		case lf == 0 && d.heldCR:
			d.heldCR = false
			d.endLine()
		case lf > 0 && p[lf-1] == '\r':
			d.part(p[:lf-1])
			d.endLine()
		default:
			d.part(p[:lf+1]) // a bare LF is text
		}
		p = p[lf+1:]
	}
	return n, nil
}

// part takes text within a line.
func (d *bodyDigest) part(p []byte) {
	if d.heldCR && len(p) > 0 {
		d.heldCR = false
		d.words([]byte{'\r'})
	}
	d.words(p)
}

func (d *bodyDigest) words(p []byte) {
	if !d.relaxed {
		if len(p) > 0 {
			d.begin()
			d.emit(p)
		}
		return
	}
	for len(p) > 0 {
		if isWSP(p[0]) {
			d.space = true
			p = p[1:]
			continue
		}
		end := wordsEnd(p)
		d.begin()
		if d.space {
			d.space = false
			d.emit(oneSpace)
		}
		d.emit(p[:end])
		p = p[end:]
	}
}

var (
	oneSpace = []byte(" ")
	crlf     = []byte("\r\n")
	crlfs    = bytes.Repeat(crlf, 512)
)

// wordsEnd finds the end of text that is canonical as it stands: words with single spaces between them.
func wordsEnd(p []byte) int {
	for i := 1; i < len(p); i++ {
		if p[i] == '\t' || p[i] == ' ' && (i+1 == len(p) || isWSP(p[i+1])) {
			return i
		}
	}
	return len(p)
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// begin comes before text: empty lines in front of it count now.
func (d *bodyDigest) begin() {
	for d.empty > 0 {
		n := min(d.empty, int64(len(crlfs)/2))
		d.emit(crlfs[:2*n])
		d.empty -= n
	}
	d.text = true
}

func (d *bodyDigest) endLine() {
	if d.heldCR {
		d.heldCR = false
		d.words([]byte{'\r'})
	}
	d.space = false
	if !d.text {
		d.empty++
		return
	}
	d.emit(crlf)
	d.text = false
}

func (d *bodyDigest) emit(p []byte) {
	d.any = true
	if d.limit < 0 {
		d.total += int64(len(p))
		d.hash.Write(p)
		return
	}
	if room := d.limit - d.total; room > 0 {
		d.hash.Write(p[:min(int64(len(p)), room)])
	}
	d.total += int64(len(p))
}

// final ends the body and gives its hash. Empty lines at its end don't count, a line without an end gets one, and under
// simple canonicalization an empty body is one empty line.
func (d *bodyDigest) final() []byte {
	if d.done != nil {
		return d.done
	}
	if d.heldCR {
		d.heldCR = false
		d.words([]byte{'\r'})
	}
	if d.text || !d.any && !d.relaxed {
		d.emit(crlf)
	}
	d.done = d.hash.Sum(nil)
	return d.done
}

// canonicalField appends a header field (name, colon, value, CRLF) as it is hashed.
func canonicalField(dst, raw []byte, relaxed bool) []byte {
	if !relaxed {
		return append(dst, raw...)
	}
	name, value, _ := bytes.Cut(raw, []byte{':'})
	dst = append(dst, bytes.ToLower(bytes.TrimRight(name, " \t"))...)
	dst = append(dst, ':')
	start, space := len(dst), false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\r' && i+1 < len(value) && value[i+1] == '\n':
			i++ // unfolded
		case isWSP(c):
			space = true
		default:
			if space && len(dst) > start {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, c)
		}
	}
	return append(dst, crlf...)
}

// withoutB gives a DKIM-Signature field without the value of its b= tag, as it was when it was signed
// (RFC 6376 section 3.5, "b="). The tag is found as the reader of tags finds it, so no other tag that ends in b or has
// "b=" in its value is taken for it.
func withoutB(raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':') + 1
	out := append(make([]byte, 0, len(raw)), raw[:colon]...)
	rest := raw[colon:]
	for len(rest) > 0 {
		spec, after, more := bytes.Cut(rest, []byte{';'})
		name, _, isTag := bytes.Cut(spec, []byte{'='})
		if isTag && string(bytes.Trim(name, " \t\r\n")) == "b" {
			out = append(append(out, name...), '=')
		} else {
			out = append(out, spec...)
		}
		if more {
			out = append(out, ';')
		}
		rest = after
	}
	return out
}
