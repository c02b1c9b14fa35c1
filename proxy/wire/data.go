package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// A dotState says where in a line the message is, by the octets as sent.
type dotState uint8

const (
	lineStart dotState = iota // behind a CRLF, or at the very start: a dot here is a sign
	softStart                 // behind a bare CR or LF: a dot here is text, and is doubled
	dot                       // "." at the line's start, not passed on yet
	dotCR                     // ".\r" at the line's start, not passed on yet
	mid
	midCR // "\r", not passed on yet
	atEnd // CRLF.CRLF was seen
)

// dataReader follows a message from 354 to its end and passes it on, in the form in which it came, dots still doubled and
// with the final dot, or where undot is set as what it says. What it passes on has no CR or LF but in CRLF, no NUL, and ends
// where the message ends.
//
// After an error nothing more is passed on until the real end has been found; then an end is made.
type dataReader struct {
	normalise bool
	undot     bool
	lineMax   int
	sizeMax   int64

	state  dotState
	open   bool // the last octet passed on is not a line's end
	closed bool // the end has been passed on
	line   int  // its number, from 1
	length int  // of the line so far, without a dot that is a sign
	size   int64
	failed *DataError
}

func newDataReader(cfg *Config) *dataReader {
	return &dataReader{
		normalise: cfg.BareNewline == Normalise,
		lineMax:   cfg.Limits.DataLine,
		sizeMax:   cfg.Limits.MessageMax,
		line:      1,
	}
}

// hopeless reports whether so much has come since the error, or since the start, that the end is not looked for any more.
func (d *dataReader) hopeless() bool { return d.size > 2*d.sizeMax }

// minRoom is the room that step needs: more than one octet can bring forth, and than an end.
const minRoom = 8

// step reads from src and passes on to dst. It stops when src is used up, dst has not minRoom, the end has been
// passed on, or the message is hopeless.
func (d *dataReader) step(dst, src []byte) (wrote, read int) {
	for read < len(src) && d.state != atEnd && !d.hopeless() && len(dst)-wrote >= minRoom {
		if d.state == lineStart {
			if n := d.lines(dst[wrote:], src[read:]); n > 0 {
				wrote, read = wrote+n, read+n
				continue
			}
		}
		if d.state == mid {
			if n := plain(src[read:min(len(src), read+len(dst)-wrote)]); n > 0 {
				wrote += d.pass(dst[wrote:], src[read:read+n], n)
				read += n
				continue
			}
		}
		w, r := d.octet(dst[wrote:], src[read])
		wrote, read = wrote+w, read+r
	}
	if d.state == atEnd && !d.closed && len(dst)-wrote >= minRoom {
		d.closed = true
		if d.open {
			wrote += copy(dst[wrote:], "\r\n")
		}
		if !d.undot {
			wrote += copy(dst[wrote:], ".\r\n")
		}
	}
	return wrote, read
}

// lineWindow is the longest line that lines takes.
const lineWindow = 1 << 10

// lines passes whole lines on, from the start of one, as long as there is nothing to see to in them, and gives their length. Nearly
// all of a message goes this way.
func (d *dataReader) lines(dst, src []byte) (n int) {
	if d.failed != nil {
		return 0
	}
	src = src[:min(len(src), len(dst)-minRoom)]
	if i := bytes.IndexByte(src, 0); i >= 0 {
		src = src[:i]
	}
	longest := min(d.lineMax, lineWindow)
	for n < len(src) && src[n] != '.' {
		p := src[n:min(len(src), n+longest+2)]
		end := bytes.IndexByte(p, '\n') - 1
		if end < 0 || bytes.IndexByte(p, '\r') != end || d.size+int64(end)+2 > d.sizeMax {
			break
		}
		n += end + 2
		d.size += int64(end) + 2
		d.line++
	}
	if n > 0 {
		d.open = false
	}
	return copy(dst, src[:n])
}

// octet takes one octet, or none where what stood before it had to be settled first.
func (d *dataReader) octet(dst []byte, c byte) (wrote, read int) {
	switch {
	case d.state == dotCR && c == '\n':
		d.state = atEnd
		return 0, 1
	case d.state == midCR && c == '\n':
		return d.newline(dst, lineStart), 1
	case d.state == dotCR || d.state == midCR:
		return d.bare(dst, "CR"), 0
	case c == '\n':
		return d.bare(dst, "LF"), 1
	case c == '\r' && d.state == dot:
		d.state = dotCR
		return 0, 1
	case c == '\r':
		d.state = midCR
		return 0, 1
	case c == 0:
		d.fail(554, "5.6.0", "has a NUL character")
		d.state = mid
		d.size++
		return 0, 1
	case c == '.' && d.state == lineStart:
		d.state = dot
		return 0, 1
	case c == '.' && d.state == softStart:
		d.state = mid
		if d.undot {
			return d.pass(dst, []byte{'.'}, 1), 1
		}
		return d.pass(dst, []byte(".."), 1), 1
	case d.state == dot:
		d.state = mid
		if d.undot {
			return d.pass(dst, []byte{c}, 1), 1
		}
		return d.pass(dst, []byte{'.', c}, 1), 1
	}
	d.state = mid
	return d.pass(dst, []byte{c}, 1), 1
}

