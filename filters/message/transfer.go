package message

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// A transferDecoder decodes a transfer encoding, piece by piece. It decodes whatever it is given.
type transferDecoder interface {
	decode(dst, src []byte) []byte // appends what src decodes to
	finish(dst []byte) []byte      // appends what is left
}

// The classes of characters in base64 text; below 64 is a digit's value.
const (
	base64Space = 0xFD
	base64Pad   = 0xFE
	base64Junk  = 0xFF
)

var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = base64Junk
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['-'], t['_'] = base64Junk, base64Junk
	t['='] = base64Pad
	for _, c := range []byte(" \t\r\n") {
		t[c] = base64Space
	}
	return t
}()

// A base64Decoder decodes base64 (RFC 2045 section 6.8). Characters that are no digits are passed over, as the RFC
// says; padding ends a group of four, and what follows it is decoded too, since some clients go on there.
type base64Decoder struct {
	bits   uint32
	digits int // in bits: 0 to 3
	pads   int // after the last digit
	junk   int // characters that don't belong
	cut    bool
}

func (d *base64Decoder) decode(dst, src []byte) []byte {
	for i := 0; i < len(src); {
		if d.digits == 0 && d.pads == 0 {
			for i+4 <= len(src) {
				a, b, c, e := base64Values[src[i]], base64Values[src[i+1]], base64Values[src[i+2]], base64Values[src[i+3]]
				if a|b|c|e >= 64 {
					break
				}
				dst = append(dst, a<<2|b>>4, b<<4|c>>2, c<<6|e)
				i += 4
			}
			if i == len(src) {
				break
			}
		}
		dst = d.one(dst, base64Values[src[i]])
		i++
	}
	return dst
}

func (d *base64Decoder) one(dst []byte, v byte) []byte {
	switch v {
	case base64Space:
	case base64Junk:
		d.junk++
	case base64Pad:
		if d.digits+d.pads == 0 || d.pads == 2 {
			d.junk++
			break
		}
		dst = d.flush(dst)
		d.pads++
	default:
		if d.pads > 0 {
			d.junk++ // digits after the end
			d.pads = 0
		}
		d.bits = d.bits<<6 | uint32(v)
		if d.digits++; d.digits == 4 {
			dst = append(dst, byte(d.bits>>16), byte(d.bits>>8), byte(d.bits))
			d.bits, d.digits = 0, 0
		}
	}
	return dst
}

// flush gives the whole bytes of a group that isn't full.
func (d *base64Decoder) flush(dst []byte) []byte {
	switch d.digits {
	case 1:
		d.cut = true
	case 2:
		dst = append(dst, byte(d.bits>>4))
	case 3:
		dst = append(dst, byte(d.bits>>10), byte(d.bits>>2))
	}
	d.bits, d.digits = 0, 0
	return dst
}

func (d *base64Decoder) finish(dst []byte) []byte {
	d.cut = d.cut || d.digits > 0
	return d.flush(dst)
}

// A qpDecoder decodes quoted-printable (RFC 2045 section 6.7). A broken escape stays as it is.
type qpDecoder struct {
	held []byte // an escape that isn't whole yet: "=", "=A", "=" and white space
	junk int
}

// maxHeld bounds the white space between "=" and the end of its line.
const maxHeld = 128

func (d *qpDecoder) decode(dst, src []byte) []byte {
	for len(src) > 0 {
		if len(d.held) == 0 {
			i := bytes.IndexByte(src, '=')
			if i < 0 {
				return append(dst, src...)
			}
			dst = append(dst, src[:i]...)
			d.held = append(d.held, '=')
			src = src[i+1:]
			continue
		}
		var used bool
		dst, used = d.next(dst, src[0])
		if used {
			src = src[1:]
		}
	}
	return dst
}

