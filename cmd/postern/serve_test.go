package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const hello = "From: Carol <carol@home.example>\r\nTo: alice@example.org\r\nSubject: lunch\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" +
	"Message-ID: <1@home.example>\r\n\r\nAt noon?\r\n"

// The proxy serves, tells each session and each message in a line, and ends cleanly when it is told to.
func TestServe(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t))})
	p := startServe(t, dir, "-config", "postern.yaml")
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	reply := c.send("carol@home.example", "alice@example.org", hello, 250)
	line := p.await(`event=message`)
	if value(line, "action") != "accept" || value(line, "ip") != "127.0.0.1" || value(line, "rcpt_to") != "alice@example.org" {
		t.Errorf("the message's line is %s", line)
	}
	if !strings.Contains(reply, "(id "+value(line, "id")+")") {
		t.Errorf("the reply %q does not have the id of %s", reply, line)
	}
	c.say("MAIL FROM:<carol@home.example>", 250)
	c.say("RCPT TO:<someone@elsewhere.example>", 550)
	c.say("QUIT", 221)
	session := p.await(`event=session`)
	if id, _, _ := strings.Cut(value(line, "id"), "."); value(session, "id") != id {
		t.Errorf("the session's line %s does not have the id %s", session, id)
	}

	stored, err := filepath.Glob(filepath.Join(dir, "mail", "new", "*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("stored: %q, %v", stored, err)
	}
	raw, err := os.ReadFile(stored[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(raw, []byte(hello)) {
		t.Errorf("the message has changed:\n%s", raw)
	}

	p.signal(syscall.SIGTERM)
	code, rest := p.end()
	if last := strings.Join(rest, "\n"); code != exitFine || !strings.Contains(last, "event=stopped") {
		t.Errorf("it ended with %d:\n%s", code, last)
	}
	if _, err := net.DialTimeout("tcp", p.addr, patience); err == nil {
		t.Error("somebody still listens")
	}
}

// Told to end, it waits for the transaction under way.
func TestServeDrains(t *testing.T) {
	p := startServe(t, folder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t))}), "-config", "postern.yaml")
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	c.say("MAIL FROM:<carol@home.example>", 250)
	c.say("RCPT TO:<alice@example.org>", 250)
	c.say("DATA", 354)
	p.signal(syscall.SIGTERM)
	p.await(`event=draining`)
	if _, err := c.conn.Write([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	c.say(".", 250)
	c.say("MAIL FROM:<carol@home.example>", 421)
	c.conn.Close()
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d:\n%s", code, strings.Join(rest, "\n"))
	}
}

// A broken configuration never takes the place of one that serves.
func TestServeReloads(t *testing.T) {
	names := serveNames(t)
	dir := folder(t, map[string]string{"postern.yaml": serveConfig(names)})
	config := filepath.Join(dir, "postern.yaml")
	p := startServe(t, dir, "-config", "postern.yaml")
	rewrite := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGHUP)
	}
	accepted := func(domain string, code int) {
		t.Helper()
		c := dial(t, p.addr)
		c.say("EHLO mail.corp.example", 250)
		c.say("MAIL FROM:<carol@home.example>", 250)
		c.say("RCPT TO:<alice@"+domain+">", code)
		c.say("QUIT", 221)
	}
	accepted("example.com", 550)

	rewrite(serveConfig(names, "polcy: {}\n"))
	if line := p.await(`event=reload_failed`); !strings.Contains(line, `postern.yaml:6:1: unknown key`) {
		t.Errorf("it says %s", line)
	}
	accepted("example.org", 250)

	rewrite(strings.Replace(serveConfig(names), "[example.org]", "[example.org, example.com]", 1))
	p.await(`event=reloaded`)
	accepted("example.com", 250)
	accepted("example.org", 250)

	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.await(`event=reload_failed .*no such file`)
	accepted("example.com", 250)

	p.signal(syscall.SIGTERM)
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d:\n%s", code, strings.Join(rest, "\n"))
	}
}

// After rotation the log goes on in a file of the old name.
func TestServeReopensItsLog(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t), "log: {output: postern.log, format: json}\n")})
	p := spawn(t, dir, "serve", "-config", filepath.Join(dir, "postern.yaml"))
	log, rotated := filepath.Join(dir, "postern.log"), filepath.Join(dir, "postern.log.1")
	awaitFile(t, p, log, `"event":"listening"`)
	if err := os.Rename(log, rotated); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	awaitFile(t, p, log, "")
	p.signal(syscall.SIGTERM)
	if code, rest := p.end(); code != exitFine || len(rest) > 0 {
		t.Errorf("it ended with %d:\n%s", code, strings.Join(rest, "\n"))
	}
	for file, want := range map[string]string{rotated: `"event":"listening"`, log: `"event":"stopped"`} {
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(got, []byte(want)) {
			t.Errorf("%s: %v, no %s in\n%s", file, err, want, got)
		}
	}
}

