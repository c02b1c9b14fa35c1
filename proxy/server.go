// Package proxy is the SMTP proxy: it serves clients, opens the upstream as soon as a recipient is acceptable, has the
// message judged, and hands it on, diverts it or refuses it. It holds no queue: the client hears 250 after the final
// dot only when the next hop has said 250.
//
// One connection goes through these hands: package wire owns the socket and gives go-smtp well-formed SMTP; go-smtp
// calls a session (session.go), which keeps the state of the connection (connection.go) and of each mail transaction
// (transaction.go); forward.go speaks to the next hop; judge.go has the message judged and carries out the verdict.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	lru "github.com/hashicorp/golang-lru/v2"

	"postern/proxy/wire"
)

// Server serves the listeners of a configuration.
type Server struct {
	Version string // of what runs, for the metrics; set before Listen

	log       *slog.Logger
	runtime   atomic.Pointer[Runtime]
	woken     chan struct{} // by wakeProbing
	smtp      *smtp.Server
	listeners []boundListener
	strangers *lru.Cache[string, refusedRcpt]
	memory    *memory // of deliveries; it outlives a reload
	spooled   atomic.Int64
	kept      atomic.Int64 // of spooled, in memory
	census    wire.Census  // of the connections of all listeners
	mails     wire.Rate    // of transactions begun
	idle      atomic.Int64 // connections that came and went without a word
	known     *acquaintances
	metrics   *metrics
	monitor   *monitor // nil: not configured

	base   context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

type boundListener struct {
	config Listen
	inner  net.Listener
	wire   *wire.Listener
}

// A refusedRcpt is a recipient that an upstream refused for good a moment ago.
type refusedRcpt struct {
	reply   reply
	expires time.Time
}

// How many refused recipients are remembered, and how long.
const (
	strangersKept = 10_000
	strangersFor  = time.Minute
)

// NewServer makes a server of a runtime, which it owns from now on, and opens the store. Nothing is bound yet. On an
// error the runtime is closed.
func NewServer(rt *Runtime, logger *slog.Logger) (*Server, error) {
	strangers, err := lru.New[string, refusedRcpt](strangersKept)
	if err != nil {
		rt.Close()
		return nil, fmt.Errorf("remembering refused recipients: %w", err)
	}
	remembered, note, err := openMemory(rt.Config.Store, logger)
	if err != nil {
		rt.Close()
		return nil, fmt.Errorf("%s: %w", rt.Config.pos("store", "path"), err)
	}
	known, err := newAcquaintances(remembered.store, remembered.warn)
	if err != nil {
		rt.Close()
		return nil, errors.Join(fmt.Errorf("remembering clients: %w", err), remembered.close())
	}
	if note != "" {
		logger.Warn("store_moved_aside", "note", note)
	}
	s := &Server{log: logger, woken: make(chan struct{}, 1), strangers: strangers, memory: remembered, known: known}
	rt.log, rt.wake = logger, s.wakeProbing
	s.runtime.Store(rt)
	s.metrics = newMetrics(s)
	s.base, s.cancel = context.WithCancel(context.Background())
	s.smtp = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.smtp.Domain = rt.Config.Hostname
	s.smtp.MaxLineLength, s.smtp.ReadTimeout = 0, 0
	s.smtp.EnableSMTPUTF8, s.smtp.EnableDSN = true, true
	s.smtp.ErrorLog = log.New(slogWriter{logger}, "", 0)
	return s, nil
}

// slogWriter turns what go-smtp logs into lines of ours.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(p []byte) (int, error) {
	w.log.Error("smtp_server", "error", Foreign(p))
	return len(p), nil
}

