package wire

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A Listener gives an smtp.Server connections that speak well-formed SMTP.
type Listener struct {
	inner    net.Listener
	cfg      atomic.Pointer[Config]
	census   *Census
	stats    stats
	draining atomic.Bool
	retired  atomic.Bool
	lastWarn atomic.Int64 // Unix nanoseconds of the last warning about limits

	start sync.Once
	ready chan *Conn
	done  chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
	err    error // of inner.Accept
	links  map[*link]struct{}
	empty  chan struct{} // closed when the last link goes; nil while nobody waits
	wg     sync.WaitGroup
}

var _ net.Listener = (*Listener)(nil)

// Stats counts what became of connections since the start. Refused ones appear in no session line.
type Stats struct {
	Open        int   // now
	Accepted    int64 // all that the kernel gave us
	Full        int64 // refused: Limits.Connections
	Crowded     int64 // refused: Limits.PerIP or Limits.PerNet
	Hasty       int64 // refused: Limits.Arrivals or Limits.ArrivalsNet
	BadProxy    int64 // no PROXY header, or a bad one, from a peer that must send it
	BadTLS      int64 // handshakes that failed
	EarlyTalked int64
}

type stats struct {
	accepted, full, crowded, hasty, badProxy, badTLS, earlyTalked atomic.Int64
}

// NewListener wraps a listener. Accepting begins with the first call of Accept.
func NewListener(inner net.Listener, cfg Config) *Listener {
	l := &Listener{
		inner:  inner,
		census: cfg.Census,
		ready:  make(chan *Conn),
		done:   make(chan struct{}),
		links:  make(map[*link]struct{}),
	}
	if l.census == nil {
		l.census = new(Census)
	}
	l.cfg.Store(cfg.withDefaults())
	return l
}

// SetConfig replaces the configuration for connections that are accepted from now on.
func (l *Listener) SetConfig(cfg Config) { l.cfg.Store(cfg.withDefaults()) }

// Addr is the address of the wrapped listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Stats gives the counters.
func (l *Listener) Stats() Stats {
	l.mu.Lock()
	open := len(l.links)
	l.mu.Unlock()
	return Stats{
		Open:        open,
		Accepted:    l.stats.accepted.Load(),
		Full:        l.stats.full.Load(),
		Crowded:     l.stats.crowded.Load(),
		Hasty:       l.stats.hasty.Load(),
		BadProxy:    l.stats.badProxy.Load(),
		BadTLS:      l.stats.badTLS.Load(),
		EarlyTalked: l.stats.earlyTalked.Load(),
	}
}

// Accept waits for the next connection whose client has sent a command; it is a *[Conn]. After Close it is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	l.start.Do(func() { l.spawn(l.acceptAll) })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		l.mu.Lock()
		defer l.mu.Unlock()
		return nil, l.err
	}
}

// Close stops accepting. Connections that go-smtp has live on; all others hear 421.
func (l *Listener) Close() error { return l.shut(net.ErrClosed) }

// Retire stops accepting, but not the connections that there are: they are served until Close or Drain.
func (l *Listener) Retire() error {
	l.retired.Store(true)
	return l.inner.Close()
}

func (l *Listener) shut(cause error) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed, l.err = true, cause
	close(l.done)
	l.mu.Unlock()
	err := l.inner.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // a drain closed it
	}
	l.wakeAll()
	return err
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Drain ends service in good order: nothing is accepted any more; connections outside a transaction hear 421 4.3.2 and
// are closed; those in a transaction may end it, and hear 421 at their next command. Drain returns when all are closed or when ctx ends, and then
// closes what is left. Accept fails from then on.
func (l *Listener) Drain(ctx context.Context) {
	l.draining.Store(true)
	// An error means that it is closed already.
	_ = l.inner.Close()
	l.wakeAll()
	select {
	case <-l.emptied():
	case <-ctx.Done():
		for _, k := range l.snapshot() {
			k.kill("drain")
		}
	}
	// Its only error is that of the inner listener, closed above.
	_ = l.Close()
	l.wg.Wait()
}

