package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/proxy"
	"postern/proxy/peertest"
)

// Attacks on the built command as a process of its own, so that what it uses is what it would use on a server. The short forms run
// always, the long ones with POSTERN_FULL=1: go test -run Attack -v ./cmd/postern

// full reports whether the long forms of tests are asked for.
func full() bool { return os.Getenv("POSTERN_FULL") == "1" }

// builtFolder is where builtBinary stands; it is removed when the tests are over. "" for nowhere yet.
var builtFolder string

// builtBinary is the command as its users have it, without the race detector, whose memory is not theirs.
var builtBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "postern-built-")
	if err != nil {
		return "", err
	}
	builtFolder = dir
	path := filepath.Join(dir, "postern")
	if out, err := exec.Command("go", "build", "-race=false", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// A fortress is the built command as a process of its own, in front of a sink, with a load generator and a stub for its DNS.
type fortress struct {
	t       *testing.T
	config  *proxy.Config
	process *exec.Cmd
	dir     string
	addr    string
	metrics string
	sink    *benchSink
	load    *benchLoad
	next    int64 // the number of the next honest message
}

// A garrison is what one fortress has that another has not.
type garrison struct {
	listen string // keys of the listener
	more   string // keys of the configuration
	limits string
}

// byProxy has clients named by PROXY headers, so that each can have an address of its own.
const byProxy = "proxy_protocol: [127.0.0.0/8]"

const fortressConfig = `
hostname: mx.bench.example
domains: [bench.example, example.org]
listen: [{address: "%[1]s", %[5]s}]
upstream: [{address: "smtp://%[2]s", client_info: none}]
dns: {servers: ["%[3]s"]}
filters: {dnsbl: {lists: [{zone: a.bl.example}, {zone: b.bl.example}, {zone: c.bl.example}]}}
metrics: {listen: "%[4]s"}
log: {output: postern.log}
limits: {%[6]s}
%[7]s
`

// freeAddr is an address on which nobody listens at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func raise(t *testing.T, g garrison) *fortress {
	t.Helper()
	binary, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	mail, names := benchNames(t)
	f := &fortress{t: t, dir: t.TempDir()}
	if f.sink, err = startBenchSink(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.sink.close)
	for range 10 { // another program may take a free address before it is used
		f.addr, f.metrics = freeAddr(t), freeAddr(t)
		if f.serve(binary, fmt.Sprintf(fortressConfig, f.addr, f.sink.addr(), names.Addr(), f.metrics, g.listen, g.limits, g.more)) {
			break
		}
	}
	f.load = &benchLoad{addr: f.addr, mail: mail, connections: 8, proxied: g.listen == byProxy}
	return f
}

// serve starts the process and waits until it is ready; false if it ended instead.
func (f *fortress) serve(binary, config string) bool {
	f.t.Helper()
	path := filepath.Join(f.dir, "postern.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		f.t.Fatal(err)
	}
	var err error
	if f.config, err = proxy.LoadConfig(path); err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "-config", path)
	cmd.Dir, cmd.Stderr = f.dir, os.Stderr
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // a process that is killed has an error
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		select {
		case <-ended:
			return false
		default:
		}
		if _, err := f.gauge("postern_connections_open"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			stop()
			f.t.Fatal("the proxy is not ready")
		}
	}
	f.process = cmd
	f.t.Cleanup(stop)
	return true
}

// gauge asks the process for the sum of a metric.
func (f *fortress) gauge(name string) (float64, error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + f.metrics + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// awaitGauge waits until a metric is as wanted.
func (f *fortress) awaitGauge(name string, fits func(float64) bool) {
	f.t.Helper()
	last := 0.0
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		v, err := f.gauge(name)
		if err == nil && fits(v) {
			return
		}
		last = v
	}
	f.t.Fatalf("%s stays at %g", name, last)
}

