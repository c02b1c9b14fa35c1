package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// blockSize is how much of a message is written at a time: each block has Timeouts.Data to be taken.
const blockSize = 64 << 10

// errSpoke says that the next hop spoke, or hung up, before the message had ended.
var errSpoke = errors.New("the next hop spoke before the message had ended")

// Data implements [Conn].
func (c *conn) Data(ctx context.Context, b Body) (DataResult, error) {
	if c.accepted == 0 {
		return DataResult{Reply: ownReply(503, "5.5.1", "No recipient was accepted")}, nil
	}
	reply, err := c.askData(ctx)
	if err != nil {
		return DataResult{}, err
	}
	if reply.Code != 354 {
		c.count(reply)
		return c.forAll(reply), nil
	}
	end, err := c.line.begin(ctx, "data")
	if err != nil {
		return DataResult{}, err
	}
	defer end()

	c.open = false
	out := newBodyWriter(c.line)
	defer out.release()
	c.line.sending.Store(true)
	err = out.take(b)
	c.line.sending.Store(false)
	if err == nil && b.BeforeDot != nil {
		if err = b.BeforeDot(); err != nil {
			err = fmt.Errorf("message withdrawn before its end: %w", err)
		}
	}
	if err == nil && !c.line.alive() {
		err = errSpoke
	}
	if err == nil && out.whole() {
		c.line.dotted.Store(true) // what is heard from here on may be the outcome
		err = out.dot()           // with the message: where that fails, the dot was not sent
	}
	if err != nil {
		return c.brokenOff(ctx, err)
	}
	return c.sendDot(ctx, out)
}

// askData says DATA. Any reply but 354 and a refusal is an error.
func (c *conn) askData(ctx context.Context) (Reply, error) {
	end, err := c.line.begin(ctx, "data")
	if err != nil {
		return Reply{}, err
	}
	defer end()
	if err := c.line.send([]byte("DATA\r\n")); err != nil {
		return Reply{}, c.line.fail(ctx, "data", false, err)
	}
	reply, err := c.line.answer(ctx, "data", c.line.t.Data)
	if err != nil {
		return Reply{}, err
	}
	if reply.Positive() && reply.Code != 354 {
		return Reply{}, c.line.fail(ctx, "data", false, fmt.Errorf("%w: reply %q to DATA", ErrProtocol, reply))
	}
	return reply, nil
}

// A bodyWriter sends a message up to the final dot. One that fits into a single block is kept back until the dot may be sent, and
// leaves with it: two packets less, and the next hop wakes once.
type bodyWriter struct {
	block blockWriter
	w     *bufio.Writer
	end   string // what must come behind the last line that was taken
}

func newBodyWriter(l *line) *bodyWriter {
	out := &bodyWriter{block: blockWriter{l: l}, w: bodyWriters.Get().(*bufio.Writer)}
	out.w.Reset(&out.block)
	return out
}

func (o *bodyWriter) release() {
	o.w.Reset(nil)
	bodyWriters.Put(o.w)
}

// whole reports whether nothing of the message has been sent, and the dot fits in behind it.
func (o *bodyWriter) whole() bool { return !o.block.begun && o.w.Available() >= len(o.end) }

// take takes the message, and sends it if it has to go before the dot.
func (o *bodyWriter) take(b Body) error {
	s := stuffer{w: o.w, bol: true}
	if _, err := s.Write(b.Fields); err != nil {
		return err
	}
	if b.Message != nil {
		buf := copyBuffers.Get().(*[blockSize]byte)
		defer copyBuffers.Put(buf)
		if err := copyMessage(&s, b.Message, buf[:]); err != nil {
			return err
		}
	}
	missing, err := s.end()
	if err != nil {
		return err
	}
	if o.end = missing + ".\r\n"; o.whole() {
		return nil
	}
	return o.w.Flush()
}

// dot sends what is left of the message and the final dot.
func (o *bodyWriter) dot() error {
	if _, err := o.w.WriteString(o.end); err != nil {
		return err
	}
	o.end = ""
	return o.w.Flush()
}

// copyMessage is io.Copy that tells a failure to read the message from one to write it.
func copyMessage(dst io.Writer, src io.Reader, buf []byte) error {
	for empty := 0; empty < 100; {
		n, err := src.Read(buf)
		if n > 0 {
			empty = 0
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
		} else {
			empty++
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the message: %w", err)
		}
	}
	return fmt.Errorf("reading the message: %w", io.ErrNoProgress)
}

// sendDot sends the final dot where it has not gone with the message, and awaits the outcome.
func (c *conn) sendDot(ctx context.Context, out *bodyWriter) (DataResult, error) {
	n := c.accepted
	c.accepted = 0
	defer func() {
		c.line.dotted.Store(false)
		if c.fading {
			c.line.kill()
		}
	}()
	c.line.dotted.Store(true)
	if out.end != "" {
		c.line.nc.SetWriteDeadline(time.Now().Add(c.line.t.Data))
		if _, err := io.WriteString(c.line.nc, out.end); err != nil {
			return DataResult{Offered: true}, c.line.fail(ctx, "data", true, err)
		}
	}
	deadline := time.Now().Add(c.line.t.Reply)
	if !c.caps.LMTP {
		reply, err := c.outcome(ctx, deadline)
		return DataResult{Reply: reply, Offered: true}, err
	}
	result := DataResult{Offered: true}
	for range n {
		reply, err := c.outcome(ctx, deadline)
		if err != nil {
			return result, err
		}
		result.Per = append(result.Per, reply)
	}
	result.Reply = result.Per[0]
	for _, r := range result.Per {
		if r.Code != result.Reply.Code {
			result.Reply = Reply{}
			break
		}
	}
	return result, nil
}

