package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern/filters"
	"postern/proxy/upstream"
	"postern/proxy/wire"
)

// A connection is one client connection from accept to close, over STARTTLS and XCLIENT. Its fields belong to the
// goroutine of the session that is open, but for those under mu.
type connection struct {
	srv     *Server
	rt      *Runtime
	id      string
	started time.Time
	ctx     context.Context
	cancel  context.CancelFunc

	peer     netip.AddrPort
	relay    bool
	client   *filters.Client
	run      *filters.Run
	helo     string
	extended bool
	seq      int
	tx       *transaction
	delivery *delivery
	unheard  *sign // of the last message that was accepted
	unknown  int   // recipients that were refused
	// refusedBy is what refused the connection in place of the banner.
	refusedBy string
	tally     tally

	mu       sync.Mutex
	sessions int // open smtp.Sessions: one at most, none before HELO
	over     bool
}

// A tally counts, for the session's log line, how the transactions of a connection ended.
type tally struct{ messages, delivered, refused, aborted int }

// newID makes the first part of the ids of a connection's transactions.
func newID() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return strings.ToUpper(hex.EncodeToString(b[:]))
}

// open begins a connection: the checks of its client start here, while it still waits for the banner.
func (s *Server) open(w *wire.Conn) *wire.Reply {
	c := &connection{srv: s, rt: s.runtime.Load(), id: newID(), started: time.Now()}
	c.ctx, c.cancel = context.WithCancel(s.base)
	c.identify(w)
	w.SetValue(c)
	return nil
}

// identify finds out who the client is and starts the checks on it.
func (c *connection) identify(w *wire.Conn) {
	cfg := c.rt.Config
	c.peer = addrPort(w.RemoteAddr())
	ip := c.peer.Addr()
	c.relay = within(cfg.Networks.Relays, ip)
	c.client = &filters.Client{
		IP:      ip,
		Trusted: within(cfg.Networks.Trusted, ip),
		OwnName: cfg.Hostname,
		OwnIP:   addrPort(w.LocalAddr()).Addr(),
	}
	if c.run != nil {
		c.run.Close()
	}
	judged := c.client
	if c.relay {
		judged = nil // whom it relays for is known with the message
	}
	c.run = c.rt.pipeline.Start(c.ctx, judged, time.Now)
}

// addrPort is the address of a socket, IPv4 as such and IPv6 without a zone; the zero value for what is none of TCP.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// warning says what about the client's address looks like a mistake in the configuration.
func (c *connection) warning() string {
	ip := c.peer.Addr()
	if (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) && !c.relay && !c.client.Trusted {
		return "private client address in neither networks.trusted nor networks.relays"
	}
	return ""
}

// enter and leave count the open sessions, so that the connection ends once: when the socket is closed and no session
// works any more.
func (c *connection) enter() {
	c.mu.Lock()
	c.sessions++
	c.mu.Unlock()
}

func (c *connection) leave(w *wire.Conn) {
	c.mu.Lock()
	c.sessions--
	last := c.over && c.sessions == 0
	c.mu.Unlock()
	if last {
		c.finish(w)
	}
}

// closed is told that the socket is closed.
func (s *Server) closed(w *wire.Conn) {
	c, ok := w.Value().(*connection)
	if !ok {
		return
	}
	c.mu.Lock()
	c.over = true
	last := c.sessions == 0
	c.mu.Unlock()
	if last {
		c.finish(w)
	}
}

func (c *connection) finish(w *wire.Conn) {
	c.cancel()
	c.run.Close()
	c.delivery.close()
	c.behaved(w)
	silent := w.Commands() == 0 && w.Errors() == 0 && !w.EarlyTalk() && w.Reason() == "client closed"
	c.srv.metrics.session(w.Reason(), silent)
	if silent {
		c.srv.idle.Add(1)
		return
	}
	c.log(w)
}

func (c *connection) log(w *wire.Conn) {
	attrs := append(make([]slog.Attr, 0, 18),
		slog.Int("v", logVersion),
		slog.String("ip", addrString(c.peer.Addr())),
		slog.String("id", c.id),
		slog.String("reason", w.Reason()),
	)
	if c.refusedBy != "" {
		attrs = append(attrs, slog.String("by", c.refusedBy))
	}
	attrs = append(attrs,
		slog.Int("messages", c.tally.messages),
		slog.Int("delivered", c.tally.delivered),
		slog.Int("refused", c.tally.refused),
		slog.Int("aborted", c.tally.aborted),
		slog.Int("commands", w.Commands()),
		slog.Int("errors", w.Errors()),
		slog.Bool("early_talk", w.EarlyTalk()),
		slog.String("tls", tlsName(w)),
		slog.Int64("bytes_in", w.BytesIn()),
		slog.Int64("bytes_out", w.BytesOut()),
		slog.Attr{Key: "ms_total", Value: milliseconds(time.Since(c.started))},
		slog.Any("helo", Foreign(c.helo)),
		slog.Any("last", Foreign(w.LastCommand())),
	)
	c.srv.record("session", attrs)
}

func tlsName(w *wire.Conn) string {
	if state := w.TLS(); state != nil {
		return filters.TLSName(state.Version)
	}
	return "none"
}

func addrString(ip netip.Addr) string {
	if !ip.IsValid() {
		return "unknown"
	}
	return ip.String()
}

// upstreamClient is what the next hop is told about the client.
func (c *connection) upstreamClient(w *wire.Conn, id string) upstream.Client {
	local := addrPort(w.LocalAddr())
	return upstream.Client{
		IP:       c.peer.Addr(),
		Port:     int(c.peer.Port()),
		Name:     c.confirmedName(),
		Helo:     c.helo,
		Extended: c.extended,
		TLS:      w.TLS() != nil,
		DestIP:   local.Addr(),
		DestPort: int(local.Port()),
		ID:       id,
	}
}

// confirmedName is the client's forward-confirmed host name, which is awaited only where a next hop is told it.
func (c *connection) confirmedName() string {
	if !c.rt.wantsName() {
		return ""
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.rt.Config.DNS.Timeout)
	defer cancel()
	report, ok := c.run.Wait(ctx, filters.IprevKey.Check)
	if fact, is := report.Fact.(*filters.IprevResult); ok && is && fact != nil {
		return fact.Name
	}
	return ""
}

// nextID names a transaction: the connection's id and a number.
func (c *connection) nextID() string {
	c.seq++
	return fmt.Sprintf("%s.%d", c.id, c.seq)
}