// awaitQuiet waits until no more goroutines are left than there were before, but for a few of Go's own, which come and go, and one
// for each connection to the sink, some of which are kept for the next message.
func (f *fortress) awaitQuiet(before float64) {
	f.t.Helper()
	f.awaitGauge("go_goroutines", func(v float64) bool {
		f.sink.mu.Lock()
		defer f.sink.mu.Unlock()
		return v <= before+10+float64(len(f.sink.conns))
	})
}

// memory gives what the process has in memory now, and had at most.
func (f *fortress) memory() (now, peak int64) {
	f.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.process.Process.Pid))
	if err != nil {
		f.t.Fatal(err)
	}
	return statusBytes(string(status), "VmRSS:"), statusBytes(string(status), "VmHWM:")
}

// honest sends good mail for so long, and gives how many a second were delivered. None may be refused or lost.
func (f *fortress) honest(ctx context.Context, d time.Duration, count int64) float64 {
	f.t.Helper()
	f.load.duration, f.load.count = d, count
	out, err := f.load.run(ctx, f.next, func(int64) {})
	if err != nil {
		f.t.Fatal(err)
	}
	f.next += 1 << 20
	if len(out.refused) > 0 || len(out.failed) > 0 || out.delivered == 0 {
		f.t.Errorf("of good mail %d were delivered, refused %v, failed %v", out.delivered, out.refused, out.failed)
	}
	return float64(out.delivered) / out.took.Seconds()
}

// stranger is the address of attacker n: twenty connections from each, a hundred from each /24, as the limits allow.
func stranger(n int) string {
	return fmt.Sprintf("45.%d.%d.%d", n/25600, n/100%256, n/20%5+1)
}

// A swarm is connections that attackers hold open.
type swarm struct {
	idle, slow []net.Conn
	stop       context.CancelFunc
	work       sync.WaitGroup
}

// besiege opens idle connections, half of them before and half of them after EHLO, and slow ones, which are in the middle of a
// message of which a byte comes every second.
func (f *fortress) besiege(idle, slow int) *swarm {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &swarm{stop: cancel, idle: make([]net.Conn, idle), slow: make([]net.Conn, slow)}
	var work sync.WaitGroup
	next := make(chan int)
	for range 32 {
		work.Go(func() {
			for n := range next {
				var err error
				switch {
				case n < idle/2:
					s.idle[n], err = f.connect(n)
				case n < idle:
					s.idle[n], err = f.connect(n, "EHLO idle.attack.example")
				default:
					s.slow[n-idle], err = f.connect(n, "EHLO slow.attack.example", "MAIL FROM:<carol@good.example>", "RCPT TO:<alice@example.org>", "DATA")
				}
				if err != nil {
					f.t.Errorf("attacker %d: %v", n, err)
				}
			}
		})
	}
	for n := range idle + slow {
		next <- n
	}
	close(next)
	work.Wait()
	s.work.Go(func() { s.dribble(ctx) })
	return s
}

// connect opens a connection as an attacker and goes through the steps.
func (f *fortress) connect(n int, steps ...string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", f.addr, patience)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return conn, err
	}
	if _, err := fmt.Fprintf(conn, "PROXY TCP4 %s 127.0.0.1 30000 25\r\n", stranger(n)); err != nil {
		return conn, err
	}
	in := bufio.NewReaderSize(conn, 512)
	for _, step := range append([]string{""}, steps...) {
		if step != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", step); err != nil {
				return conn, err
			}
		}
		for last := false; !last; {
			line, err := in.ReadString('\n')
			if err != nil {
				return conn, fmt.Errorf("after %q: %w", step, err)
			}
			if line[0] != '2' && line[0] != '3' {
				return conn, fmt.Errorf("after %q: %s", step, strings.TrimSpace(line))
			}
			last = len(line) > 3 && line[3] == ' '
		}
	}
	return conn, conn.SetDeadline(time.Time{})
}

