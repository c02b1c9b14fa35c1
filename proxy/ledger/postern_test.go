package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/proxy/peertest"
)

// A postern is the program under test, which can be killed and started again at the same address, with the same store
// and log.
type postern struct {
	t    testing.TB
	dir  string
	addr string
	env  []string

	limits string // shell commands before the start: "ulimit -f 100; "

	mu     sync.Mutex
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exited chan struct{}
}

// ownAddress gives every program an address of the loopback net of its own. No connection of anybody else starts there, so
// that the port stays free while the program is down.
func ownAddress(t testing.TB) string {
	t.Helper()
	n := uint32(os.Getpid())<<6 + addresses.Add(1)
	ip := net.IPv4(127, byte(64+n>>16&63), byte(n>>8), byte(n))
	l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
	if err != nil {
		t.Fatalf("an address of our own: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

var addresses atomic.Uint32

// commonConfig is what all programs under test have in common: short time limits, and clients out of 127.0.0.0/9 whom no
// check is about.
const commonConfig = `hostname: mx.example.org
networks: {trusted: [127.0.0.0/9]}
limits: {idle: 1500ms, message: 20MiB, spool_memory: 64KiB}
budget: {filters: 2s, upstream_connect: 1s, upstream_command: 1s, upstream_data: 1s, upstream_reply: 1s}
store: {kind: bbolt, path: state.db}
log: {output: postern.log}
`

// newPostern writes the configuration and starts the program.
func newPostern(t testing.TB, config string, env ...string) *postern {
	t.Helper()
	p := preparePostern(t, config)
	p.env = append(p.env, env...)
	p.start()
	return p
}

// preparePostern writes the configuration, to which it adds the listener.
func preparePostern(t testing.TB, config string) *postern {
	t.Helper()
	dir := t.TempDir()
	p := &postern{t: t, dir: dir, addr: ownAddress(t), env: os.Environ(), stderr: new(bytes.Buffer)}
	cert := peertest.NewCert(t, "mx.example.org")
	listen := fmt.Sprintf("listen: [{address: '%s', tls: {cert: %s, key: %s}}]\n", p.addr, cert.CertFile, cert.KeyFile)
	if err := os.WriteFile(filepath.Join(dir, "postern.yaml"), []byte(config+listen), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	return p
}

// start starts the program and waits until it takes connections.
func (p *postern) start() {
	p.t.Helper()
	if err := p.tryStart(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *postern) tryStart() error {
	cmd := exec.Command("sh", "-c", p.limits+`exec "$@"`, "sh", program, "serve", "-config", "postern.yaml")
	cmd.Dir, cmd.Env = p.dir, append(p.env, "GORACE=atexit_sleep_ms=0")
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting postern: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it ended with is in cmd.ProcessState
		close(exited)
	}()
	p.mu.Lock()
	p.cmd, p.stderr, p.exited = cmd, stderr, exited
	p.mu.Unlock()
	for limit := time.Now().Add(patience); time.Now().Before(limit); pause(2 * time.Millisecond) {
		select {
		case <-exited:
			return fmt.Errorf("postern ended at once: %v\n%s%s", cmd.ProcessState, stderr, p.log())
		default:
		}
		if c, err := net.DialTimeout("tcp", p.addr, time.Second); err == nil {
			c.Close()
			return nil
		}
	}
	return errors.New("postern does not listen\n" + p.log())
}

// kill ends the program as a crash would. A program that is not running is left alone.
func (p *postern) kill() { p.end(syscall.SIGKILL) }

// end sends a signal and waits for the end; ended is false where the program was not running.
func (p *postern) end(sig syscall.Signal) (ended bool) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.mu.Unlock()
	if cmd == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
	}
	_ = cmd.Process.Signal(sig) // fails only where it has just ended
	select {
	case <-exited:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		<-exited
	}
	return true
}

// finish ends the program in good order, and wants of it that it does.
func (p *postern) finish() {
	p.t.Helper()
	if !p.end(syscall.SIGTERM) {
		p.t.Errorf("postern had ended by itself: %v", p.cmd.ProcessState)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("postern ended with %d on SIGTERM", code)
	}
	p.quiet()
}

// quiet wants nothing of the program on its standard error: no panic, no data race.
func (p *postern) quiet() {
	p.t.Helper()
	for line := range strings.Lines(p.stderr.String()) {
		if !strings.HasPrefix(line, "time=") { // the log, where it goes there
			p.t.Errorf("postern said on its standard error:\n%s", p.stderr)
			return
		}
	}
}

// log is what stands in the program's log: in a file or, when it has ended, on its standard error.
func (p *postern) log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "postern.log"))
	if err != nil {
		return p.stderr.String()
	}
	return string(b)
}

// logged is how long the log file is.
func (p *postern) logged() int64 {
	info, err := os.Stat(filepath.Join(p.dir, "postern.log"))
	if err != nil {
		return 0 // not begun
	}
	return info.Size()
}

// awaitLine waits until the log file has a line with all of the texts, past an offset.
func (p *postern) awaitLine(from int64, texts ...string) {
	p.t.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); pause(2 * time.Millisecond) {
		for line := range strings.Lines(p.logFrom(from)) {
			if strings.HasSuffix(line, "\n") && !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
				return
			}
		}
	}
	p.t.Errorf("the log has no line with %q", texts)
}

func (p *postern) logFrom(offset int64) string {
	f, err := os.Open(filepath.Join(p.dir, "postern.log"))
	if err != nil {
		return "" // not begun
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<30))
	if err != nil {
		p.t.Errorf("reading the log: %v", err)
	}
	return string(b)
}

// pause is how one waits before asking or trying again. Nothing depends on its length.
func pause(d time.Duration) { time.Sleep(d) }
