package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Times that no one needs to configure.
const (
	quitWrite   = time.Second     // for QUIT to be taken by the socket
	quitWait    = 5 * time.Second // for the next hop's goodbye, which nobody waits for
	brokenGrace = 5 * time.Second // after a failed write: for the reply that explains it, which is on its way or never comes
)

// replyBuffer is the size of the buffer for replies: an EHLO reply fits, and there is one for each connection.
const replyBuffer = 1024

// A line is a connection to a next hop seen as commands out and replies in.
//
// While the connection is set up, replies are read where they are awaited. From listen on, a goroutine reads them as they
// come, so that what the next hop says unasked (a 421, an end of file, a reply before the data has ended) is known without
// asking, under TLS too.
type line struct {
	addr string
	t    Timeouts
	raw  net.Conn // the socket
	nc   net.Conn // the socket, or TLS on it
	r    *bufio.Reader

	told    bool          // the next hop was told of a client
	more    bool          // there was more after the last reply that was awaited
	heard   chan heard    // what the listening goroutine read; nil before listen
	limit   *time.Timer   // of the wait for a reply, used again; nil before the first one
	over    chan struct{} // closed when nobody awaits replies any more
	ended   func()        // called once when the connection is closed
	sending atomic.Bool   // the message is being sent: whatever is heard stops it
	dotted  atomic.Bool   // the final dot is being written, or was, and its outcome is not known
	early   bool          // the reply that was awaited last came before a message had reached the next hop

	mu   sync.Mutex
	dead bool
}

// heard is a reply, or the error that ended the reading.
type heard struct {
	reply Reply
	err   error
	more  bool // something stood behind the reply when it was read
	early bool // the next hop's system had not received the end of a message by then
}

func newLine(nc net.Conn, addr string, t Timeouts, ended func()) *line {
	return &line{
		addr:  addr,
		t:     t,
		raw:   nc,
		nc:    nc,
		r:     bufio.NewReaderSize(nc, replyBuffer),
		over:  make(chan struct{}),
		ended: ended,
	}
}

// listen starts the goroutine that reads replies. It ends, and closes the socket, with the first error and after kill or quit.
func (l *line) listen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return
	}
	l.nc.SetReadDeadline(time.Time{})
	l.heard = make(chan heard, 1)
	go l.hear()
}

func (l *line) hear() {
	defer l.ended()
	defer l.raw.Close()
	for {
		reply, err := l.read()
		h := heard{reply: reply, err: err, more: l.r.Buffered() > 0, early: !l.dotted.Load() || underWay(l.raw)}
		select {
		case l.heard <- h:
		case <-l.over:
			return
		}
		// Wake a write that blocks; see blockWriter for the order of things. While the message is being sent nobody takes
		// what was heard, so an empty channel says that it was the 354 after which the sending has just begun.
		if l.sending.Load() && len(l.heard) > 0 {
			l.nc.SetWriteDeadline(time.Now())
		}
		if err != nil {
			return
		}
	}
}

// isDead reports whether the connection was given up.
func (l *line) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// alive reports whether the connection can be used: not given up, and nothing heard that was not asked for.
func (l *line) alive() bool { return !l.isDead() && len(l.heard) == 0 && !l.more }

// giveUp marks the connection as dead; first says whether the caller is the one who has to end it.
func (l *line) giveUp() (first, listening bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = !l.dead
	l.dead = true
	return first, l.heard != nil
}

// kill ends the connection at once, with a TCP reset: a next hop that is in the middle of a message must not mistake
// the end for an orderly one. It may be called by any goroutine.
func (l *line) kill() {
	first, listening := l.giveUp()
	if !first {
		return
	}
	if tcp, ok := l.raw.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(0)
	}
	l.raw.Close()
	close(l.over)
	if !listening {
		l.ended()
	}
}