// dribble sends a byte a second on each slow connection.
func (s *swarm) dribble(ctx context.Context) {
	text := []byte("X-Slow: and there is more to come\r\n")
	tick := time.NewTicker(time.Second / 20)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := n % 20; i < len(s.slow); i += 20 { // a twentieth of them each time, lest they all come at once
			if c := s.slow[i]; c != nil {
				at := n / 20 % len(text)
				_, _ = c.Write(text[at : at+1]) // one that is gone is found when they are counted
			}
		}
	}
}

func (s *swarm) leave() {
	s.stop()
	s.work.Wait()
	for _, c := range append(s.idle, s.slow...) {
		if c != nil {
			c.Close()
		}
	}
}

// TestAttack: thousands of connections that idle or send a byte a second take neither more memory than the limits say, nor, in the
// full form, more than a fifth of the rate of good mail; and when they have gone nothing of them is left.
func TestAttack(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is known on Linux only")
	}
	idle, slow, rounds, phase, count := 300, 100, 1, time.Duration(0), int64(100)
	if full() {
		idle, slow, rounds, phase, count = 10_000, 2_000, 4, 6*time.Second, 0
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(idle+2*slow+500) {
		t.Fatalf("%d open files are allowed, %d are needed", files.Cur, idle+2*slow+500)
	}
	connections := idle + slow + 100
	f := raise(t, garrison{listen: byProxy, limits: fmt.Sprintf("connections: %d, connections_per_minute: 1000000, messages_per_minute: 1000000, banner_wait: 0s", connections)})
	f.honest(t.Context(), 0, 200) // so that caches are warm
	before, err := f.gauge("go_goroutines")
	if err != nil {
		t.Fatal(err)
	}
	start, _ := f.memory()

	free := f.honest(t.Context(), phase, count)
	best := 0.0
	for round := range rounds {
		s := f.besiege(idle, slow)
		open, err := f.gauge("postern_connections_open")
		if err != nil || open < float64(idle+slow) {
			t.Errorf("%g connections are open, expected %d, %v", open, idle+slow, err)
		}
		under := f.honest(t.Context(), phase, count)
		if open, err = f.gauge("postern_connections_open"); err != nil || open < float64(idle+slow) {
			t.Errorf("%g connections are left, expected %d, %v", open, idle+slow, err)
		}
		now, _ := f.memory()
		s.leave()
		f.awaitGauge("postern_connections_open", func(v float64) bool { return v == 0 })
		after := f.honest(t.Context(), phase, count)
		ratio := under / ((free + after) / 2)
		best = max(best, ratio)
		t.Logf("round %d: %d idle, %d slow: good mail %.0f/s, without them %.0f/s before and %.0f/s after: %.0f %%; memory %d MiB",
			round+1, idle, slow, under, free, after, 100*ratio, now>>20)
		free = after
	}
	if full() && best < 0.8 {
		t.Errorf("good mail goes on at %.0f %% of its rate at best, expected 80", 100*best)
	}
	f.awaitQuiet(before)
	f.wantBound(start)
}

// wantBound holds the process to the memory that its limits allow.
func (f *fortress) wantBound(start int64) {
	f.t.Helper()
	_, peak := f.memory()
	bound := f.config.MemoryBound()
	f.t.Logf("memory: %d MiB at first, %d MiB at most, %d MiB allowed with %d connections", start>>20, peak>>20, bound>>20, f.config.Limits.Connections)
	if peak > bound {
		f.t.Errorf("%d MiB were used, at most %d are expected with these limits", peak>>20, bound>>20)
	}
}

// attackEnd finds who a session was with, and why it ended.
var attackEnd = regexp.MustCompile(` event=session .* reason=("[^"]*"|\S+) .* helo="([^"]*)"`)

// attackRefused finds the line of a message that was not taken: refused or deferred by such a code, or given up by its client before a reply.
var attackRefused = regexp.MustCompile(` action=(?:(?:reject|defer) .* code=[45]\d\d |abort .* code=0 )`)

