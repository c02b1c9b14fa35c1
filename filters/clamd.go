package filters

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// clamd speaks to ClamAV's daemon as clamd(8) has it: one command a connection, "z" before its name and a NUL behind it,
// and so behind the answer. INSTREAM is followed by chunks, each with its length in four octets before it, and by a length of 0.
type clamd struct {
	network, address string
}

const (
	maxClamdReply = 1024 // octets of an answer that are read
	clamdChunk    = 32 << 10
)

// A clamdResult is what became of a scan.
type clamdResult struct {
	Signature string // what was found; "" for nothing
	TooLarge  bool   // the daemon takes no streams of this size (StreamMaxLength)
}

// clamdBuffers are used again: a scan needs one for its chunks.
var clamdBuffers = sync.Pool{New: func() any { b := make([]byte, 4+clamdChunk); return &b }}

// Ping asks whether the daemon is there.
func (c clamd) Ping(ctx context.Context) error {
	conn, done, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := io.WriteString(conn, "zPING\x00"); err != nil {
		return fmt.Errorf("asking clamd: %w", err)
	}
	answer, err := readClamd(conn)
	if err == nil && answer != "PONG" {
		err = fmt.Errorf("clamd answers %q to PING, expected PONG", answer)
	}
	return err
}

// Scan sends what is to be read and gives what the daemon found in it.
func (c clamd) Scan(ctx context.Context, r io.Reader) (clamdResult, error) {
	conn, done, err := c.dial(ctx)
	if err != nil {
		return clamdResult{}, err
	}
	defer done()
	read, sent := sendClamd(conn, r)
	if read != nil {
		return clamdResult{}, fmt.Errorf("reading the message: %w", read)
	}
	// A stream that is too long is answered before its end, and the rest of it is not taken.
	answer, err := readClamd(conn)
	if err != nil {
		if sent != nil {
			err = fmt.Errorf("sending to clamd: %w", sent)
		}
		return clamdResult{}, err
	}
	return clamdAnswer(answer)
}

// dial connects. Whatever is done with the connection ends with ctx; done closes it.
func (c clamd) dial(ctx context.Context) (conn net.Conn, done func(), err error) {
	var d net.Dialer
	conn, err = d.DialContext(ctx, c.network, c.address)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to clamd: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return conn, func() { stop(); conn.Close() }, nil
}

// sendClamd sends the command and the chunks. The errors are those of reading and of sending.
func sendClamd(w io.Writer, r io.Reader) (read, sent error) {
	if _, err := io.WriteString(w, "zINSTREAM\x00"); err != nil {
		return nil, err
	}
	buf := clamdBuffers.Get().(*[]byte)
	defer clamdBuffers.Put(buf)
	for b := *buf; ; {
		n, err := io.ReadFull(r, b[4:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err, nil
		}
		last := n < clamdChunk
		binary.BigEndian.PutUint32(b, uint32(n))
		out := b[:4+n]
		if last && n > 0 && 4+n+4 <= len(b) {
			binary.BigEndian.PutUint32(b[4+n:], 0)
			out = b[:4+n+4]
		} else if last && n > 0 { // no room for the end
			if _, err := w.Write(out); err != nil {
				return nil, err
			}
			binary.BigEndian.PutUint32(b, 0)
			out = b[:4]
		}
		if _, err := w.Write(out); err != nil {
			return nil, err
		}
		if last {
			return nil, nil
		}
	}
}

// readClamd reads an answer.
func readClamd(r io.Reader) (string, error) {
	answer, err := bufio.NewReader(io.LimitReader(r, maxClamdReply)).ReadString(0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it ends after %d octets: %w", len(answer), io.ErrUnexpectedEOF)
		}
		return "", fmt.Errorf("the answer of clamd: %w", err)
	}
	return strings.TrimSuffix(answer, "\x00"), nil
}

// clamdAnswer reads "stream: OK", "stream: NAME FOUND" or "NAME ERROR".
func clamdAnswer(answer string) (clamdResult, error) {
	text := strings.TrimPrefix(answer, "stream: ")
	name, found := strings.CutSuffix(text, " FOUND")
	switch {
	case text == "OK":
		return clamdResult{}, nil
	case found && name != "":
		return clamdResult{Signature: name}, nil
	case strings.HasPrefix(text, "INSTREAM size limit exceeded"):
		return clamdResult{TooLarge: true}, nil
	}
	return clamdResult{}, fmt.Errorf("clamd answers %q", answer)
}