// Listen binds all listeners, or none.
func (s *Server) Listen() error {
	for _, l := range s.runtime.Load().Config.Listen {
		inner, err := net.Listen("tcp", l.Address)
		if err != nil {
			s.unbind()
			return fmt.Errorf("cannot listen on %s: %w", l.Address, listenCause(err))
		}
		cfg, err := s.wireConfig(l)
		if err != nil {
			inner.Close()
			s.unbind()
			return fmt.Errorf("listen %s: %w", l.Address, err)
		}
		s.listeners = append(s.listeners, boundListener{config: l, inner: inner, wire: wire.NewListener(inner, cfg)})
	}
	if err := s.listenMonitor(); err != nil {
		s.unbind()
		return err
	}
	return nil
}

// listenCause is the system's reason without the address, which the message names.
func listenCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (s *Server) unbind() {
	for _, l := range s.listeners {
		l.wire.Close()
	}
	s.listeners = nil
	s.monitor.stop()
}

// Addrs are the bound addresses, in the order of the configuration.
func (s *Server) Addrs() []string {
	addrs := make([]string, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.inner.Addr().String()
	}
	return addrs
}

func (s *Server) wireConfig(l Listen) (wire.Config, error) {
	cfg := s.runtime.Load().Config
	tlsConfig, err := l.tlsConfig(s.log)
	if err != nil {
		return wire.Config{}, err
	}
	newline := wire.Reject
	if l.BareNewline == "normalise" {
		newline = wire.Normalise
	}
	postmaster := cfg.Hostname
	if names := cfg.Domains.List; len(names) > 0 {
		postmaster = names[0]
	}
	return wire.Config{
		Hostname:         cfg.Hostname,
		Keywords:         func() []string { return s.runtime.Load().keywords() },
		TLS:              tlsConfig,
		ImplicitTLS:      l.ImplicitTLS,
		ProxyFrom:        l.Proxy,
		XClientFrom:      l.XClient,
		Exempt:           append(append(cfg.Networks.Relays[:0:0], cfg.Networks.Relays...), cfg.Networks.Trusted...),
		BareNewline:      newline,
		PostmasterDomain: postmaster,
		Census:           &s.census,
		Limits:           cfg.Limits.wire(),
		Open:             s.open,
		EarlyWait:        s.bannerWait,
		Greet:            s.welcome,
		Hello:            s.hello,
		Closed:           s.closed,
		Log:              s.log,
	}, nil
}

// wire gives the limits that the wire holds clients to.
func (l Limits) wire() wire.Limits {
	return wire.Limits{
		Connections:     l.Connections,
		PerIP:           l.PerIP,
		PerNet:          l.PerIP * l.Network,
		Arrivals:        l.Arrivals,
		ArrivalsNet:     l.Arrivals * l.Network,
		CommandLine:     int(l.CommandLine),
		DataLine:        int(l.MessageLine),
		MessageMax:      int64(l.Message),
		Handshake:       l.Handshake,
		Session:         l.Session,
		Idle:            l.Idle,
		DataIdle:        min(l.Idle, 3*time.Minute),
		Commands:        l.Commands,
		Errors:          l.Errors,
		UnknownCommands: l.Unheard,
	}
}

// Serve answers clients until ctx ends. Then it stops accepting, lets the transactions under way end, and returns when
// all connections are closed, which takes no longer than a delivery may wait for the upstream's reply.
func (s *Server) Serve(ctx context.Context) error {
	s.serveMonitor()
	rt := s.runtime.Load()
	rt.probe(ctx)
	s.wg.Go(func() { s.keepProbing(ctx) })
	s.wg.Go(func() { s.keepTesting(ctx) })
	s.wg.Go(func() { s.keepLists(ctx) })
	for _, l := range s.listeners {
		s.log.Info("listening", "address", l.inner.Addr().String(), "upstream", rt.fallback.name, "observe", rt.Config.Observe)
		s.wg.Go(func() {
			if err := s.smtp.Serve(l.wire); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
				s.log.Error("listener_failed", "address", l.inner.Addr().String(), "error", err.Error())
			}
		})
	}
	<-ctx.Done()
	return s.drain()
}

