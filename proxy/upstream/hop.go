package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// hop is an SMTP or LMTP server.
type hop struct {
	cfg    Config
	target target
	tls    *tls.Config // nil for no TLS
	idle   pool

	mu     sync.Mutex
	closed bool
	lines  map[*line]struct{}
	wg     sync.WaitGroup // of lines
}

func (h *hop) Addr() (network, address string) { return h.target.network, h.target.address }

func (h *hop) String() string { return h.cfg.Address }

func (h *hop) Probe(ctx context.Context) (Caps, error) {
	c, err := h.dial(ctx, nil)
	if err != nil {
		return Caps{}, err
	}
	c.line.quit()
	return c.caps, nil
}

func (h *hop) Open(ctx context.Context, client Client) (Conn, error) {
	for {
		c := h.idle.take()
		if c == nil {
			break
		}
		c.client = client
		c.forward = h.wantsForward(c.caps, client)
		if c.Reset(ctx) == nil && c.Alive() {
			return c, nil
		}
		c.line.kill()
		if err := context.Cause(ctx); err != nil {
			return nil, &Error{Op: "connect", Addr: h.cfg.Address, Err: err}
		}
	}
	var known *Client
	if client != (Client{}) {
		known = &client
	}
	c, err := h.dial(ctx, known)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (h *hop) wantsForward(caps Caps, client Client) bool {
	wanted := h.cfg.ClientInfo == ClientAuto || h.cfg.ClientInfo == ClientXForward
	return wanted && client != (Client{}) && len(caps.XForward) > 0
}

// keep puts a connection into the pool, and says whether it did.
func (h *hop) keep(c *conn) bool {
	return c.fit(h.cfg.Pool.Refusals) && h.idle.put(c)
}

func (h *hop) Close() error {
	h.mu.Lock()
	h.closed = true
	var lines []*line
	for l := range h.lines {
		lines = append(lines, l)
	}
	h.mu.Unlock()
	for _, c := range h.idle.drain() {
		c.line.quit()
	}
	for _, l := range lines {
		l.kill()
	}
	h.wg.Wait()
	return nil
}

// dial makes a connection ready for MAIL. A nil client makes it our own.
func (h *hop) dial(ctx context.Context, client *Client) (*conn, error) {
	c, err := h.dialTLS(ctx, client, h.tls)
	var failed *Error
	if h.cfg.TLS == TLSOpportunistic && errors.As(err, &failed) && failed.Op == "tls" && ctx.Err() == nil {
		return h.dialTLS(ctx, client, nil) // RFC 7435: better in plain text than not at all
	}
	return c, err
}

func (h *hop) dialTLS(ctx context.Context, client *Client, tlsConfig *tls.Config) (*conn, error) {
	l, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	end, err := l.begin(ctx, "connect")
	if err != nil {
		l.kill()
		return nil, err
	}
	defer end()
	c := &conn{line: l, hop: h}
	if client != nil {
		c.client = *client
	}
	if err := c.setUp(ctx, client, tlsConfig); err != nil {
		l.kill()
		return nil, err
	}
	l.listen()
	if l.isDead() {
		return nil, l.fail(ctx, "connect", false, net.ErrClosed)
	}
	return c, nil
}

// connect makes the connection and registers it, so that Close can break it.
func (h *hop) connect(ctx context.Context) (*line, error) {
	fail := func(err error) (*line, error) {
		return nil, &Error{Op: "connect", Addr: h.cfg.Address, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, h.cfg.Timeouts.Connect)
	defer cancel()
	nc, err := h.cfg.Dial(limited, h.target.network, h.target.address)
	if err != nil {
		return fail(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		nc.Close()
		return fail(net.ErrClosed)
	}
	var l *line
	l = newLine(nc, h.cfg.Address, h.cfg.Timeouts, func() {
		h.mu.Lock()
		delete(h.lines, l)
		h.mu.Unlock()
		h.wg.Done()
	})
	h.lines[l] = struct{}{}
	h.wg.Add(1)
	return l, nil
}

// setUp goes from the first octet to a connection on which mail can be sent.
func (c *conn) setUp(ctx context.Context, client *Client, tlsConfig *tls.Config) error {
	h := c.hop
	if v := h.proxyVersion(); v != 0 {
		c.line.told = client != nil
		if err := sendProxy(c.line.nc, c.line.t.Command, v, client); err != nil {
			return c.line.fail(ctx, "proxy", false, err)
		}
	}
	if h.target.scheme == "smtps" {
		if err := c.startTLS(ctx, tlsConfig); err != nil {
			return err
		}
	}
	greeting, err := c.line.answer(ctx, "greeting", c.line.t.Command)
	if err != nil {
		return err
	}
	if greeting.Code != 220 {
		return c.line.fail(ctx, "greeting", false, &Refused{Reply: greeting})
	}
	if err := c.hello(ctx, h.cfg.Hostname); err != nil {
		return err
	}
	if tlsConfig != nil && !c.caps.TLS {
		if err := c.negotiateTLS(ctx, tlsConfig); err != nil {
			return err
		}
	}
	// A connection that the next hop takes for the client's is never another's, and one that it takes for our own is never a client's.
	xclient := len(c.caps.XClient) > 0 && (h.cfg.ClientInfo == ClientXClient || h.cfg.ClientInfo == ClientAuto)
	c.personal = xclient || h.proxyVersion() != 0
	switch {
	case client == nil:
		return nil
	case xclient:
		return c.introduce(ctx)
	case h.cfg.ClientInfo == ClientXClient:
		return c.line.fail(ctx, "xclient", false, errors.New("not offered to us, as client_info: xclient needs"))
	}
	c.forward = h.wantsForward(c.caps, c.client)
	return nil
}

func (h *hop) proxyVersion() byte {
	switch h.cfg.ClientInfo {
	case ClientProxy:
		return 1
	case ClientProxyV2:
		return 2
	}
	return 0
}

// hello says EHLO, LHLO to an LMTP server (RFC 2033 section 4.1), and HELO to a server that knows no EHLO.
func (c *conn) hello(ctx context.Context, name string) error {
	verb := "EHLO "
	if c.hop.target.lmtp() {
		verb = "LHLO "
	}
	tlsOn, startTLS := c.caps.TLS, c.caps.StartTLS
	reply, err := c.line.ask(ctx, "ehlo", verb+name)
	if err != nil {
		return err
	}
	caps := parseCaps(reply)
	if reply.Permanent() && verb == "EHLO " {
		caps = Caps{}
		if reply, err = c.line.ask(ctx, "helo", "HELO "+name); err != nil {
			return err
		}
	}
	if reply.Code != 250 {
		return c.line.fail(ctx, "ehlo", false, &Refused{Reply: reply})
	}
	caps.LMTP, caps.TLS = c.hop.target.lmtp(), tlsOn
	caps.StartTLS = caps.StartTLS || tlsOn && startTLS
	c.caps = caps
	return nil
}

func (t target) lmtp() bool { return t.scheme == "lmtp" || t.scheme == "lmtp+unix" }

// negotiateTLS says STARTTLS (RFC 3207).
func (c *conn) negotiateTLS(ctx context.Context, tlsConfig *tls.Config) error {
	required := c.hop.cfg.TLS == TLSRequired
	if !c.caps.StartTLS {
		if required {
			return c.line.fail(ctx, "tls", false, errors.New("STARTTLS is not offered, and tls is required"))
		}
		return nil
	}
	reply, err := c.line.ask(ctx, "starttls", "STARTTLS")
	if err != nil {
		return err
	}
	if reply.Code != 220 {
		if required || reply.Code == 421 {
			return c.line.fail(ctx, "starttls", false, &Refused{Reply: reply})
		}
		return nil
	}
	// What stands in the buffer now was sent in plain text, and would be taken for the next hop's word inside TLS.
	if c.line.more {
		return c.line.fail(ctx, "starttls", false, fmt.Errorf("%w: plain text after the reply to STARTTLS", ErrProtocol))
	}
	if err := c.startTLS(ctx, tlsConfig); err != nil {
		return err
	}
	return c.hello(ctx, c.hop.cfg.Hostname)
}

// startTLS makes the connection a TLS one.
func (c *conn) startTLS(ctx context.Context, tlsConfig *tls.Config) error {
	limited, cancel := context.WithTimeout(ctx, c.line.t.Connect)
	defer cancel()
	c.line.nc.SetDeadline(time.Time{})
	secured := tls.Client(c.line.raw, tlsConfig)
	if err := secured.HandshakeContext(limited); err != nil {
		return c.line.fail(ctx, "tls", false, err)
	}
	c.line.nc = secured
	c.line.r.Reset(secured)
	c.caps.TLS = true
	return nil
}
