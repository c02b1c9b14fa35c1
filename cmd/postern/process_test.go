package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/samples"
	"postern/proxy/peertest"
)

// patience bounds every wait of these tests; it decides nothing but when to give up.
const patience = time.Minute

// A process is a running `postern serve`.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	lines  chan string // of its standard error
	exited chan error
	addr   string
	seen   func(line string) // called with each line that await reads; may be nil
}

// startServe starts the proxy in a folder and waits until it listens.
func startServe(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := spawn(t, dir, append([]string{"serve"}, args...)...)
	p.addr = value(p.await(`event=listening`), "address")
	return p
}

// spawn starts the command. The test kills it, if it is still running at the end.
func spawn(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	return spawnAs(t, dir, nil, "postern", args...)
}

// spawnAs is spawn for another program, which gets files from descriptor 3 on.
func spawnAs(t *testing.T, dir string, files []*os.File, program string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.ExtraFiles = dir, files
	return spawnCommand(t, cmd)
}

// spawnCommand starts a command, and reads its standard error.
func spawnCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() } // it may have ended
	limit := time.AfterFunc(patience, kill)
	p := &process{t: t, cmd: cmd, dir: cmd.Dir, lines: make(chan string, 1000), exited: make(chan error, 1)}
	go func() {
		in := bufio.NewScanner(stderr)
		for in.Scan() {
			p.lines <- in.Text()
		}
		close(p.lines)
		p.exited <- cmd.Wait()
	}()
	t.Cleanup(func() {
		limit.Stop()
		kill()
		for range p.lines {
		}
		select {
		case <-p.exited: // nobody has waited for it
		default:
		}
	})
	return p
}

// await reads lines up to one that matches.
func (p *process) await(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var seen []string
	for line := range p.lines {
		if p.seen != nil {
			p.seen(line)
		}
		if re.MatchString(line) {
			return line
		}
		seen = append(seen, line)
	}
	p.t.Fatalf("no line matches %s:\n%s", pattern, strings.Join(seen, "\n"))
	return ""
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// end waits until the process has exited, and gives its exit code and the rest of its lines.
func (p *process) end() (code int, rest []string) {
	p.t.Helper()
	for line := range p.lines {
		rest = append(rest, line)
	}
	err := <-p.exited
	p.exited <- err
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), rest
	case err != nil:
		p.t.Fatal(err)
	}
	return 0, rest
}

// value is that of a key in a line of logfmt, without its quotes.
func value(line, key string) string {
	m := regexp.MustCompile(`(?:^| )` + key + `=("(?:[^"\\]|\\.)*"|\S*)`).FindStringSubmatch(line)
	if m == nil {
		return ""
	}
	return strings.Trim(m[1], `"`)
}

// serveNames answers from the zone of the samples, so that no question leaves the machine.
func serveNames(t *testing.T) string {
	t.Helper()
	src, err := samples.Zone()
	if err != nil {
		t.Fatal(err)
	}
	return peertest.StartNames(t, string(src)).Addr()
}

// folder is a new folder with files, by name.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serveConfig is a proxy in front of a Maildir.
func serveConfig(names string, more ...string) string {
	return fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: '127.0.0.1:0', xclient: [127.0.0.1]}]\n"+
		"upstream: [{address: 'maildir:mail'}]\ndns: {servers: ['%s']}\n%s", names, strings.Join(more, ""))
}

// A client speaks SMTP line by line.
type client struct {
	t    *testing.T
	conn net.Conn
	text *textproto.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, conn: conn, text: textproto.NewReader(bufio.NewReader(conn))}
	c.expect(220)
	return c
}

// expect reads one reply.
func (c *client) expect(code int) string {
	c.t.Helper()
	got, text, err := c.text.ReadResponse(0)
	if err != nil {
		c.t.Fatalf("waiting for %d: %v", code, err)
	}
	if got != code {
		c.t.Fatalf("got %d %s, expected %d", got, text, code)
	}
	return text
}

func (c *client) say(line string, code int) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.conn, "%s\r\n", line); err != nil {
		c.t.Fatal(err)
	}
	return c.expect(code)
}

// send hands one message in and gives the reply.
func (c *client) send(from, to, message string, code int) string {
	c.t.Helper()
	c.say("MAIL FROM:<"+from+">", 250)
	c.say("RCPT TO:<"+to+">", 250)
	c.say("DATA", 354)
	if _, err := fmt.Fprint(c.conn, message); err != nil {
		c.t.Fatal(err)
	}
	return c.say(".", code)
}