// emptied is closed when there is no link any more.
func (l *Listener) emptied() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.empty == nil {
		l.empty = make(chan struct{})
		if len(l.links) == 0 {
			close(l.empty)
		}
	}
	return l.empty
}

func (l *Listener) snapshot() []*link {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*link, 0, len(l.links))
	for k := range l.links {
		all = append(all, k)
	}
	return all
}

func (l *Listener) wakeAll() {
	for _, k := range l.snapshot() {
		k.wake()
	}
}

func (l *Listener) spawn(f func()) {
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		f()
	}()
}

// acceptAll gives each connection a goroutine until it can be handed to Accept.
func (l *Listener) acceptAll() {
	for pause := time.Duration(0); ; {
		sock, err := l.inner.Accept()
		switch {
		case err == nil:
			pause = 0
			l.stats.accepted.Add(1)
			l.admit(sock)
			continue
		case errors.Is(err, net.ErrClosed):
			if !l.draining.Load() && !l.retired.Load() {
				_ = l.shut(err) // the inner listener is what failed
			}
			return
		}
		// Out of file descriptors, or a connection that went while it waited: the listener itself is sound.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		l.cfg.Load().Log.Warn("accept_failed", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-l.done:
			return
		}
	}
}

// admit takes a connection in, or turns it away if there are too many.
func (l *Listener) admit(sock net.Conn) {
	cfg := l.cfg.Load()
	if !l.census.enter(cfg.Limits.Connections) {
		l.stats.full.Add(1)
		l.warnLimit(cfg, "limits.connections")
		turnAway(sock, cfg, "too many connections, try again later")
		return
	}
	k := &link{l: l, cfg: cfg, sock: sock, peer: rawConn(sock), started: time.Now(), begun: cfg.Now()}
	k.in = newInput(sock)
	k.f.client = addrPort(sock.RemoteAddr())
	l.mu.Lock()
	if l.empty == nil || len(l.links) > 0 {
		l.links[k] = struct{}{}
		l.mu.Unlock()
		l.spawn(k.introduce)
		return
	}
	// Drain has seen the last connection go.
	l.mu.Unlock()
	l.census.leave()
	turnAway(sock, cfg, "shutting down, try again later")
}

// warnPause keeps a flood of connections from becoming a flood of lines.
const warnPause = time.Minute

// warnLimit logs that connections are being turned away.
func (l *Listener) warnLimit(cfg *Config, limit string) {
	now := cfg.Now().UnixNano()
	last := l.lastWarn.Load()
	if last != 0 && now-last < int64(warnPause) || !l.lastWarn.CompareAndSwap(last, now) {
		return
	}
	st := l.Stats()
	cfg.Log.Warn("turned_away", "limit", limit, "open", st.Open, "refused_full", st.Full, "refused_per_ip", st.Crowded, "refused_rate", st.Hasty)
}

// turnAway says why, where that can be said without a handshake, and closes. The send buffer of a new socket is empty: the write does not block.
func turnAway(sock net.Conn, cfg *Config, why string) {
	if !cfg.ImplicitTLS && sock.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		r := Reply{Code: 421, Enhanced: "4.3.2", Text: cfg.Hostname + " " + why}
		// It is gone in either case.
		_, _ = sock.Write([]byte(r.String() + "\r\n"))
	}
	_ = sock.Close()
}

// forget drops a link that is over.
func (l *Listener) forget(k *link) {
	l.mu.Lock()
	_, known := l.links[k]
	delete(l.links, k)
	if known && len(l.links) == 0 && l.empty != nil {
		close(l.empty)
	}
	l.mu.Unlock()
	if !known {
		return
	}
	l.census.leave()
	k.mu.Lock()
	counted := k.counted
	k.counted = netip.Addr{}
	k.mu.Unlock()
	if counted.IsValid() {
		l.census.leaveFrom(counted)
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