// next takes the next character of an escape. It isn't used if the escape turns out to be broken before it.
func (d *qpDecoder) next(dst []byte, c byte) ([]byte, bool) {
	if len(d.held) == 2 && hexValue(d.held[1]) < 16 {
		if v := hexValue(c); v < 16 {
			dst = append(dst, hexValue(d.held[1])<<4|v)
			d.held = d.held[:0]
			return dst, true
		}
		return d.broken(dst), false
	}
	switch {
	case c == '\n': // a soft line break
		d.held = d.held[:0]
		return dst, true
	case len(d.held) == 1 && hexValue(c) < 16:
		d.held = append(d.held, c)
		return dst, true
	case (c == ' ' || c == '\t' || c == '\r') && len(d.held) < maxHeld:
		d.held = append(d.held, c)
		return dst, true
	}
	return d.broken(dst), false
}

func (d *qpDecoder) broken(dst []byte) []byte {
	d.junk++
	dst = append(dst, d.held...)
	d.held = d.held[:0]
	return dst
}

func (d *qpDecoder) finish(dst []byte) []byte {
	if len(d.held) == 1 || len(d.held) > 1 && hexValue(d.held[1]) >= 16 {
		d.held = d.held[:0] // a soft line break at the very end
		return dst
	}
	if len(d.held) > 0 {
		return d.broken(dst)
	}
	return dst
}

// An identityDecoder is for bodies that are not encoded.
type identityDecoder struct{}

func (identityDecoder) decode(dst, src []byte) []byte { return append(dst, src...) }
func (identityDecoder) finish(dst []byte) []byte      { return dst }

// A transferBuffer is what a body is read into, and what it is decoded into; no decoder gives more than it takes, but for
// what it held back.
type transferBuffer struct {
	in  [16 << 10]byte
	out [16<<10 + maxHeld + 1]byte
}

var transferBuffers = sync.Pool{New: func() any { return new(transferBuffer) }}

// A contentReader gives the decoded body of a part, and notes its defects at the end.
type contentReader struct {
	part    *Part
	defects *defectSet // nil where they don't matter
	src     *io.SectionReader
	dec     transferDecoder
	buf     *transferBuffer // given back when all has been read
	out     []byte          // decoded, not yet read; a part of buf
	err     error
}

func newContentReader(p *Part, defects *defectSet) *contentReader {
	r := &contentReader{part: p, defects: defects, src: p.Raw()}
	switch p.Encoding {
	case "base64":
		r.dec = &base64Decoder{}
	case "quoted-printable":
		r.dec = &qpDecoder{}
	default:
		r.dec = identityDecoder{}
	}
	if p.multipart() || p.Type == "message/rfc822" && !p.Leaf() {
		r.dec = identityDecoder{} // RFC 2045 section 6.4 allows them no encoding, and clients look for none
	}
	return r
}

func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			r.release()
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: without it, a copy would need a buffer more.
func (r *contentReader) WriteTo(w io.Writer) (n int64, err error) {
	defer r.release()
	for {
		written, err := w.Write(r.out)
		n += int64(written)
		r.out = r.out[written:]
		switch {
		case err != nil:
			return n, err
		case errors.Is(r.err, io.EOF):
			return n, nil
		case r.err != nil:
			return n, r.err
		}
		r.fill()
	}
}

func (r *contentReader) fill() {
	if r.buf == nil {
		r.buf = transferBuffers.Get().(*transferBuffer)
	}
	n, err := r.src.Read(r.buf.in[:])
	r.out = r.dec.decode(r.buf.out[:0], r.buf.in[:n])
	if err != nil {
		r.err = err
		r.out = r.dec.finish(r.out)
		if errors.Is(err, io.EOF) {
			r.judge()
		}
	}
}

func (r *contentReader) release() {
	if r.buf != nil {
		transferBuffers.Put(r.buf)
		r.buf = nil
	}
}

func (r *contentReader) judge() {
	p := r.part
	switch d := r.dec.(type) {
	case *base64Decoder:
		if d.junk > 0 || d.cut {
			r.defects.add("bad_base64", "part %s", p.ID)
		}
	case *qpDecoder:
		if d.junk > 0 {
			r.defects.add("bad_qp", "part %s", p.ID)
		}
	}
}