// quit ends the connection politely. The listening goroutine waits for the next hop's goodbye; the caller does not.
func (l *line) quit() {
	first, listening := l.giveUp()
	if !first {
		return
	}
	now := time.Now()
	l.nc.SetWriteDeadline(now.Add(quitWrite))
	l.nc.SetReadDeadline(now.Add(quitWait))
	if _, err := io.WriteString(l.nc, "QUIT\r\n"); err != nil || !listening {
		l.raw.Close()
	}
	close(l.over)
	if !listening {
		l.ended()
	}
}

// begin starts an operation: until the returned function is called, the end of ctx ends the connection.
func (l *line) begin(ctx context.Context, op string) (end func() bool, err error) {
	if l.isDead() {
		return nil, &Error{Op: op, Addr: l.addr, Err: ErrDead}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, &Error{Op: op, Addr: l.addr, Err: err}
	}
	return context.AfterFunc(ctx, l.kill), nil
}

// fail ends the connection and makes the error of the operation.
func (l *line) fail(ctx context.Context, op string, offered bool, err error) error {
	l.kill()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the rest only follows from it
	}
	return &Error{Op: op, Addr: l.addr, Offered: offered, Told: l.told, Err: err}
}

// read is readReply with the end of file in our own words.
func (l *line) read() (Reply, error) {
	reply, err := readReply(l.r)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrClosed
	}
	return reply, err
}

// unasked gives an error if the next hop has said something, or hung up, since the last reply that was awaited.
// A reply that is taken for the answer to another command would be fatal: before each command there must be none.
func (l *line) unasked() error {
	if l.more {
		return fmt.Errorf("%w: more than one reply to a command", ErrProtocol)
	}
	select {
	case h := <-l.heard:
		switch {
		case h.err != nil:
			return h.err
		case h.reply.Code == 421:
			return fmt.Errorf("%w: %s", ErrClosed, h.reply)
		}
		return fmt.Errorf("%w: unasked reply %q", ErrProtocol, h.reply)
	default:
		return nil
	}
}

// send writes commands in one go.
func (l *line) send(b []byte) error {
	if err := l.unasked(); err != nil {
		return err
	}
	l.nc.SetWriteDeadline(time.Now().Add(l.t.Command))
	_, err := l.nc.Write(b)
	return err
}

// await gives the next reply, at the latest at the deadline.
func (l *line) await(deadline time.Time) (Reply, error) {
	if l.heard == nil {
		l.nc.SetReadDeadline(deadline)
		reply, err := l.read()
		l.more = l.r.Buffered() > 0
		return reply, err
	}
	if l.limit == nil {
		l.limit = time.NewTimer(time.Until(deadline))
	} else {
		l.limit.Reset(time.Until(deadline))
	}
	defer l.limit.Stop() // what it sent before is not received behind Reset
	select {
	case h := <-l.heard:
		l.more, l.early = h.more, h.early
		return h.reply, h.err
	case <-l.over:
		return Reply{}, net.ErrClosed
	case <-l.limit.C:
		return Reply{}, fmt.Errorf("no reply: %w", os.ErrDeadlineExceeded)
	}
}

// ask sends one command and gives the reply. A 421 ends the connection, as the next hop has done on its side.
func (l *line) ask(ctx context.Context, op, command string) (Reply, error) {
	end, err := l.begin(ctx, op)
	if err != nil {
		return Reply{}, err
	}
	defer end()
	if err := l.send([]byte(command + "\r\n")); err != nil {
		return Reply{}, l.fail(ctx, op, false, err)
	}
	return l.answer(ctx, op, l.t.Command)
}

// answer awaits a reply to a command and refuses what can't be one.
func (l *line) answer(ctx context.Context, op string, limit time.Duration) (Reply, error) {
	reply, err := l.await(time.Now().Add(limit))
	if err != nil {
		return Reply{}, l.fail(ctx, op, false, err)
	}
	if reply.Code/100 == 3 && op != "data" {
		return Reply{}, l.fail(ctx, op, false, fmt.Errorf("%w: reply %q makes no sense here", ErrProtocol, reply))
	}
	if reply.Code == 421 {
		l.kill()
	}
	return reply, nil
}
