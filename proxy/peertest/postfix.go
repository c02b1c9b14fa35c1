package peertest

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const postfixMaster = "/usr/lib/postfix/sbin/master"

// Postfix says how [StartPostfix] configures its server. The zero value is a server for alice@ and bob@example.org.
type Postfix struct {
	Domains          []string          // whose mail it takes; example.org if empty
	Users            []string          // local parts known in each domain; alice and bob if empty
	Hostname         string            // mx.example.org if empty
	MessageSizeLimit int64             // octets; Postfix's own default (10240000) if 0
	XClient          []string          // smtpd_authorized_xclient_hosts, for instance 127.0.0.0/8
	XForward         []string          // smtpd_authorized_xforward_hosts
	ProxyProtocol    bool              // each connection must begin with a PROXY header
	TLS              bool              // offer STARTTLS, with a certificate made for the run
	SmartHost        string            // host:port that all other mail is handed to, at once and then every second until it is taken
	IPv6             bool              // listen on [::1] too, on the same port
	Parameters       map[string]string // more of main.cf; the last word over what is set here
	Main             string            // more of main.cf as it is written; the last word over all the rest
	Master           string            // more of master.cf; SUBMISSION in it becomes [PostfixServer.Submission]
}

// PostfixServer is a running Postfix.
type PostfixServer struct {
	server
	Addr       string // 127.0.0.1:port
	Submission string // another one, which nothing listens on unless Postfix.Master says so
	Cert       Cert   // with Postfix.TLS

	dir    string
	domain string // the first of its domains
	port   int
}

// StartPostfix starts a Postfix that delivers mail for the known users to Maildirs and refuses other recipients of
// its domains with 550 5.1.1. Like most servers behind a proxy it trusts the address that the proxy connects from: it
// accepts mail to any other domain too, and keeps that in its queue, unless there is a smart host. It rewrites no
// header of what it is given. It ends with the test.
func StartPostfix(t testing.TB, opt Postfix) *PostfixServer {
	t.Helper()
	Need(t, NeedPostfix)
	if len(opt.Domains) == 0 {
		opt.Domains = []string{"example.org"}
	}
	if len(opt.Users) == 0 {
		opt.Users = []string{"alice", "bob"}
	}
	if opt.Hostname == "" {
		opt.Hostname = "mx.example.org"
	}
	hosts := []string{"127.0.0.1"}
	if opt.IPv6 {
		hosts = append(hosts, "::1")
	}
	dir := tempDir(t, "postfix")
	s := &PostfixServer{dir: dir, domain: opt.Domains[0], port: freePort(t, hosts...)}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	if opt.Master != "" {
		s.Submission = net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))
	}
	makePostfixDirs(t, dir)
	if opt.TLS {
		s.Cert = newCertIn(t, filepath.Join(dir, "conf"), opt.Hostname, "localhost", "127.0.0.1")
	}
	writeFile(t, filepath.Join(dir, "conf", "users"), userMap(opt))
	writeFile(t, filepath.Join(dir, "conf", "main.cf"), s.mainCf(opt, ids(t, "nobody"))+opt.Main)
	writeFile(t, filepath.Join(dir, "conf", "master.cf"), masterCf(s.port, hosts, opt.SmartHost != "")+strings.ReplaceAll(opt.Master, "SUBMISSION", s.Submission))
	s.server = server{
		t: t, name: "Postfix", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd {
			// -d: stay in the foreground, and let "-c" rather than the environment say which instance this is.
			cmd := exec.Command(postfixMaster, "-c", filepath.Join(dir, "conf"), "-d")
			cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG=" + filepath.Join(dir, "conf")}
			cmd.Dir = filepath.Join(dir, "queue")
			return cmd
		},
	}
	if opt.ProxyProtocol {
		s.preface = proxyPreface
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start Postfix: %v\n%s", err, s.Log())
	}
	return s
}

