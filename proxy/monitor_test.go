package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"postern/filters/dns"
	"postern/proxy/peertest"
)

var discard = slog.New(slog.DiscardHandler)

const monitored = "metrics: {listen: '127.0.0.1:0'}\n"

// A watcher asks a monitor, over one connection that it keeps.
type watcher struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func watch(t *testing.T, p *testProxy) *watcher {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.server.monitor.addr(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &watcher{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (w *watcher) ask(request string) (int, string) {
	w.t.Helper()
	if _, err := io.WriteString(w.conn, request+" HTTP/1.1\r\nHost: postern\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (w *watcher) want(request string, code int, text string) {
	w.t.Helper()
	if got, body := w.ask(request); got != code || !strings.Contains(body, text) {
		w.t.Errorf("%s: %d, expected %d and %q in\n%s", request, got, code, text, body)
	}
}

func startMonitored(t *testing.T, upstream string) *testProxy {
	t.Helper()
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", upstream)+monitored, withoutPacks)
	// The banner is not sent before the upstreams were asked for the first time.
	peertest.Dial(t, p.addr).Expect(220)
	return p
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	w := watch(t, p)
	w.want("GET /healthz", 200, "ok\n")
	w.want("GET /readyz", 200, "ok\n")
	w.want("GET /metrics", 200, "\npostern_messages_total{action=\"accept\"} 0\n")
	w.want("GET /metrics", 200, "\ngo_goroutines ")
	w.want("POST /metrics", 405, "")
	w.want("GET /", 404, "")
	w.want("GET /debug/pprof/", 404, "")
}

// Ready is who can hand mail on: not while no upstream answers, and again when one does.
func TestReadiness(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	w, rt := watch(t, p), p.server.runtime.Load()
	sink.Stop()
	w.want("GET /readyz", 200, "ok") // as far as is known
	for range rt.Config.Health.Fails {
		w.want("GET /readyz", 200, "ok")
		rt.probe(t.Context())
	}
	w.want("GET /readyz", 503, "upstream "+rt.fallback.name+": ")
	w.want("GET /healthz", 200, "ok")
	w.want("GET /metrics", 200, `postern_upstream_up{upstream="`+rt.fallback.name+`"} 0`)
	sink.Start()
	rt.probe(t.Context())
	w.want("GET /readyz", 200, "ok")
	w.want("GET /metrics", 200, `postern_upstream_up{upstream="`+rt.fallback.name+`"} 1`)
}

// Of several upstreams one is enough.
func TestReadyWithOneOfTwo(t *testing.T) {
	t.Parallel()
	gone, there := peertest.StartSink(t, sinkFor()), peertest.StartSink(t, sinkFor())
	gone.Stop()
	p := startMonitored(t, "smtp://"+gone.Addr+"\n  - address: smtp://"+there.Addr)
	watch(t, p).want("GET /readyz", 200, "ok\nupstream "+gone.Addr+": ")
}

// Without DNS mail would be half judged: another Postern may have a resolver that answers. One who has no other can say so.
func TestNotReadyWithoutResolver(t *testing.T) {
	t.Parallel()
	names := peertest.StartNames(t, "$TTL 60\nmx.example.org. A 192.0.2.25\n")
	sink := peertest.StartSink(t, sinkFor())
	p := startTestProxy(t, fmt.Sprintf(baseConfig, names.Addr(), "", "smtp://"+sink.Addr)+monitored, withoutPacks)
	peertest.Dial(t, p.addr).Expect(220)
	w, rt := watch(t, p), p.server.runtime.Load()
	resolver := rt.resolver.(*dns.Resolver)
	if err := resolver.Test(t.Context(), rt.Config.Hostname); err != nil {
		t.Fatal(err)
	}
	w.want("GET /readyz", 200, "ok\n")
	w.want("GET /metrics", 200, "\npostern_dns_up 1\n")
	if err := names.Close(); err != nil {
		t.Fatal(err)
	}
	if err := resolver.Test(t.Context(), rt.Config.Hostname); err == nil {
		t.Fatal("a server that is gone answers")
	}
	w.want("GET /readyz", 503, "no DNS server answers: ")
	w.want("GET /readyz?exclude=resolver", 200, "ok\nno DNS server answers: ")
	w.want("GET /readyz?exclude=upstream", 503, "no DNS server answers: ")
	w.want("GET /healthz", 200, "ok")
	w.want("GET /metrics", 200, "\npostern_dns_up 0\n")
}

// A list that is parked is told, and keeps no mail away.
func TestReadyBesideAParkedList(t *testing.T) {
	t.Parallel()
	names := peertest.StartNames(t, "$TTL 60\n*.everything.example. A 127.0.0.2\n2.0.0.127.sound.example. A 127.0.0.2\n")
	sink := peertest.StartSink(t, sinkFor())
	p := startTestProxy(t, fmt.Sprintf(baseConfig, names.Addr(), "", "smtp://"+sink.Addr)+monitored+
		"filters: {dnsbl: {lists: [{zone: everything.example, score: 6}, {zone: sound.example, score: 6}]}}\n", withoutPacks)
	waitFor(t, "the tests of the lists", func() bool { return len(p.events("dnsbl_parked")) == 1 })
	w := watch(t, p)
	w.want("GET /readyz", 200, "ok\nlist everything.example is parked: it lists 127.0.0.1, and so everything\n")
	w.want("GET /metrics", 200, "\npostern_dnsbl_parked{zone=\"everything.example\"} 1\npostern_dnsbl_parked{zone=\"sound.example\"} 0\n")
}

// Profiles are for those who have configured them, and for the machine itself.
func TestProfiles(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		"metrics: {listen: '127.0.0.1:0', pprof: true}\n", withoutPacks)
	w := watch(t, p)
	w.want("GET /debug/pprof/", 200, "goroutine")
	w.want("GET /debug/pprof/goroutine?debug=1", 200, "goroutine profile:")
	w.want("GET /debug/pprof/cmdline", 404, "")
	w.want("POST /debug/pprof/symbol", 405, "")
	for peer, code := range map[string]int{"127.0.0.1:4711": 200, "[::1]:4711": 200, "192.0.2.7:4711": 403, "": 403} {
		r := httptest.NewRequest("GET", "/debug/pprof/", nil)
		r.RemoteAddr = peer
		answer := httptest.NewRecorder()
		p.server.monitorHandler().ServeHTTP(answer, r)
		if answer.Code != code {
			t.Errorf("%q: %d, expected %d", peer, answer.Code, code)
		}
	}
}

// While the last transactions end, a watcher is told so, and can still see them.
func TestNotReadyWhileDraining(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	client := hello(t, p.addr)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("DATA", 354)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.stop()
	}()
	waitFor(t, "the drain", func() bool { return p.server.monitor.draining.Load() })
	w := watch(t, p)
	w.want("GET /readyz", 503, "draining")
	w.want("GET /healthz", 200, "ok")
	w.want("GET /metrics", 200, "postern_connections_open")
	client.Data(shortMessage)
	client.Expect(250)
	<-stopped
	if _, err := w.r.ReadByte(); err != io.EOF {
		t.Errorf("a connection that was kept ended with %v, expected its orderly end", err)
	}
	if conn, err := net.Dial("tcp", p.server.monitor.addr()); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
}

// One who begins a request and never ends it does not hold up the end.
func TestMonitorEndsBesideAHalfRequest(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	w := watch(t, p)
	w.want("GET /healthz", 200, "ok") // it is being served
	if _, err := io.WriteString(w.conn, "GET /metrics HTTP/1.1\r\nHost: pos"); err != nil {
		t.Fatal(err)
	}
	p.stop()
	if _, err := io.Copy(io.Discard, w.conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection lives on: %v", err)
	}
}

// An address in use is an error at the start, and nothing stays bound.
func TestMonitorAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mail := free.Addr().String()
	free.Close()
	s := newTestServer(t, "hostname: mx.example.org\ndomains: [example.org]\nupstream: [{address: smtp://192.0.2.25}]\n"+
		"listen: [{address: '"+mail+"'}]\nmetrics: {listen: '"+taken.Addr().String()+"'}\n")
	want := "cannot listen on " + taken.Addr().String() + " (metrics): bind: address already in use"
	if err := s.Listen(); err == nil || err.Error() != want {
		t.Fatalf("got %v, expected %s", err, want)
	}
	again, err := net.Listen("tcp", mail)
	if err != nil {
		t.Fatalf("the listener for mail stayed bound: %v", err)
	}
	again.Close()
}

// A server that was bound and never served gives the address back.
func TestMonitorOfAServerThatNeverServed(t *testing.T) {
	s := newTestServer(t, strings.Replace(minimalConfig, ":2525", "127.0.0.1:0", 1)+monitored)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	address := s.monitor.addr()
	s.Close()
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestNoMonitorUnlessConfigured(t *testing.T) {
	s := newTestServer(t, strings.Replace(minimalConfig, ":2525", "127.0.0.1:0", 1))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if s.monitor != nil {
		t.Errorf("it listens on %s", s.monitor.addr())
	}
}

// Reloads are counted, the failed ones too.
func TestReloadsAreCounted(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	cfg := *p.server.runtime.Load().Config
	rt, err := NewRuntime(t.Context(), &cfg, RuntimeOptions{Resolver: dns.Offline(), NoTests: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Reload(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	p.server.ReloadFailed(io.ErrUnexpectedEOF)
	p.server.ReloadFailed(io.ErrUnexpectedEOF)
	expect(t, p.server, map[string]float64{`postern_reloads_total{result="ok"}`: 1, `postern_reloads_total{result="failed"}`: 2})
	if lines := p.events("reload_failed"); len(lines) != 2 || !strings.Contains(lines[0], "unexpected EOF") {
		t.Errorf("logged: %q", lines)
	}
	watch(t, p).want("GET /readyz", 200, "ok")
}
