package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"postern/filters/dns"
)

// A monitor answers, over HTTP, those who watch the server: /metrics for Prometheus, /healthz (the process serves) and
// /readyz (mail can be judged and handed on). It asks for no password: it belongs on the loopback or on a network of
// one's own. Profiles (/debug/pprof/) only the machine itself gets, and only if the configuration says so.
type monitor struct {
	listener net.Listener
	http     *http.Server
	draining atomic.Bool
}

// What one who asks may take.
const (
	monitorConnections = 32
	monitorRequests    = 4 // of /metrics at once
	monitorHeader      = 8 << 10
	monitorTimeout     = 10 * time.Second
	monitorIdle        = 2 * time.Minute // longer than Prometheus waits between two scrapes
	monitorFarewell    = time.Second     // for requests under way at the end
)

// listenMonitor binds the address of the configuration; without one there is no monitor, which is nil.
func (s *Server) listenMonitor() error {
	address := s.runtime.Load().Config.Metrics.Listen
	if address == "" {
		return nil
	}
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s (metrics): %w", address, listenCause(err))
	}
	s.monitor = &monitor{listener: netutil.LimitListener(inner, monitorConnections)}
	s.monitor.http = &http.Server{
		Handler:        s.monitorHandler(),
		ReadTimeout:    monitorTimeout,
		WriteTimeout:   monitorTimeout,
		IdleTimeout:    monitorIdle,
		MaxHeaderBytes: monitorHeader,
		ErrorLog:       log.New(monitorLog{s.log}, "", 0),
	}
	return nil
}

// monitorLog turns what net/http logs into lines of ours. Much of it is about what strangers send.
type monitorLog struct{ log *slog.Logger }

func (w monitorLog) Write(p []byte) (int, error) {
	w.log.Debug("metrics_server", "error", Foreign(strings.TrimSpace(string(p))))
	return len(p), nil
}

func (s *Server) monitorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: monitorRequests}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, nil, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		why, beside := s.ready(r.URL.Query()["exclude"])
		say(w, why, beside)
	})
	if s.runtime.Load().Config.Metrics.Pprof {
		mux.Handle("GET /debug/pprof/", fromHere(profiles()))
	}
	return mux
}

// profiles is what package pprof serves, without the default mux that others may add to.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// fromHere answers this machine alone: a profile costs time, and shows what the program does.
func fromHere(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !peer.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are for this machine alone: ask from it, over the loopback address", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// say answers "ok", and below it what is wrong all the same; or 503 and why.
func say(w http.ResponseWriter, why, beside error) {
	text := "ok"
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch {
	case why != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
		text = why.Error()
	case beside != nil:
		text += "\n" + beside.Error()
	}
	// One who is gone needs no answer.
	_, _ = io.WriteString(w, text+"\n")
}

// ready says why mail should not be sent here: the server is being stopped, all upstreams are out of use, or no DNS server
// answers, so that mail would go by half judged. beside is what is wrong without that: other upstreams, lists that are
// parked, and what the one who asks excludes by the words upstream and resolver.
func (s *Server) ready(excluded []string) (why, beside error) {
	if s.monitor.draining.Load() {
		return errors.New("draining: no connection is accepted any more"), nil
	}
	rt := s.runtime.Load()
	var grave, light []error
	note := func(part string, err error) {
		if err == nil {
			return
		}
		if part == "" || slices.Contains(excluded, part) {
			light = append(light, err)
		} else {
			grave = append(grave, err)
		}
	}
	if all, wrong := rt.unreached(); all {
		note("upstream", wrong)
	} else {
		note("", wrong)
	}
	if r, ok := rt.resolver.(*dns.Resolver); ok {
		note("resolver", r.State())
	}
	states := rt.pipeline.ListStates(time.Now())
	for _, zone := range slices.Sorted(maps.Keys(states)) {
		if states[zone] != "" {
			note("", fmt.Errorf("list %s is parked: %s", zone, states[zone]))
		}
	}
	return errors.Join(grave...), errors.Join(light...)
}

// unreached names the upstreams that are out of use; all says that there is no other one.
func (rt *Runtime) unreached() (all bool, err error) {
	reached := rt.reached()
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(reached)) {
		if err := reached[name]; err != nil {
			wrong = append(wrong, fmt.Errorf("upstream %s: %w", name, err))
		}
	}
	return len(wrong) == len(reached), errors.Join(wrong...)
}

// errNotAsked is the state of an upstream before its first probe is over.
var errNotAsked = errors.New("not asked yet")

// reached gives, for each upstream by its name, why it is out of use; nil if it is not.
func (rt *Runtime) reached() map[string]error {
	all := make(map[string]error, len(rt.next))
	for _, n := range rt.next {
		wrong := n.health.state()
		if before, twice := all[n.label()]; !twice || before != nil {
			all[n.label()] = wrong
		}
	}
	return all
}

// serveMonitor answers until stop.
func (s *Server) serveMonitor() {
	if s.monitor == nil {
		return
	}
	m := s.monitor
	s.log.Info("metrics_listening", "address", m.addr())
	s.wg.Go(func() {
		if err := m.http.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("listener_failed", "address", m.addr(), "error", err.Error())
		}
	})
}

func (m *monitor) addr() string { return m.listener.Addr().String() }

// drain has /readyz tell that the server is being stopped.
func (m *monitor) drain() {
	if m != nil {
		m.draining.Store(true)
	}
}

// stop ends the service, and the requests under way that take too long. A monitor that never served is only unbound.
func (m *monitor) stop() {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), monitorFarewell)
	defer cancel()
	if m.http.Shutdown(ctx) != nil {
		_ = m.http.Close() // their connections are cut: its errors are theirs
	}
	// Serve has closed it, if it was called.
	_ = m.listener.Close()
}