// awaitFile waits until a file is there and holds text.
func awaitFile(t *testing.T, p *process, path, text string) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		got, err := os.ReadFile(path)
		if err == nil && bytes.Contains(got, []byte(text)) {
			return
		}
		select {
		case line, ok := <-p.lines:
			t.Fatalf("instead of %q in %s: %s (%v)", text, path, line, ok)
		case <-look.C:
		}
	}
}

// What keeps the proxy from serving is said, and nothing is left half started.
func TestServeRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().String()
	cases := []struct {
		name, config string
		want         string
	}{
		{
			name:   "address in use",
			config: strings.Replace(serveConfig("127.0.0.1:53"), "127.0.0.1:0", busy, 1),
			want:   "postern serve: cannot listen on " + busy + ": bind: address already in use",
		},
		{
			name:   "second address in use",
			config: strings.Replace(serveConfig("127.0.0.1:53"), "listen: [", "listen: [{address: '127.0.0.1:0'}, {address: '"+busy+"'}, ", 1),
			want:   "postern serve: cannot listen on " + busy + ": bind: address already in use",
		},
		{
			name:   "an address of another machine",
			config: strings.Replace(serveConfig("127.0.0.1:53"), "127.0.0.1:0", "192.0.2.1:2525", 1),
			want:   "postern serve: cannot listen on 192.0.2.1:2525: bind: cannot assign requested address",
		},
		{
			name:   "broken",
			config: "hostname: mx.example.org\nlisten: [{address: ':0'}]\nupstream: [{address: smtp://192.0.2.25}]\n",
			want:   "postern.yaml:1:1: no domains: ",
		},
		{
			name:   "a rule that does not compile",
			config: serveConfig("127.0.0.1:53", "filters: {content: {rules: [rules.yaml]}}\n"),
			want:   "rules.yaml:3:38: bad regular expression",
		},
		{
			name:   "a log that can't be written",
			config: serveConfig("127.0.0.1:53", "log: {output: mail}\n"),
			want:   "postern serve: cannot open the log mail: is a directory",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, map[string]string{
				"postern.yaml": c.config,
				"rules.yaml":   "rules:\n  - id: LOCAL_ONE\n    when: {header: Subject, matches: '('}\n    score: 1\n",
				"mail/new/x":   "",
			})
			var stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "postern", "serve", "-config", "postern.yaml")
			cmd.Dir, cmd.Stderr = dir, &stderr
			err := cmd.Run()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != exitBad {
				t.Errorf("it ended with %v", err)
			}
			if !strings.HasPrefix(stderr.String(), c.want) {
				t.Errorf("it says\n%s, expected %s", stderr.String(), c.want)
			}
			if strings.Contains(stderr.String(), "event=listening") {
				t.Error("it has listened in the meantime")
			}
		})
	}
}

// What is diverted at night is listed, shown and released by day.
func TestQuarantineOfARunningProxy(t *testing.T) {
	dir := folder(t, map[string]string{
		"postern.yaml": serveConfig(serveNames(t), "quarantine: maildir:quarantine\nfilters: {content: {rules: [rules.yaml]}}\n"),
		"rules.yaml":   "rules:\n  - id: LOCAL_PILLS\n    action: quarantine\n    score: 3\n    when: {header: Subject, contains: pills}\n",
	})
	p := startServe(t, dir, "-config", "postern.yaml")
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	message := strings.Replace(hello, "lunch", "pills", 1)
	c.send("carol@home.example", "alice@example.org", message, 250)
	c.say("QUIT", 221)
	line := p.await(`event=message`)
	id := value(line, "id")
	if value(line, "action") != "quarantine" || value(line, "by") != "LOCAL_PILLS" {
		t.Fatalf("the message's line is %s", line)
	}
	quarantine := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "postern", append([]string{"quarantine", "-config", "postern.yaml"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("quarantine %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if got := quarantine("list"); !strings.Contains(got, "\n"+id) || !strings.Contains(got, "<carol@home.example>") || !strings.Contains(got, "by=LOCAL_PILLS") {
		t.Errorf("list says\n%s", got)
	}
	if got := quarantine("show", id); !strings.Contains(got, "X-Postern-Id: "+id+"\r\n") || !strings.HasSuffix(got, message) {
		t.Errorf("show says\n%s", got)
	}
	if got := quarantine("release", id); got != id+": delivered to alice@example.org\n" {
		t.Errorf("release says %s", got)
	}
	if got := quarantine("list"); got != "the quarantine is empty\n" {
		t.Errorf("afterwards list says\n%s", got)
	}
	stored, err := filepath.Glob(filepath.Join(dir, "mail", "new", "*"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("delivered: %q, %v", stored, err)
	}
	raw, err := os.ReadFile(stored[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(raw, []byte(message)) || bytes.Contains(raw, []byte("X-Spam-")) || bytes.Contains(raw, []byte("X-Postern-")) {
		t.Errorf("delivered was\n%s", raw)
	}
	p.signal(syscall.SIGTERM)
	if code, _ := p.end(); code != exitFine {
		t.Errorf("it ended with %d", code)
	}
}