// keepProbing asks the upstreams when their time has come, until ctx ends.
func (s *Server) keepProbing(ctx context.Context) {
	for {
		select {
		case <-time.After(s.runtime.Load().nextProbe(time.Now())):
			rt := s.use()
			rt.probeDue(ctx)
			rt.release()
		case <-s.woken:
		case <-ctx.Done():
			return
		}
	}
}

// wakeProbing has keepProbing look again whose time has come.
func (s *Server) wakeProbing() {
	select {
	case s.woken <- struct{}{}:
	default: // it was told already
	}
}

// testEvery is how often the lists are tested.
const testEvery = time.Minute

func (s *Server) keepTesting(ctx context.Context) {
	tick := time.NewTicker(testEvery)
	defer tick.Stop()
	for {
		rt := s.use()
		rt.pipeline.SelfTest(ctx, time.Now())
		rt.release()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) drain() error {
	rt := s.runtime.Load()
	s.log.Info("draining")
	s.monitor.drain()
	limit, done := context.WithTimeout(context.Background(), rt.Config.Budget.Reply)
	defer done()
	var drained sync.WaitGroup
	for _, l := range s.listeners {
		drained.Go(func() { l.wire.Drain(limit) })
	}
	drained.Wait()
	s.cancel()
	err := s.smtp.Close()
	s.monitor.stop()
	s.wg.Wait()
	err = errors.Join(err, s.memory.close())
	s.log.Info("stopped", "idle_connections", s.idle.Load())
	s.runtime.Load().Close()
	return err
}

// bounds are the limits of one message's spool.
func (s *Server) bounds(l Limits) spoolBounds {
	return spoolBounds{
		memory:  int64(l.Memory),
		message: int64(l.Message),
		total:   int64(l.Spool),
		used:    &s.spooled,
		room:    int64(l.AllMemory),
		kept:    &s.kept,
	}
}

// Reload puts another runtime in force, which the server owns from then on: transactions under way keep the one that
// they began with. Listeners are bound once; a change of theirs other than certificates and limits asks for a restart.
func (s *Server) Reload(ctx context.Context, rt *Runtime) error {
	old := s.runtime.Load()
	rt.log, rt.wake = s.log, s.wakeProbing
	rt.inherit(old)
	rt.probe(ctx)
	before := old.Rules
	configs := make([]wire.Config, len(s.listeners))
	s.runtime.Store(rt)
	for i, bound := range s.listeners {
		config := bound.config
		for _, l := range rt.Config.Listen {
			if l.Address == config.Address {
				config = l
			}
		}
		var err error
		if configs[i], err = s.wireConfig(config); err != nil {
			s.runtime.Store(old)
			rt.Close()
			return fmt.Errorf("listen %s: %w", config.Address, err)
		}
	}
	for i, bound := range s.listeners {
		bound.wire.SetConfig(configs[i])
	}
	if rt.Config.Store != old.Config.Store {
		s.log.Warn("store_unchanged", "note", "the store of the configuration changes at the next start only")
	}
	old.Close()
	s.wakeProbing()
	s.metrics.reload("ok")
	s.log.Info("reloaded", append([]any{"file", rt.Config.File, "rules", rt.ruleCount()}, ruleChanges(before, rt.Rules)...)...)
	return nil
}

// ReloadFailed logs and counts that the configuration could not be read again, or not be put in force. The old one serves.
func (s *Server) ReloadFailed(err error) {
	s.metrics.reload("failed")
	s.log.Error("reload_failed", "error", err.Error())
}

// use gives the runtime in force, acquired.
func (s *Server) use() *Runtime {
	for {
		if rt := s.runtime.Load(); rt.acquire() {
			return rt
		}
	}
}

func (rt *Runtime) ruleCount() int {
	if rt.Rules == nil {
		return 0
	}
	return len(rt.Rules.Rules())
}

// Close gives back what a server that never served has taken.
func (s *Server) Close() {
	s.unbind()
	s.cancel()
	if err := s.memory.close(); err != nil {
		s.memory.warn(err)
	}
	s.runtime.Load().Close()
}