// TestAttackKinds: whatever a client does without end, many of them at once, is ended by the server; the memory stays within what the
// limits allow, nothing is left, and good mail is taken afterwards.
func TestAttackKinds(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory of another process is known on Linux only")
	}
	t.Parallel()
	copies := 3
	if full() {
		copies = 40
	}
	for _, timed := range []bool{false, true} {
		t.Run(fmt.Sprintf("timed=%v", timed), func(t *testing.T) {
			t.Parallel()
			cert := peertest.NewCert(t, "mx.bench.example")
			g := garrison{
				listen: fmt.Sprintf("tls: {cert: %q, key: %q}", cert.CertFile, cert.KeyFile),
				more:   "networks: {trusted: [127.0.0.0/8]}",
				limits: "connections: 2000, message: 1MiB, commands: 500",
			}
			if timed {
				g.limits = "connections: 2000, idle: 4s, session: 10s, handshake: 4s"
			}
			f := raise(t, g)
			f.load.connections = 1
			f.honest(t.Context(), 0, 20)
			before, err := f.gauge("go_goroutines")
			if err != nil {
				t.Fatal(err)
			}
			start, _ := f.memory()
			want := f.storm(timed, copies)
			f.awaitQuiet(before)
			f.checkEnds(want)
			f.wantBound(start)
			f.honest(t.Context(), 0, 20)
		})
	}
}

// storm runs many copies of each attack at once, until the server has ended them all. It gives how many sessions of each there are to be.
func (f *fortress) storm(timed bool, copies int) map[string]int {
	var work sync.WaitGroup
	want := make(map[string]int)
	deaf := make(chan io.Closer, 1000)
	var first sync.Map // what attacks of one kind heard last
	for _, a := range peertest.Attacks() {
		if a.Timed != timed {
			continue
		}
		want[a.Host()] = copies
		for range copies {
			work.Go(func() {
				out := a.Run(f.addr)
				if out.Err != nil {
					f.t.Errorf("%s: %v", a.Name, out.Err)
				}
				if out.Open != nil {
					deaf <- out.Open
				} else if out.Last != "" && !regexp.MustCompile(a.Reply).MatchString(out.Last) {
					f.t.Errorf("%s: the last line heard is %q, expected %s", a.Name, out.Last, a.Reply)
				} else if _, told := first.LoadOrStore(a.Name, true); !told {
					f.t.Logf("%-24s ended after %9d octets: %s", a.Name, out.Sent, out.Last)
				}
			})
		}
	}
	work.Wait()
	f.awaitGauge("postern_connections_open", func(v float64) bool { return v == 0 })
	close(deaf)
	for c := range deaf {
		c.Close()
	}
	return want
}

// checkEnds wants that each attack was ended for the reason that is meant for it, and that nothing of it was delivered.
func (f *fortress) checkEnds(want map[string]int) {
	f.t.Helper()
	reasons := make(map[string]*regexp.Regexp)
	for _, a := range peertest.Attacks() {
		reasons[a.Host()] = regexp.MustCompile(a.Reason)
	}
	log, err := os.ReadFile(filepath.Join(f.dir, "postern.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "attack.example") && strings.Contains(line, " event=message ") && !attackRefused.MatchString(line) {
			f.t.Errorf("a message of an attack was taken: %s", line)
		}
		m := attackEnd.FindStringSubmatch(line)
		if m == nil || !strings.HasSuffix(m[2], ".attack.example") {
			continue
		}
		if reason := strings.Trim(m[1], `"`); !reasons[m[2]].MatchString(reason) {
			f.t.Errorf("%s ended with %q, expected %s", m[2], reason, reasons[m[2]])
		}
		want[m[2]]--
	}
	for host, missing := range want {
		if missing != 0 {
			f.t.Errorf("%d sessions of %s are not in the log", missing, host)
		}
	}
}
