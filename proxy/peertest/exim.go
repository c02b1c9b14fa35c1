package peertest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	eximTree    = "exim4-heavy"
	eximProgram = "usr/sbin/exim4"
	eximID      = 601 // of its user inside the chroot
)

// Exim says how [StartExim] configures its server. The zero value is a server for alice@ and bob@example.org.
type Exim struct {
	Domains []string // whose mail it takes; example.org if empty
	Users   []string // local parts known in each domain; alice and bob if empty
	Main    string   // more lines for the main section of the configuration
	ACL     string   // more ACLs
	RcptACL string   // what comes first in the ACL for RCPT
	Proxy   bool     // each connection must begin with a PROXY header, for which Main may have its own line

	// SmartHost, host:port, is given all other mail, at once and then every second until it takes it.
	SmartHost string
	// SmartHostCA is the file of an authority: the smart host must then offer STARTTLS and show a certificate of it.
	SmartHostCA string
}

// EximServer is a running Exim.
type EximServer struct {
	server
	Addr   string // 127.0.0.1:port
	root   string
	domain string
}

// StartExim starts an Exim that delivers mail for the known users to Maildirs at once, refuses other recipients of its
// domains with "550 Unknown user" (Exim gives no enhanced codes), and relays for nobody unless there is a smart host. It
// ends with the test.
func StartExim(t testing.TB, opt Exim) *EximServer {
	t.Helper()
	Need(t, NeedExim)
	if len(opt.Domains) == 0 {
		opt.Domains = []string{"example.org"}
	}
	if len(opt.Users) == 0 {
		opt.Users = []string{"alice", "bob"}
	}
	port := freePort(t, "127.0.0.1")
	root := newRoot(t, eximTree, []account{{name: "Debian-exim", id: eximID, home: "/var/spool/exim4"}})
	s := &EximServer{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), root: root, domain: opt.Domains[0]}
	for _, dir := range []string{"mail", "var/spool/exim4", "var/log/exim4", "run/exim4"} {
		makeDir(t, filepath.Join(root, dir), 0o755, eximID)
	}
	// What a look-up finds, not what the client wrote, may become part of a path: Exim refuses "tainted" names.
	var users strings.Builder
	for _, u := range opt.Users {
		users.WriteString(u + ": " + u + "\n")
	}
	writeFile(t, filepath.Join(root, "etc/users"), users.String())
	relay, router, smartPort, args := "", "", "25", []string{"-bdf"}
	if opt.SmartHost != "" {
		host, port, err := net.SplitHostPort(opt.SmartHost)
		if err != nil {
			t.Fatalf("the smart host of Exim: %v", err)
		}
		relay, smartPort, args = "accept hosts = 127.0.0.1", port, append(args, "-q1s")
		router = strings.ReplaceAll(eximSmartHost, "SMARTHOST", host)
	}
	proxy, tls := "", ""
	if opt.Proxy && !strings.Contains(opt.Main, "hosts_proxy") {
		proxy = "hosts_proxy = 127.0.0.1"
	}
	if opt.SmartHostCA != "" {
		copyFile(t, opt.SmartHostCA, filepath.Join(root, "etc/authority.pem"))
		tls = eximSmartHostTLS
	}
	// This is where Debian's Exim looks. Told by -C, it would drop its rights and could not deliver.
	makeDir(t, filepath.Join(root, "etc/exim4"), 0o755, 0)
	writeFile(t, filepath.Join(root, "etc/exim4/exim4.conf"), strings.NewReplacer(
		"SMARTROUTER", router, "SMARTPORT", smartPort, "SMARTTLS", tls, "PORT", strconv.Itoa(port), "HOSTSPROXY", proxy,
		"DOMAINS", strings.Join(opt.Domains, " : "), "MAIN", opt.Main, "MOREACL", opt.ACL, "RCPTACL", opt.RcptACL, "RELAY", relay,
	).Replace(eximConf))
	s.server = server{
		t: t, name: "Exim", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd { return chrooted(root, eximProgram, args...) },
	}
	if opt.Proxy {
		s.preface = proxyPreface
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start Exim: %v\n%s", err, s.Log())
	}
	return s
}

const eximConf = `
primary_hostname = mx.example.org
daemon_smtp_ports = PORT
local_interfaces = 127.0.0.1
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
pid_file_path = /run/exim4/exim.pid
domainlist ours = DOMAINS
acl_smtp_rcpt = rcpt
rfc1413_query_timeout = 0s
disable_ipv6 = true
tls_advertise_hosts =
smtputf8_advertise_hosts = *
message_size_limit = 50M
keep_environment =
HOSTSPROXY
MAIN

begin acl
rcpt:
RCPTACL
  accept domains = +ours
         local_parts = lsearch;/etc/users
  deny   domains = +ours
         message = Unknown user
  RELAY
  deny   message = relay not permitted
MOREACL

begin routers
users:
  driver = accept
  domains = +ours
  local_parts = lsearch;/etc/users
  address_data = $local_part_data
  transport = maildir
SMARTROUTER
rest:
  driver = redirect
  domains = !+ours
  allow_defer
  data = :defer: this server sends nothing

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = /mail/$domain_data/$local_part_data
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
  group = Debian-exim
smarthost:
  driver = smtp
  port = SMARTPORT
  allow_localhost
SMARTTLS

begin retry
* * F,1h,1s
`

const eximSmartHost = `smarthost:
  driver = manualroute
  domains = !+ours
  transport = smarthost
  route_list = * SMARTHOST byname
  self = send
`

const eximSmartHostTLS = `  hosts_require_tls = *
  tls_verify_hosts = *
  tls_verify_certificates = /etc/authority.pem
`

// Messages waits until at least n messages have been delivered to the user, a local part of the first domain or a whole
// address, and gives all of them, oldest first.
func (s *EximServer) Messages(user string, n int) []Message {
	s.t.Helper()
	local, domain, ok := strings.Cut(user, "@")
	if !ok {
		domain = s.domain
	}
	return awaitMail(s.t, filepath.Join(s.root, "mail", domain, local), n, s.Log)
}

// Log is what Exim has logged so far.
func (s *EximServer) Log() string {
	var all strings.Builder
	for _, name := range []string{"mainlog", "rejectlog", "paniclog"} {
		b, err := os.ReadFile(filepath.Join(s.root, "var/log/exim4", name))
		if err != nil && !os.IsNotExist(err) {
			s.t.Errorf("read Exim's log: %v", err)
		}
		all.Write(b)
	}
	return all.String()
}
