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
	"log"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	lru "github.com/hashicorp/golang-lru/v2"

	"postern/filters/dns"
	"postern/proxy/wire"
)

// Server serves the listeners of a configuration.
type Server struct {
	Version   string      // of what runs, for the metrics; set before Listen
	Inherited []Inherited // sockets that the process was started with; set before Listen
	Ready     func()      // called when clients are answered; may be nil; set before Serve

	log       *slog.Logger
	reloading sync.Mutex
	runtime   atomic.Pointer[Runtime]
	woken     chan struct{} // by wakeProbing
	smtp      *smtp.Server
	sockets   listeners
	strangers *lru.Cache[string, refusedRcpt]
	memory    *memory // of deliveries; it outlives a reload
	spooled   atomic.Int64
	kept      atomic.Int64 // of spooled, in memory
	census    wire.Census  // of the connections of all listeners
	mails     wire.Rate    // of transactions begun
	idle      atomic.Int64 // connections that came and went without a word
	known     *acquaintances
	metrics   *metrics
	monitor   *monitor     // nil: not configured
	lookups   dns.Counters // of the resolvers of all runtimes

	base   context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
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
	rt.pipeline.CountIn(remembered.rates)
	s.countLookups(rt)
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

func (s *Server) wireConfig(rt *Runtime, l Listen) (wire.Config, error) {
	cfg := rt.Config
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
	s.runtime.Load().probe(ctx)
	s.wg.Go(func() { s.keepProbing(ctx) })
	s.wg.Go(func() { s.keepTesting(ctx) })
	s.wg.Go(func() { s.keepLists(ctx) })
	if s.monitor != nil {
		s.wg.Go(func() { s.keepResolving(ctx) })
	}
	s.serveAll()
	if s.Ready != nil {
		s.Ready()
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

// How often the resolver is tested, and how soon again while it does not answer.
const (
	resolverEvery = time.Minute
	resolverAgain = 5 * time.Second
)

// keepResolving tests the resolver until ctx ends, for those who watch: its silence is to be known without mail.
func (s *Server) keepResolving(ctx context.Context) {
	for {
		pause := resolverEvery
		rt := s.use()
		if r, ok := rt.resolver.(*dns.Resolver); ok && r.Test(ctx, rt.Config.Hostname) != nil {
			pause = resolverAgain
		}
		rt.release()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// countLookups has the resolver of a runtime go on counting where that of the last one stopped.
func (s *Server) countLookups(rt *Runtime) {
	if r, ok := rt.resolver.(*dns.Resolver); ok {
		r.CountIn(&s.lookups)
	}
}

func (s *Server) drain() error {
	rt := s.runtime.Load()
	s.log.Info("draining")
	s.monitor.drain()
	limit, done := context.WithTimeout(context.Background(), rt.Config.Budget.Reply)
	defer done()
	var drained sync.WaitGroup
	for _, b := range s.sockets.end() {
		drained.Go(func() { b.wire.Drain(limit) })
	}
	drained.Wait()
	s.reloading.Lock()
	defer s.reloading.Unlock()
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
// they began with. Listeners that are new are bound, and those that are gone are closed, but not the connections of their
// clients. On an error nothing has changed, and the runtime is closed.
func (s *Server) Reload(ctx context.Context, rt *Runtime) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	old := s.runtime.Load()
	rt.log, rt.wake = s.log, s.wakeProbing
	rt.pipeline.CountIn(s.memory.rates)
	s.countLookups(rt)
	next, err := s.prepare(rt)
	if err != nil {
		rt.Close()
		return err
	}
	rt.inherit(old)
	rt.probe(ctx)
	before := old.Rules
	s.runtime.Store(rt)
	s.install(next)
	if rt.Config.Metrics != old.Config.Metrics {
		s.log.Warn("metrics_unchanged", "note", "what the configuration says of metrics changes at the next start only")
	}
	if rt.Config.Control != old.Config.Control {
		s.log.Warn("control_unchanged", "note", "the control socket changes at the next start only")
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
