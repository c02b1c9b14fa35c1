package message

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// lineBuffer is how much of a source is read at once. A line longer than that comes in pieces.
const lineBuffer = 32 << 10

var lineBuffers = sync.Pool{New: func() any { return new([lineBuffer]byte) }}

// A piece is a line, or a part of a very long one.
type piece struct {
	data  []byte // with its line end; valid until the next call
	off   int64  // where data begins in the source
	first bool   // data begins a line
}

// A lineReader cuts a source into lines. A line ends with LF.
type lineReader struct {
	src     io.ReaderAt
	size    int64
	off     int64 // of buf[w] in the source
	buf     *[lineBuffer]byte
	r, w    int
	midLine bool
	sawNUL  bool
	sawCR   bool // a CR without LF
	sawLF   bool // an LF without CR
	sawLong bool // a line of more than 998 octets

	length int  // of the current line so far
	lastCR bool // the piece before this one ended in CR
	eol    int  // the length of the last line's end: 0, 1 or 2
}

func newLineReader(src io.ReaderAt, size int64) *lineReader {
	return &lineReader{src: src, size: size, buf: lineBuffers.Get().(*[lineBuffer]byte)}
}

func (l *lineReader) close() {
	lineBuffers.Put(l.buf)
	l.buf = nil
}

// next gives the next piece, io.EOF after the last.
func (l *lineReader) next() (piece, error) {
	n := bytes.IndexByte(l.buf[l.r:l.w], '\n')
	if n < 0 {
		if err := l.fill(); err != nil {
			return piece{}, err
		}
		n = bytes.IndexByte(l.buf[l.r:l.w], '\n')
	}
	end := l.w
	if n >= 0 {
		end = l.r + n + 1
	}
	if end == l.r {
		return piece{}, io.EOF
	}
	p := piece{data: l.buf[l.r:end], off: l.off - int64(l.w-l.r), first: !l.midLine}
	l.r = end
	l.midLine = n < 0
	l.inspect(p.data, n >= 0)
	return p, nil
}

// fill reads until the buffer is full or the source has ended.
func (l *lineReader) fill() error {
	l.w = copy(l.buf[:], l.buf[l.r:l.w])
	l.r = 0
	for l.w < len(l.buf) && l.off < l.size {
		want := l.buf[l.w:]
		if rest := l.size - l.off; int64(len(want)) > rest {
			want = want[:rest]
		}
		n, err := l.src.ReadAt(want, l.off)
		if n < len(want) && (err == nil || errors.Is(err, io.EOF)) {
			err = io.ErrUnexpectedEOF
		}
		if n < len(want) {
			return err
		}
		l.sawNUL = l.sawNUL || bytes.IndexByte(want, 0) >= 0
		l.w += n
		l.off += int64(n)
	}
	return nil
}

// inspect notes what is odd about the line, and how it ends.
func (l *lineReader) inspect(data []byte, ended bool) {
	l.length += len(data)
	body := data
	l.eol = 0
	if ended {
		body = body[:len(body)-1]
		l.eol = 1
		switch {
		case len(body) > 0 && body[len(body)-1] == '\r':
			body = body[:len(body)-1]
			l.eol = 2
		case len(body) == 0 && l.lastCR:
			l.eol = 2
		default:
			l.sawLF = true
		}
	}
	if l.lastCR && l.eol != 2 || l.lastCR && len(data) > 1 {
		l.sawCR = true
	}
	l.lastCR = false
	if !ended && body[len(body)-1] == '\r' {
		l.lastCR = true
		body = body[:len(body)-1]
	}
	l.sawCR = l.sawCR || bytes.IndexByte(body, '\r') >= 0
	l.sawLong = l.sawLong || l.length-l.eol > lineMust
	if ended {
		l.length = 0
	}
}
