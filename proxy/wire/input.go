package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// bufSize is all that is ever read ahead of what has been taken. It must hold the longest command.
const bufSize = 16 << 10

var bufPool = sync.Pool{New: func() any { return new([bufSize]byte) }}

// input reads the socket through a buffer that it borrows only while there are octets in it: thousands of idle
// connections wait without one. What is left of a half-sent command while the client is waited for moves to a slice of its own size.
// Under TLS the buffer is kept while waiting, because there is no telling when a record is ready without reading it.
type input struct {
	conn net.Conn        // what is read and written: the socket, or TLS on it
	raw  syscall.RawConn // of the socket, nil under TLS and where the system gives none
	buf  *[bufSize]byte
	r, w int    // buf[r:w] is unread
	held []byte // unread instead, while buf is nil

	try func(fd uintptr) bool // tryRead, bound once
	err error                 // of the last tryRead
}

func newInput(sock net.Conn) *input {
	in := &input{conn: sock, raw: rawConn(sock)}
	in.try = in.tryRead
	return in
}

// rawConn gives the system's handle on a socket, nil if it has none that can be waited on.
func rawConn(c net.Conn) syscall.RawConn {
	if !canPeek {
		return nil
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// bytes is what has been read and not taken. It is valid until the next call of another method.
func (in *input) bytes() []byte {
	if in.buf == nil {
		return in.held
	}
	return in.buf[in.r:in.w]
}

// take drops the first n unread octets.
func (in *input) take(n int) {
	if in.buf == nil {
		in.held = in.held[n:]
		return
	}
	in.r += n
	if in.r == in.w {
		in.park()
	}
}

// drop forgets all that is unread.
func (in *input) drop() { in.take(len(in.bytes())) }

func (in *input) full() bool { return len(in.bytes()) == bufSize }

// borrow makes buf available with room behind what is unread.
func (in *input) borrow() {
	if in.buf == nil {
		in.buf = bufPool.Get().(*[bufSize]byte)
		in.r, in.w = 0, copy(in.buf[:], in.held)
		in.held = nil
	}
	if in.r > 0 && in.w == bufSize {
		in.r, in.w = 0, copy(in.buf[:], in.buf[in.r:in.w])
	}
}

// park gives buf back.
func (in *input) park() {
	if in.buf == nil {
		return
	}
	in.held = nil
	if in.r < in.w {
		in.held = bytes.Clone(in.buf[in.r:in.w])
	}
	bufPool.Put(in.buf)
	in.buf, in.r, in.w = nil, 0, 0
}

// fill reads once and returns how many octets came; it blocks until there is at least one, an error or the deadline.
// The buffer must not be full.
func (in *input) fill() (int, error) {
	before := len(in.bytes())
	if in.raw == nil {
		in.borrow()
		n, err := in.conn.Read(in.buf[in.w:])
		in.w += n
		if n > 0 {
			return n, nil
		}
		in.park()
		return 0, err
	}
	in.err = nil
	if err := in.raw.Read(in.try); err != nil {
		return 0, err
	}
	return len(in.bytes()) - before, in.err
}

// tryRead is called by the poller whenever the socket may be readable. False means: wait on.
func (in *input) tryRead(fd uintptr) bool {
	in.borrow()
	n, again, err := readFD(fd, in.buf[in.w:])
	switch {
	case again:
		in.park()
		return false
	case err != nil:
		in.err = err
	case n == 0:
		in.err = io.EOF
	}
	in.w += n
	if n == 0 {
		in.park()
	}
	return true
}

// startTLS makes the input read from, and its owner write to, the encrypted connection.
func (in *input) startTLS(c *tls.Conn) {
	in.conn, in.raw = c, nil
}

// prefixed is a connection of which the first octets have been read already.
type prefixed struct {
	net.Conn
	rest []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		p.rest = p.rest[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// A presence is what a look at the socket, without waiting or taking anything, says of the client.
type presence uint8

const (
	silent presence = iota // connected, nothing to read; also where the system cannot tell
	talking
	closedOrderly // FIN: it sends no more
	broken
)

// look peeks at the socket.
func look(rc syscall.RawConn) presence {
	if rc == nil {
		return silent
	}
	found := silent
	err := rc.Control(func(fd uintptr) {
		n, again, err := peekFD(fd)
		switch {
		case again:
		case err != nil:
			found = broken
		case n == 0:
			found = closedOrderly
		default:
			found = talking
		}
	})
	if err != nil {
		return broken
	}
	return found
}

// awaitInput waits, at most until the read deadline, for the socket to have something to read, and takes nothing.
func awaitInput(rc syscall.RawConn) presence {
	if rc == nil {
		return silent
	}
	found := silent
	err := rc.Read(func(fd uintptr) bool {
		n, again, err := peekFD(fd)
		switch {
		case again:
			return false
		case err != nil:
			found = broken
		case n == 0:
			found = closedOrderly
		default:
			found = talking
		}
		return true
	})
	var ne net.Error
	if err != nil && !(errors.As(err, &ne) && ne.Timeout()) {
		return broken
	}
	return found
}
