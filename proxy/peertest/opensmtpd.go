package peertest

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	smtpdProgram   = "usr/sbin/smtpd"
	smtpctlProgram = "usr/sbin/smtpctl"
)

// The accounts of OpenSMTPD inside its chroot; the mail users follow on.
const (
	smtpdID      = 611
	smtpqID      = 612
	smtpdUsersID = 2000
)

// OpenSMTPD says how [StartOpenSMTPD] configures its server. The zero value is a server for alice@ and bob@example.org.
type OpenSMTPD struct {
	Domains []string // whose mail it takes; example.org if empty
	Users   []string // local parts, known in each domain with one mailbox each; alice and bob if empty
	Proxy   bool     // each connection must begin with a PROXY header of version 2

	// SmartHost, host:port, is given all other mail: at once, and then when Retry is called.
	SmartHost string
	// SmartHostCA is the file of an authority: the smart host must then offer STARTTLS and show a certificate of it.
	SmartHostCA string
}

// OpenSMTPDServer is a running OpenSMTPD.
type OpenSMTPDServer struct {
	server
	Addr string // 127.0.0.1:port
	root string
}

// StartOpenSMTPD starts an OpenSMTPD that delivers mail for the known users to Maildirs, refuses other recipients of its
// domains with 550, and relays for nobody unless there is a smart host. It ends with the test.
func StartOpenSMTPD(t testing.TB, opt OpenSMTPD) *OpenSMTPDServer {
	t.Helper()
	Need(t, NeedOpenSMTPD)
	if len(opt.Domains) == 0 {
		opt.Domains = []string{"example.org"}
	}
	if len(opt.Users) == 0 {
		opt.Users = []string{"alice", "bob"}
	}
	port := freePort(t, "127.0.0.1")
	accounts := []account{
		{name: "opensmtpd", id: smtpdID, home: "/var/lib/opensmtpd/empty"},
		{name: "opensmtpq", id: smtpqID, home: "/var/lib/opensmtpd/empty"},
	}
	for i, u := range opt.Users {
		accounts = append(accounts, account{name: u, id: smtpdUsersID + i, home: "/mail/" + u})
	}
	root := newRoot(t, "opensmtpd", accounts)
	for _, a := range accounts[2:] {
		makeDir(t, filepath.Join(root, a.home), 0o700, a.id)
	}
	makeDir(t, filepath.Join(root, "var/lib/opensmtpd/empty"), 0o711, 0)
	makeDir(t, filepath.Join(root, "var/spool/smtpd"), 0o711, 0)
	// The control program wants to be of the queue's group.
	makeSetgid(t, filepath.Join(root, smtpctlProgram), smtpqID)
	proxy := ""
	if opt.Proxy {
		proxy = "proxy-v2"
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, "listen on 127.0.0.1 port %d hostname mx.example.org %s\n", port, proxy)
	conf.WriteString("action \"deliver\" maildir\n")
	for _, d := range opt.Domains {
		fmt.Fprintf(&conf, "match from any for domain %q action \"deliver\"\n", d)
	}
	if opt.SmartHost != "" {
		scheme := "smtp"
		if opt.SmartHostCA != "" {
			scheme = "smtp+tls"
			makeDir(t, filepath.Join(root, "etc/ssl/certs"), 0o755, 0)
			copyFile(t, opt.SmartHostCA, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt")) // where Debian's looks
		}
		fmt.Fprintf(&conf, "action \"out\" relay host \"%s://%s\"\nmatch from any for any action \"out\"\n", scheme, opt.SmartHost)
	}
	writeFile(t, filepath.Join(root, "etc/smtpd.conf"), conf.String())
	s := &OpenSMTPDServer{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), root: root}
	s.server = server{
		t: t, name: "OpenSMTPD", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd { return chrooted(root, smtpdProgram, "-d", "-v", "-f", "/etc/smtpd.conf") },
	}
	if opt.Proxy {
		s.preface = proxyV2Local
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start OpenSMTPD: %v", err)
	}
	return s
}

// Retry has it try again now what it could not send.
func (s *OpenSMTPDServer) Retry() {
	s.t.Helper()
	if out, err := chrooted(s.root, smtpctlProgram, "schedule", "all").CombinedOutput(); err != nil {
		s.t.Fatalf("have OpenSMTPD try again: %v\n%s", err, out)
	}
}

// proxyV2Local is a PROXY header of version 2 with the command LOCAL: the connection speaks for itself.
const proxyV2Local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// Messages waits until at least n messages have been delivered to the user, a local part, and gives all of them, oldest
// first.
func (s *OpenSMTPDServer) Messages(user string, n int) []Message {
	s.t.Helper()
	return awaitMail(s.t, filepath.Join(s.root, "mail", user, "Maildir"), n, s.Log)
}