// makePostfixDirs makes the folders that "postfix post-install" would make, with the owners that Postfix asks for.
func makePostfixDirs(t testing.TB, dir string) {
	t.Helper()
	postfix, postdrop := ids(t, "postfix"), group(t, "postdrop")
	nobody := ids(t, "nobody")
	mkdir := func(path string, mode os.FileMode, uid, gid int) {
		t.Helper()
		full := filepath.Join(dir, path)
		if err := os.Mkdir(full, 0o755); err != nil {
			t.Fatalf("make a folder of Postfix: %v", err)
		}
		if err := os.Chown(full, uid, gid); err != nil {
			t.Fatalf("give a folder to Postfix: %v", err)
		}
		if err := os.Chmod(full, mode); err != nil { // after chown, which clears the special bits
			t.Fatalf("set the mode of a folder of Postfix: %v", err)
		}
	}
	mkdir("conf", 0o755, 0, 0)
	mkdir("data", 0o700, postfix.uid, postfix.gid)
	mkdir("mail", 0o755, nobody.uid, nobody.gid)
	mkdir("queue", 0o755, 0, 0)
	mkdir("queue/pid", 0o755, 0, 0)
	for _, q := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		mkdir("queue/"+q, 0o700, postfix.uid, 0)
	}
	mkdir("queue/maildrop", 0o730|os.ModeSticky, postfix.uid, postdrop)
	mkdir("queue/public", 0o710|os.ModeSetgid, postfix.uid, postdrop)
}

type idPair struct{ uid, gid int }

func ids(t testing.TB, name string) idPair {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("the server's user: %v", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		t.Fatalf("the ids of user %s are not numbers: %q, %q", name, u.Uid, u.Gid)
	}
	return idPair{uid: uid, gid: gid}
}

func group(t testing.TB, name string) int {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatalf("the server's group: %v", err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		t.Fatalf("the id of group %s is not a number: %q", name, g.Gid)
	}
	return gid
}

// userMap is a table of address to Maildir, below virtual_mailbox_base.
func userMap(opt Postfix) string {
	var b strings.Builder
	for _, d := range opt.Domains {
		for _, u := range opt.Users {
			fmt.Fprintf(&b, "%s@%s %s/%s/\n", u, d, d, u)
		}
	}
	return b.String()
}

// postfixBase is the part of main.cf that is the same for every server here. DIR stands for its folder.
const postfixBase = `
compatibility_level = 3.6
config_directory = DIR/conf
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = DIR/maillog
maillog_file_prefixes = DIR
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8, [::1]/128
mydestination =
alias_maps =
alias_database =
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = texthash:DIR/conf/users
virtual_mailbox_limit = 0

# No DNS, and nothing leaves: what is not for the domains waits in the queue.
disable_dns_lookups = yes
smtpd_peername_lookup = no
defer_transports = smtp, relay
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination

# Clients on loopback count as local, whose headers Postfix completes and rewrites unless told not to.
local_header_rewrite_clients =

# Tests open many connections from one address, and ask for refusals.
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
`

// mainCf gives the server's main.cf, one parameter a line.
func (s *PostfixServer) mainCf(opt Postfix, mailUser idPair) string {
	p := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(postfixBase, "DIR", s.dir)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " ="); ok && k[0] != '#' {
			p[k] = strings.TrimSpace(v)
		}
	}
	p["myhostname"] = opt.Hostname
	p["virtual_mailbox_domains"] = strings.Join(opt.Domains, ", ")
	p["virtual_uid_maps"] = "static:" + strconv.Itoa(mailUser.uid)
	p["virtual_gid_maps"] = "static:" + strconv.Itoa(mailUser.gid)
	p["smtpd_authorized_xclient_hosts"] = strings.Join(opt.XClient, ", ")
	p["smtpd_authorized_xforward_hosts"] = strings.Join(opt.XForward, ", ")
	p["inet_protocols"] = "ipv4"
	if opt.IPv6 {
		p["inet_protocols"] = "all"
	}
	if opt.MessageSizeLimit != 0 {
		p["message_size_limit"] = strconv.FormatInt(opt.MessageSizeLimit, 10)
	}
	if opt.ProxyProtocol {
		p["smtpd_upstream_proxy_protocol"] = "haproxy"
	}
	if opt.TLS {
		p["smtpd_tls_security_level"] = "may"
		p["smtpd_tls_received_header"] = "yes"
		p["smtpd_tls_cert_file"], p["smtpd_tls_key_file"] = s.Cert.CertFile, s.Cert.KeyFile
	}
	if host, port, err := net.SplitHostPort(opt.SmartHost); err == nil {
		p["relayhost"] = "[" + host + "]:" + port
		p["defer_transports"] = ""
		for _, pause := range []string{"minimal_backoff_time", "maximal_backoff_time", "queue_run_delay"} {
			p[pause] = "1s"
		}
	}
	maps.Copy(p, opt.Parameters)
	// A parameter must not stand there twice. Each process of Postfix warns of it when it starts, and postlogd, which
	// writes the log, does so into its own socket: that holds ten lines, and when it is full nobody goes on, ever.
	for line := range strings.Lines(opt.Main) {
		if k, _, ok := strings.Cut(line, "="); ok { // of a comment or a continued line the name is none that we set
			delete(p, strings.TrimRight(k, " \t"))
		}
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s = %s\n", k, p[k])
	}
	return b.String()
}

