package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"postern/proxy/wire"
)

// Inherited is a listening socket that the process was started with.
type Inherited struct {
	Name     string // as systemd's FileDescriptorName= has it; may be empty
	Listener net.Listener
}

// listeners are the sockets for mail: those that are bound, those that a reload took out of the configuration but which
// have connections still, and those that were inherited and are not in use.
type listeners struct {
	mu      sync.Mutex
	bound   []*boundListener
	retired []*boundListener
	past    wire.Stats // of those that are gone
	spare   []Inherited
	serving bool
	closed  bool // no more are bound
}

type boundListener struct {
	config    Listen
	inner     net.Listener
	inherited *Inherited // nil: it was bound here
	wire      *wire.Listener
}

func (b *boundListener) addr() string { return b.inner.Addr().String() }

// bind gives a socket for an address of the configuration: one that was inherited, else a new one.
func (ls *listeners) bind(l Listen) (*boundListener, error) {
	i := slices.IndexFunc(ls.spare, func(in Inherited) bool { return l.Socket != "" && in.Name == l.Socket })
	if i < 0 && l.Socket == "" {
		i = slices.IndexFunc(ls.spare, func(in Inherited) bool { return sameAddress(in.Listener.Addr(), l.Address) })
	}
	if i >= 0 {
		in := ls.spare[i]
		ls.spare = slices.Delete(ls.spare, i, i+1)
		return &boundListener{config: l, inner: in.Listener, inherited: &in}, nil
	}
	inner, err := listenConfig.Listen(context.Background(), "tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w%s", l.Address, listenCause(err), ls.inTheWay(l, err))
	}
	return &boundListener{config: l, inner: inner}, nil
}

// listenConfig leaves TCP's own keep-alive off, which takes four system calls a connection: every wait for a client has a limit
// of its own, and that of the session bounds them all.
var listenConfig = net.ListenConfig{KeepAlive: -1}

// inTheWay names a listener in use that keeps a new one from being bound.
func (ls *listeners) inTheWay(l Listen, err error) string {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ""
	}
	host, port, _ := net.SplitHostPort(l.Address)
	for _, b := range ls.bound {
		theirs, theirPort, err := net.SplitHostPort(b.addr())
		if err == nil && port == theirPort && (overlap(host, theirs) || overlap(theirs, host)) {
			return fmt.Sprintf(" (by the listener %s, which serves until a restart)", b.config.Address)
		}
	}
	return ""
}

// sameAddress reports whether a socket is bound to what an address of the configuration asks for: :25, 0.0.0.0:25 and
// [::]:25 are one.
func sameAddress(bound net.Addr, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	theirs, theirPort, err := net.SplitHostPort(bound.String())
	if err != nil || port != theirPort {
		return false
	}
	if isWildcard(host) || isWildcard(theirs) {
		return isWildcard(host) && isWildcard(theirs)
	}
	return slices.ContainsFunc(hostAddrs(theirs), func(ip netip.Addr) bool { return slices.Contains(hostAddrs(host), ip) })
}

// listenCause is the system's reason without the address, which the message names.
func listenCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Listen binds all listeners, or none.
func (s *Server) Listen() error {
	s.sockets.mu.Lock()
	s.sockets.spare = s.Inherited
	s.sockets.mu.Unlock()
	next, err := s.prepare(s.runtime.Load())
	if err == nil {
		s.install(next)
		err = s.listenMonitor()
	}
	if err != nil {
		s.unbind()
		return err
	}
	for _, in := range s.sockets.spare {
		s.log.Warn("socket_unused", "name", in.Name, "address", in.Listener.Addr().String(),
			"note", "the service was started with this socket, and no listener has its address or name")
	}
	return nil
}

// A changeover is a set of listeners that can take the place of those in use.
type changeover struct {
	all     []*boundListener
	configs []wire.Config
	fresh   []*boundListener // of all, those that were bound for it
}