// pass passes octets of a line on; content of them belong to the message.
func (d *dataReader) pass(dst, p []byte, content int) int {
	d.length += content
	d.size += int64(content)
	if d.length > d.lineMax {
		d.fail(554, "5.6.0", fmt.Sprintf("is longer than %d octets", d.lineMax))
	}
	return d.emit(dst, p, true)
}

// newline passes a line's end on.
func (d *dataReader) newline(dst []byte, next dotState) int {
	d.state = next
	d.size += 2
	n := d.emit(dst, []byte("\r\n"), false)
	d.line++
	d.length = 0
	return n
}

// emit is where everything that is passed on passes, but the end.
func (d *dataReader) emit(dst, p []byte, open bool) int {
	if d.size > d.sizeMax && d.failed == nil {
		d.failed = &DataError{
			Reply: Reply{Code: 552, Enhanced: "5.3.4", Text: fmt.Sprintf("Message is bigger than %d octets", d.sizeMax)},
			Line:  d.line,
		}
	}
	if d.failed != nil {
		return 0
	}
	d.open = open
	return copy(dst, p)
}

// bare deals with a CR or LF that is not in a CRLF.
func (d *dataReader) bare(dst []byte, what string) int {
	if !d.normalise {
		d.fail(554, "5.5.2", "has a bare "+what+", lines must end in CRLF")
	}
	return d.newline(dst, softStart)
}

// fail notes the first thing that is wrong.
func (d *dataReader) fail(code int, enhanced, what string) {
	if d.failed == nil {
		d.failed = &DataError{
			Reply: Reply{Code: code, Enhanced: enhanced, Text: fmt.Sprintf("Message refused: line %d %s", d.line, what)},
			Line:  d.line,
		}
	}
}

// plain gives the length of the run of octets at the start of p that are nothing but text.
func plain(p []byte) int {
	// In windows, so that octets of one kind are not looked for through all of p again and again.
	const window = 256
	n := 0
	for n < len(p) {
		w := p[n:min(n+window, len(p))]
		full := len(w)
		for _, c := range [...]byte{'\n', '\r', 0} {
			if i := bytes.IndexByte(w, c); i >= 0 {
				w = w[:i]
			}
		}
		n += len(w)
		if len(w) < full {
			break
		}
	}
	return n
}

// readData is Conn.Read within a message.
func (k *link) readData(b []byte) (int, error) {
	if !k.data.undot {
		n, err := k.readMessage(b)
		if err != nil {
			err = io.EOF // go-smtp, which knows the final dot, tells the ends apart
		}
		return n, err
	}
	// The session has the message from Conn.Body; go-smtp, which is behind it, is to find nothing but the end.
	k.rest = nil
	scratch := bufPool.Get().(*[bufSize]byte)
	defer bufPool.Put(scratch)
	for {
		switch _, err := k.readMessage(scratch[:]); {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return 0, io.EOF
		case err != nil:
			k.data.undot = false // once
			k.rest = append(k.rest[:0], ".\r\n"...)
			return k.readRest(b), nil
		}
	}
}

// readBody is the Read of Conn.Body.
func (k *link) readBody(b []byte) (int, error) {
	d := k.data
	switch {
	case d == nil || k.over || k.leaving:
		return 0, io.ErrUnexpectedEOF
	case !d.undot && (d.state != lineStart || d.size > 0):
		return 0, errBodyBegun
	}
	d.undot = true
	if len(k.rest) > 0 {
		return k.readRest(b), nil
	}
	return k.readMessage(b)
}

var errBodyBegun = errors.New("wire: the message has been read otherwise")

// readMessage gives the next piece of a message; io.EOF behind its end, io.ErrUnexpectedEOF if that will not come.
func (k *link) readMessage(b []byte) (int, error) {
	if len(b) < minRoom {
		var room [2 * minRoom]byte
		n, err := k.readMessage(room[:])
		k.rest = append(k.rest[:0], room[:n]...)
		return k.readRest(b), err
	}
	d := k.data
	for !d.closed {
		wrote, read := d.step(b, k.in.bytes())
		k.in.take(read)
		if d.failed != nil {
			k.setFacts(func(f *facts) { f.dataErr = d.failed })
		}
		switch {
		case wrote > 0:
			return wrote, nil
		case d.hopeless():
			k.lose("end of data not found")
			k.bye(d.failed.Reply, "message too big")
			return 0, io.ErrUnexpectedEOF
		case d.closed:
			continue
		}
		if err := k.fill(time.Now().Add(k.cfg.Limits.DataIdle), false); err != nil {
			k.fail(err)
			k.lose(k.facts().reason)
			return 0, io.ErrUnexpectedEOF
		}
	}
	return 0, io.EOF
}

// lose notes that the message did not come to its end.
func (k *link) lose(why string) {
	k.setFacts(func(f *facts) { f.dataErr = fmt.Errorf("message cut off: %s: %w", why, io.ErrUnexpectedEOF) })
}