// outcome awaits one reply after the final dot.
func (c *conn) outcome(ctx context.Context, deadline time.Time) (Reply, error) {
	reply, err := c.line.await(deadline)
	switch {
	case err != nil:
	case reply.Code/100 == 3:
		err = fmt.Errorf("%w: reply %q to the message", ErrProtocol, reply)
	case reply.Positive() && c.line.early:
		err = earlyReply(reply)
	}
	if err != nil {
		return Reply{}, c.line.fail(ctx, "data", true, err)
	}
	c.count(reply)
	if reply.Code == 421 {
		c.fading = true
	}
	return reply, nil
}

// brokenOff ends a message that could not be sent to its end. A refusal that came early is the outcome; all else is an error.
func (c *conn) brokenOff(ctx context.Context, cause error) (DataResult, error) {
	defer c.line.kill()
	// A write fails because the next hop closed the connection: what it said before that is there or about to come.
	// Where the write took too long, or the message itself could not be had, nothing is.
	spoke := errors.Is(cause, errSpoke) || errors.Is(cause, errWrite) && !errors.Is(cause, os.ErrDeadlineExceeded)
	if spoke {
		reply, err := c.line.await(time.Now().Add(brokenGrace))
		switch {
		case err == nil && !reply.Positive():
			c.count(reply)
			return c.forAll(reply), nil
		case err == nil:
			cause = earlyReply(reply)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			cause = err
		}
	}
	return DataResult{}, c.line.fail(ctx, "data", false, cause)
}

// earlyReply says that the next hop claims to have what it can't have yet. Where the whole message has reached its system,
// nobody else can tell what it has read of it: then a reply is its word.
func earlyReply(r Reply) error {
	return fmt.Errorf("%w: reply %q before the message had ended", ErrProtocol, r)
}

// forAll is the result where one refusal stands for all recipients.
func (c *conn) forAll(r Reply) DataResult {
	d := DataResult{Reply: r}
	if c.caps.LMTP {
		for range c.accepted {
			d.Per = append(d.Per, r)
		}
	}
	c.accepted = 0
	return d
}

// errWrite marks an error of the connection, as opposed to one of the message's reader.
var errWrite = errors.New("sending the message")

// A blockWriter writes to the connection in blocks, each with a time limit, and stops as soon as something is heard.
type blockWriter struct {
	l     *line
	begun bool // something has been written, or tried
}

func (w *blockWriter) Write(p []byte) (int, error) {
	done := 0
	w.begun = true
	for done < len(p) {
		// The order matters: the listening goroutine first lays down what it heard and then moves the deadline into the
		// past. So either it is seen here, or the deadline set here is overwritten.
		w.l.nc.SetWriteDeadline(time.Now().Add(w.l.t.Data))
		if !w.l.alive() {
			return done, errSpoke
		}
		n, err := w.l.nc.Write(p[done:min(len(p), done+blockSize)])
		done += n
		if err != nil {
			if len(w.l.heard) > 0 {
				err = errSpoke
			}
			return done, fmt.Errorf("%w: %w", errWrite, err)
		}
	}
	return done, nil
}

var (
	bodyWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, blockSize) }}
	copyBuffers = sync.Pool{New: func() any { return new([blockSize]byte) }}
)

// A stuffer doubles the dot at the beginning of a line (RFC 5321 section 4.5.2). Lines end in CRLF and nothing else: a
// bare CR or LF, which some servers take for the end of a line, and so ".\n" for the end of the message, is refused.
type stuffer struct {
	w   *bufio.Writer
	bol bool // at the beginning of a line
	cr  bool // the last octet was a CR
}

func (s *stuffer) Write(p []byte) (int, error) {
	from, i := 0, 0 // what is not yet written; what is not yet looked at
	for i < len(p) {
		if s.cr {
			if p[i] != '\n' {
				return from, ErrBareNewline
			}
			s.cr, s.bol = false, true
			i++
			continue
		}
		if s.bol && p[i] == '.' {
			s.w.Write(p[from:i])
			s.w.WriteByte('.')
			from = i
		}
		s.bol = false
		lineEnd := len(p)
		if j := bytes.IndexByte(p[i:], '\r'); j >= 0 {
			lineEnd = i + j
			s.cr = true
		}
		if bytes.IndexByte(p[i:lineEnd], '\n') >= 0 {
			return from, ErrBareNewline
		}
		i = min(lineEnd+1, len(p))
	}
	// bufio.Writer keeps its first error, so that those above need not be looked at.
	if _, err := s.w.Write(p[from:]); err != nil {
		return from, err
	}
	return len(p), nil
}

// end gives what is missing for the last line to be whole.
func (s *stuffer) end() (missing string, err error) {
	switch {
	case s.cr:
		return "", ErrBareNewline
	case s.bol:
		return "", nil
	}
	return "\r\n", nil
}