// masterCf lists the services that receiving and delivering need: no chroot, and outgoing SMTP only where there is a
// host that it may go to.
func masterCf(port int, hosts []string, sends bool) string {
	var b strings.Builder
	if sends {
		b.WriteString("smtp unix - - n - - smtp\n")
	}
	for _, h := range hosts {
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		fmt.Fprintf(&b, "%s:%d inet n - n - - smtpd\n", h, port)
	}
	b.WriteString(`pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`)
	return b.String()
}

// Retry has it try again now what it could not send. It does so every second by itself, but for a message that it has
// found to be still under way: that one it puts aside for five minutes.
func (s *PostfixServer) Retry() {
	s.t.Helper()
	c, err := net.Dial("unix", filepath.Join(s.dir, "queue/public/qmgr"))
	if err != nil {
		s.t.Fatalf("have Postfix try again: %v", err)
	}
	defer c.Close()
	// To the queue manager this says: new and deferred mail, whatever its time, to all hosts.
	if _, err := io.WriteString(c, "IDAF"); err != nil {
		s.t.Fatalf("have Postfix try again: %v", err)
	}
}

// Addr6 is the address on IPv6, [::1]:port, with Postfix.IPv6.
func (s *PostfixServer) Addr6() string { return net.JoinHostPort("::1", strconv.Itoa(s.port)) }

// Messages waits until at least n messages have been delivered to the user, and gives all of them, oldest first. The
// user is a local part of the first domain, or a whole address. With n = 0 it does not wait.
func (s *PostfixServer) Messages(user string, n int) []Message {
	s.t.Helper()
	return awaitMail(s.t, s.maildir(user), n, s.Log)
}

// maildir is the folder of a user's mail.
func (s *PostfixServer) maildir(user string) string {
	local, domain, ok := strings.Cut(user, "@")
	if !ok {
		domain = s.domain
	}
	return filepath.Join(s.dir, "mail", domain, local)
}

// Log is what Postfix has logged so far.
func (s *PostfixServer) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "maillog"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Errorf("read Postfix's log: %v", err)
	}
	return string(b)
}

// AwaitLog waits until the log holds the text: a process of its own writes it, after what it tells of has happened.
func (s *PostfixServer) AwaitLog(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(startLimit); !strings.Contains(s.Log(), text); time.Sleep(pollPause) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the log lacks %q:\n%s", text, s.Log())
		}
	}
}

// Queue lists the messages that were accepted and not delivered, by the names of their files: mail to other domains, which
// this server does not send.
func (s *PostfixServer) Queue() []string {
	s.t.Helper()
	found := make(map[string]bool) // one that moves on at this moment may be seen twice
	for _, q := range []string{"incoming", "active", "deferred", "hold"} {
		err := filepath.WalkDir(filepath.Join(s.dir, "queue", q), func(path string, e os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // moved on at this moment
			}
			if err == nil && e.Type().IsRegular() {
				found[e.Name()] = true
			}
			return err
		})
		if err != nil {
			s.t.Fatalf("read Postfix's queue: %v", err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}
