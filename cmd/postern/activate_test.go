package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/proxy/peertest"
)

// systemd-socket-activate, which hands over sockets as systemd does, starts the service when the first client comes; the
// service takes both sockets by name, and tells that it is ready over the socket that NOTIFY_SOCKET names.
func TestSystemdActivates(t *testing.T) {
	peertest.Need(t, "systemd-socket-activate")
	address, told := system(t)
	dir := shortFolder(t, map[string]string{"postern.yaml": fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nupstream: [{address: 'maildir:mail'}]\n"+
		"dns: {servers: ['%s']}\nlisten: [{address: '127.0.0.1:1', socket: smtp}, {address: '127.0.0.1:2', socket: other}]\n", serveNames(t))})
	addrs := unusedAddresses(t, 2)
	p := spawnAs(t, dir, nil, "systemd-socket-activate", "-l", addrs[0], "-l", addrs[1], "--fdname=smtp:other", "-E", "NOTIFY_SOCKET="+address,
		"-E", "PATH", "postern", "serve", "-config", "postern.yaml")
	p.await(`Listening on .*` + addrs[1])
	c := dial(t, addrs[1])
	for _, addr := range addrs {
		p.await(`event=listening address=` + addr)
	}
	if got := awaitTold(t, told, "READY=1"); !strings.Contains(got, addrs[0]) || !strings.Contains(got, addrs[1]) {
		t.Errorf("it told %q", got)
	}
	c.say("EHLO mail.corp.example", 250)
	c.send("carol@home.example", "alice@example.org", hello, 250)
	c.say("QUIT", 221)
	dial(t, addrs[0]).say("QUIT", 221)
	if stored, err := filepath.Glob(filepath.Join(dir, "mail", "new", "*")); err != nil || len(stored) != 1 {
		t.Errorf("stored: %q, %v", stored, err)
	}
	p.signal(syscall.SIGTERM)
	awaitTold(t, told, "STOPPING=1")
	if code, rest := p.end(); code != exitFine {
		t.Errorf("it ended with %d:\n%s", code, strings.Join(rest, "\n"))
	}
}

// unusedAddresses gives addresses of the loopback that nobody listens on: each on a host of its own, which the system gives
// no outgoing connection.
func unusedAddresses(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for i := range n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.77.0.%d:0", i+1))
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		l.Close()
	}
	return addrs
}
