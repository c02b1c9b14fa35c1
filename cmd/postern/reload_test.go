package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shortFolder is a folder whose path leaves room for a socket.
func shortFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range files {
		rewrite(t, filepath.Join(dir, name), text)
	}
	return dir
}

func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// postern runs a command to its end.
func postern(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "postern", args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func wantReload(t *testing.T, dir string, code int, text string, args ...string) {
	t.Helper()
	got, stdout, stderr := postern(t, dir, append([]string{"reload"}, args...)...)
	if got != code || !strings.Contains(stdout+stderr, text) {
		t.Errorf("it ends with %d, expected %d and %q\n%s%s", got, code, text, stdout, stderr)
	}
}

// The command tells what came of it: taken, broken (by the command itself, and by the proxy), nobody there.
func TestReloadCommand(t *testing.T) {
	names := serveNames(t)
	sound := serveConfig(names, "control: ctl\n")
	dir := shortFolder(t, map[string]string{"postern.yaml": sound, "other.yaml": sound})
	wantReload(t, dir, exitBad, "no Postern answers at ctl: is it running", "-config", "postern.yaml")

	p := startServe(t, dir, "-config", "postern.yaml")
	if info, err := os.Stat(filepath.Join(dir, "ctl")); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("the socket: %v %v", info.Mode(), err)
	}
	wantReload(t, dir, exitFine, "postern.yaml: in force, ", "-config", "postern.yaml")
	p.await(`event=reloaded`)

	wantReload(t, dir, exitBad, filepath.Join(dir, "postern.yaml")+", not "+filepath.Join(dir, "other.yaml"), "-config", "other.yaml")

	rewrite(t, filepath.Join(dir, "postern.yaml"), sound+"polcy: {}\n")
	wantReload(t, dir, exitBad, "postern.yaml:7:1: unknown key \"polcy\"", "-config", "postern.yaml")

	// What only the proxy can find out: an address that somebody has.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	rewrite(t, filepath.Join(dir, "postern.yaml"), strings.Replace(sound, "127.0.0.1:0", taken.Addr().String(), 1))
	wantReload(t, dir, exitBad, "cannot listen on "+taken.Addr().String()+": bind: address already in use", "-config", "postern.yaml")
	p.await(`event=reload_failed`)
	dial(t, p.addr).say("QUIT", 221)

	// A second one in its place is refused, and leaves it alone.
	rewrite(t, filepath.Join(dir, "postern.yaml"), sound)
	if code, _, stderr := postern(t, dir, "serve", "-config", "postern.yaml"); code != exitBad || !strings.Contains(stderr, "another Postern answers there") {
		t.Errorf("a second one ends with %d: %s", code, stderr)
	}
	wantReload(t, dir, exitFine, "in force", "-config", "postern.yaml")

	p.signal(syscall.SIGTERM)
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d: %q", code, rest)
	}
	if _, err := os.Stat(filepath.Join(dir, "ctl")); err == nil {
		t.Error("the socket is still there")
	}
	rewrite(t, filepath.Join(dir, "postern.yaml"), serveConfig(names))
	wantReload(t, dir, exitBad, "names no control socket", "-config", "postern.yaml")
}

// Killed, it leaves its socket behind, which the next one replaces. With a store the socket stands beside its file.
func TestReloadAfterAKill(t *testing.T) {
	dir := shortFolder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t), "store: {path: state.db}\n")})
	p := startServe(t, dir, "-config", "postern.yaml")
	p.signal(syscall.SIGKILL)
	p.end()
	wantReload(t, dir, exitBad, "no Postern answers at control", "-config", "postern.yaml")
	startServe(t, dir, "-config", "postern.yaml")
	wantReload(t, dir, exitFine, "in force", "-config", "postern.yaml")
}