// prepare binds what a runtime's configuration asks for and is not bound yet. Nothing of what serves is touched.
func (s *Server) prepare(rt *Runtime) (*changeover, error) {
	ls := &s.sockets
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return nil, errors.New("the server is being stopped")
	}
	next, kept := &changeover{}, slices.Clone(ls.bound)
	for _, l := range rt.Config.Listen {
		cfg, err := s.wireConfig(rt, l)
		if err != nil {
			next.discard(ls)
			return nil, fmt.Errorf("listen %s: %w", l.Address, err)
		}
		var b *boundListener
		i := slices.IndexFunc(kept, func(k *boundListener) bool { return k.config.Address == l.Address && k.config.Socket == l.Socket })
		if i >= 0 {
			b = kept[i]
			kept = slices.Delete(kept, i, i+1)
		} else {
			if b, err = ls.bind(l); err != nil {
				next.discard(ls)
				return nil, err
			}
			b.wire = wire.NewListener(b.inner, cfg)
			next.fresh = append(next.fresh, b)
		}
		next.all, next.configs = append(next.all, b), append(next.configs, cfg)
	}
	return next, nil
}

// discard gives back what was bound.
func (c *changeover) discard(ls *listeners) {
	for _, b := range c.fresh {
		if b.inherited != nil {
			ls.spare = append(ls.spare, *b.inherited)
			continue
		}
		b.wire.Close()
	}
}

// install puts listeners in the place of those in use. Clients of one that is closed are served to their end.
func (s *Server) install(next *changeover) {
	ls := &s.sockets
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		next.discard(ls)
		return
	}
	for i, b := range next.all {
		b.wire.SetConfig(next.configs[i])
	}
	ls.retired = slices.DeleteFunc(ls.retired, func(b *boundListener) bool {
		st := b.wire.Stats()
		if st.Open > 0 {
			return false
		}
		addStats(&ls.past, st)
		b.wire.Close()
		return true
	})
	for _, old := range ls.bound {
		if !slices.Contains(next.all, old) {
			if err := old.wire.Retire(); err != nil {
				s.log.Warn("listener_failed", "address", old.addr(), "error", err.Error())
			}
			ls.retired = append(ls.retired, old)
			s.log.Info("listener_closed", "address", old.addr())
		}
	}
	ls.bound = next.all
	if ls.serving {
		for _, b := range next.fresh {
			s.serveListener(b)
		}
	}
}

// serveAll begins to answer clients.
func (s *Server) serveAll() {
	ls := &s.sockets
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.serving = true
	for _, b := range ls.bound {
		s.serveListener(b)
	}
}

// serveListener answers its clients until it is closed.
func (s *Server) serveListener(b *boundListener) {
	rt := s.runtime.Load()
	s.log.Info("listening", "address", b.addr(), "upstream", rt.fallback.name, "observe", rt.Config.Observe)
	s.wg.Go(func() {
		if err := s.smtp.Serve(b.wire); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			s.log.Error("listener_failed", "address", b.addr(), "error", err.Error())
		}
	})
}

// end closes the door for new listeners and gives all that have or may have connections.
func (ls *listeners) end() []*boundListener {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	for _, in := range ls.spare {
		in.Listener.Close()
	}
	ls.spare = nil
	return append(slices.Clone(ls.bound), ls.retired...)
}

func (s *Server) unbind() {
	for _, b := range s.sockets.end() {
		b.wire.Close()
	}
	s.monitor.stop()
}

// Addrs are the bound addresses, in the order of the configuration.
func (s *Server) Addrs() []string {
	ls := &s.sockets
	ls.mu.Lock()
	defer ls.mu.Unlock()
	addrs := make([]string, len(ls.bound))
	for i, b := range ls.bound {
		addrs[i] = b.addr()
	}
	return addrs
}

func addStats(sum *wire.Stats, st wire.Stats) {
	sum.Open += st.Open
	sum.Accepted += st.Accepted
	sum.Full += st.Full
	sum.Crowded += st.Crowded
	sum.Hasty += st.Hasty
	sum.BadProxy += st.BadProxy
	sum.BadTLS += st.BadTLS
	sum.EarlyTalked += st.EarlyTalked
}

// wireStats sums up the listeners, those included that are gone.
func (s *Server) wireStats() wire.Stats {
	ls := &s.sockets
	ls.mu.Lock()
	defer ls.mu.Unlock()
	sum := ls.past
	for _, b := range append(slices.Clone(ls.bound), ls.retired...) {
		addStats(&sum, b.wire.Stats())
	}
	return sum
}
