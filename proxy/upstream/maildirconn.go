package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// maildirHop is a Maildir as next hop.
type maildirHop struct {
	address string
	dir     *Maildir
}

func newMaildirHop(cfg Config, path string) *maildirHop {
	return &maildirHop{address: cfg.Address, dir: NewMaildir(path, cfg.Hostname)}
}

func (h *maildirHop) Addr() (network, address string) { return "", "" }

func (h *maildirHop) String() string { return h.address }

func (h *maildirHop) Close() error { return nil }

// Probe makes the Maildir and tries whether it can be written to.
func (h *maildirHop) Probe(ctx context.Context) (Caps, error) {
	if err := h.dir.Create(); err != nil {
		return Caps{}, h.fail("probe", err)
	}
	f, err := os.CreateTemp(filepath.Join(h.dir.path, "tmp"), "probe")
	if err != nil {
		return Caps{}, h.fail("probe", err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return Caps{}, h.fail("probe", err)
	}
	return maildirCaps(), nil
}

func (h *maildirHop) Open(ctx context.Context, client Client) (Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, h.fail("connect", err)
	}
	if err := h.dir.Create(); err != nil {
		return nil, h.fail("connect", err)
	}
	return &maildirConn{hop: h}, nil
}

func (h *maildirHop) fail(op string, err error) error {
	return &Error{Op: op, Addr: h.address, Err: err}
}

func maildirCaps() Caps {
	return Caps{
		Extended:       true,
		SMTPUTF8:       true,
		EightBit:       true,
		Pipelining:     true,
		RequireTLS:     true, // the message goes no further
		EnhancedStatus: true,
		Size:           true,
	}
}

// maildirConn answers as a mail server would that takes every recipient.
type maildirConn struct {
	hop    *maildirHop
	open   bool
	from   Path
	to     []Path
	closed bool
}

func (c *maildirConn) Caps() Caps { return maildirCaps() }

func (c *maildirConn) Alive() bool { return !c.closed }

func (c *maildirConn) Mail(ctx context.Context, m Mail) (Reply, error) {
	if err := c.ready(ctx, "mail"); err != nil {
		return Reply{}, err
	}
	c.clear()
	if checkPath(m.From) != nil || m.From.Local == "" && m.From.Domain != "" {
		return Reply{Code: 553, Enhanced: "5.1.7", Lines: []string{"Bad sender address syntax"}}, nil
	}
	c.open, c.from = true, m.From
	return Reply{Code: 250, Enhanced: "2.1.0", Lines: []string{"Ok"}}, nil
}

func (c *maildirConn) Rcpt(ctx context.Context, r Rcpt) (Reply, error) {
	if err := c.ready(ctx, "rcpt"); err != nil {
		return Reply{}, err
	}
	if !c.open {
		return Reply{Code: 503, Enhanced: "5.5.1", Lines: []string{"Need MAIL command"}}, nil
	}
	if checkPath(r.To) != nil || r.To.Local == "" {
		return Reply{Code: 553, Enhanced: "5.1.3", Lines: []string{"Bad recipient address syntax"}}, nil
	}
	c.to = append(c.to, r.To)
	return Reply{Code: 250, Enhanced: "2.1.5", Lines: []string{"Ok"}}, nil
}

func (c *maildirConn) MailRcpt(ctx context.Context, m Mail, r Rcpt) (mail, rcpt Reply, err error) {
	if mail, err = c.Mail(ctx, m); err != nil || !mail.Positive() {
		return mail, Reply{}, err
	}
	rcpt, err = c.Rcpt(ctx, r)
	return mail, rcpt, err
}

func (c *maildirConn) Data(ctx context.Context, b Body) (DataResult, error) {
	if err := c.ready(ctx, "data"); err != nil {
		return DataResult{}, err
	}
	if len(c.to) == 0 {
		return DataResult{Reply: ownReply(503, "5.5.1", "No recipient was accepted")}, nil
	}
	message := &lineEnder{r: io.MultiReader(bytes.NewReader(c.envelope()), bytes.NewReader(b.Fields), orEmpty(b.Message))}
	c.clear()
	id, err := c.hop.dir.Deliver(ctx, message, b.BeforeDot)
	if err == nil {
		return DataResult{Reply: Reply{Code: 250, Enhanced: "2.0.0", Lines: []string{"Ok: queued as " + id}}, Offered: true}, nil
	}
	var failed *DeliveryError
	inDoubt := errors.As(err, &failed) && failed.InDoubt
	if !inDoubt && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return DataResult{Reply: Reply{Code: 452, Enhanced: "4.3.1", Lines: []string{"Insufficient system storage"}}}, nil
	}
	return DataResult{Offered: inDoubt}, &Error{Op: "data", Addr: c.hop.address, Offered: inDoubt, Err: err}
}

// envelope is what final delivery writes on top (RFC 5321 section 4.4): where the message came from, and for whom it was.
func (c *maildirConn) envelope() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: <%s>\r\n", c.from)
	for _, to := range c.to {
		fmt.Fprintf(&b, "Delivered-To: %s\r\n", to)
	}
	return b.Bytes()
}

func (c *maildirConn) Reset(ctx context.Context) error {
	if err := c.ready(ctx, "rset"); err != nil {
		return err
	}
	c.clear()
	return nil
}

func (c *maildirConn) Close() error {
	c.closed = true
	return nil
}

func (c *maildirConn) clear() {
	c.open, c.from, c.to = false, Path{}, nil
}

func (c *maildirConn) ready(ctx context.Context, op string) error {
	if c.closed {
		return c.hop.fail(op, ErrDead)
	}
	if err := context.Cause(ctx); err != nil {
		return c.hop.fail(op, err)
	}
	return nil
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return bytes.NewReader(nil)
	}
	return r
}

// A lineEnder adds the CRLF that a last line lacks.
type lineEnder struct {
	r    io.Reader
	last byte
	left string // of what was added
	done bool
}

func (e *lineEnder) Read(p []byte) (int, error) {
	if e.done {
		n := copy(p, e.left)
		e.left = e.left[n:]
		if e.left == "" {
			return n, io.EOF
		}
		return n, nil
	}
	n, err := e.r.Read(p)
	if n > 0 {
		e.last = p[n-1]
	}
	if err == io.EOF {
		e.done, err = true, nil
		if e.last != '\n' {
			e.left = "\r\n"
		}
	}
	return n, err
}