// What others write into the socket does no harm, and who says nothing does not keep the rest out for ever.
func TestControlRequests(t *testing.T) {
	path := filepath.Join(shortFolder(t, nil), "ctl")
	asked := 0
	s, err := listenControl(path, func(_ context.Context, o controlOrder) controlResult {
		asked++
		return controlResult{Error: "asked for " + o.Config}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.serve(ctx)
	defer s.close()
	for request, want := range map[string]string{
		"reload\n":                             "not one that this version",
		`{"do":"stop"}`:                        "not one that this version",
		`{"do":"reload","config":"/a.yaml"}`:   "asked for /a.yaml",
		`{"do":"` + strings.Repeat("x", 1<<20): "not one that this version",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, request) // the other end may not read it all
		var got controlResult
		if err := json.NewDecoder(conn).Decode(&got); err != nil || !strings.Contains(got.Error, want) {
			t.Errorf("%.40s: %+v %v", request, got, err)
		}
		conn.Close()
	}
	if asked != 1 {
		t.Errorf("%d requests were carried out", asked)
	}
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cancel() // ends the wait for its request
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("it got an answer to nothing")
	}
}

// A path that holds something else is left alone.
func TestControlSparesOtherFiles(t *testing.T) {
	path := filepath.Join(shortFolder(t, map[string]string{"ctl": "precious"}), "ctl")
	if _, err := listenControl(path, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("got %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "precious" {
		t.Errorf("the file holds %q, %v", raw, err)
	}
}

// A reload opens and closes listeners; the clients of one that is closed are served on.
func TestReloadListeners(t *testing.T) {
	names := serveNames(t)
	two := strings.Replace(serveConfig(names, "control: ctl\n"), "listen: [", "listen: [{address: '127.0.0.2:0', xclient: [127.0.0.1]}, ", 1)
	dir := shortFolder(t, map[string]string{"postern.yaml": serveConfig(names, "control: ctl\n")})
	p := startServe(t, dir, "-config", "postern.yaml")
	rewrite(t, filepath.Join(dir, "postern.yaml"), two)
	wantReload(t, dir, exitFine, "listening on 127.0.0.2:", "-config", "postern.yaml")
	second := value(p.await(`event=listening address=127.0.0.2:`), "address")
	c := dial(t, second)
	c.say("EHLO mail.corp.example", 250)
	dial(t, p.addr).say("QUIT", 221)

	rewrite(t, filepath.Join(dir, "postern.yaml"), serveConfig(names, "control: ctl\n"))
	wantReload(t, dir, exitFine, "listening on "+p.addr, "-config", "postern.yaml")
	p.await(`event=listener_closed address=` + second)
	if conn, err := net.Dial("tcp", second); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
	c.send("carol@home.example", "alice@example.org", hello, 250)
	p.await(`event=message`)
	dial(t, p.addr).say("QUIT", 221)
	p.signal(syscall.SIGTERM)
	p.await(`event=draining`)
	c.expect(421) // it is drained with the others
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d: %q", code, rest)
	}
}

// A reload changes where and how the log is written.
func TestReloadLog(t *testing.T) {
	names := serveNames(t)
	dir := shortFolder(t, map[string]string{"postern.yaml": serveConfig(names, "control: ctl\n")})
	p := startServe(t, dir, "-config", "postern.yaml")
	rewrite(t, filepath.Join(dir, "postern.yaml"), serveConfig(names, "control: ctl\nlog: {format: json, output: mail.log}\n"))
	wantReload(t, dir, exitFine, "in force", "-config", "postern.yaml")
	p.await(`event=log_changed output=mail.log format=json`)
	send := func() {
		t.Helper()
		c := dial(t, p.addr)
		c.say("EHLO mail.corp.example", 250)
		c.send("carol@home.example", "alice@example.org", hello, 250)
		c.say("QUIT", 221)
	}
	logged := func(name string) string {
		t.Helper()
		for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(raw, []byte(`"event":"session"`)) {
				return string(raw)
			}
		}
		t.Fatalf("nothing came into %s", name)
		return ""
	}
	send()
	if got := logged("mail.log"); !strings.Contains(got, `"event":"message"`) {
		t.Errorf("the log has\n%s", got)
	}
	// It is this file that SIGUSR1 opens anew.
	if err := os.Rename(filepath.Join(dir, "mail.log"), filepath.Join(dir, "mail.log.1")); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "mail.log")); err == nil {
			break
		}
	}
	send()
	logged("mail.log")
	// A log that can't be opened leaves all as it is.
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(dir, "postern.yaml"), serveConfig(names, "control: ctl\nlog: {output: folder}\n"))
	wantReload(t, dir, exitBad, "cannot open the log", "-config", "postern.yaml")
	rewrite(t, filepath.Join(dir, "postern.yaml"), serveConfig(names, "control: ctl\n"))
	wantReload(t, dir, exitFine, "in force", "-config", "postern.yaml")
	send()
	p.await(`event=session`)
}

// system stands in for systemd: it hears what the service tells.
func system(t *testing.T) (address string, told <-chan string) {
	t.Helper()
	address = filepath.Join(shortFolder(t, nil), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	heard := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				close(heard)
				return
			}
			heard <- string(buf[:n])
		}
	}()
	return address, heard
}

func awaitTold(t *testing.T, told <-chan string, want string) string {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-told:
			if strings.Contains(got, want) {
				return got
			}
		case <-limit:
			t.Fatalf("it never told %s", want)
		}
	}
}

func TestTellsSystemd(t *testing.T) {
	address, told := system(t)
	t.Setenv("NOTIFY_SOCKET", address)
	t.Setenv("WATCHDOG_USEC", "300000")
	dir := shortFolder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t))})
	p := startServe(t, dir, "-config", "postern.yaml")
	if got := awaitTold(t, told, "READY=1"); !strings.Contains(got, "STATUS=Listening on "+p.addr) {
		t.Errorf("it told %q", got)
	}
	awaitTold(t, told, "WATCHDOG=1")
	p.signal(syscall.SIGHUP)
	if got := awaitTold(t, told, "RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("it told %q", got)
	}
	awaitTold(t, told, "READY=1")
	p.signal(syscall.SIGTERM)
	awaitTold(t, told, "STOPPING=1")
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d: %q", code, rest)
	}
}

// Sockets that the process is started with take the place of those that it would bind, found by address or by name. They
// outlive it: a client that comes while nobody serves is served by the next one.
func TestSocketActivation(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var files []*os.File
	var addrs []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files, addrs = append(files, file), append(addrs, l.Addr().String())
		l.Close()
	}
	config := fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nupstream: [{address: 'maildir:mail'}]\ndns: {servers: ['%s']}\n"+
		"listen: [{address: '%s'}, {address: '127.0.0.1:1', socket: submission}]\n", serveNames(t), addrs[0])
	dir := folder(t, map[string]string{"postern.yaml": config})
	start := func() *process {
		p := spawnAs(t, dir, files, "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=one:submission:three exec postern serve -config postern.yaml`)
		unused := p.await(`event=socket_unused`)
		if value(unused, "address") != addrs[2] || value(unused, "name") != "three" {
			t.Errorf("unused: %s", unused)
		}
		p.await(`event=listening address=` + addrs[0])
		p.await(`event=listening address=` + addrs[1])
		return p
	}
	p := start()
	for _, addr := range addrs[:2] {
		dial(t, addr).say("QUIT", 221)
	}
	p.signal(syscall.SIGTERM)
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d: %q", code, rest)
	}
	waiting, err := net.Dial("tcp", addrs[0])
	if err != nil {
		t.Fatalf("the socket did not outlive the process: %v", err)
	}
	defer waiting.Close()
	start()
	if err := waiting.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(waiting, greeting); err != nil || string(greeting) != "220 " {
		t.Errorf("who waited was greeted with %q, %v", greeting, err)
	}
}

// Sockets that are meant for another process are left alone, and nonsense is an error.
func TestSocketsOfOthers(t *testing.T) {
	for _, tc := range []struct{ name, pid, count, want string }{
		{name: "another process", pid: "1", count: "3"},
		{name: "none", pid: fmt.Sprint(os.Getpid()), count: "0"},
		{name: "no number", pid: fmt.Sprint(os.Getpid()), count: "x", want: `LISTEN_FDS is "x"`},
		{name: "too many", pid: fmt.Sprint(os.Getpid()), count: "65", want: `LISTEN_FDS is "65"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("LISTEN_PID", tc.pid)
			t.Setenv("LISTEN_FDS", tc.count)
			got, err := inheritedSockets()
			if len(got) > 0 || (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v", got, err)
			}
			if os.Getenv("LISTEN_FDS") != "" {
				t.Error("the environment still tells of them")
			}
		})
	}
}
