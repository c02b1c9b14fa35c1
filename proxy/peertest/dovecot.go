package peertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	dovecotProgram = "/usr/sbin/dovecot"
	dovecotLMTP    = "/usr/lib/dovecot/lmtp"
)

// wrongDovecot says why the installed version cannot be used, or "": the language of its configuration is new in 2.4.
var wrongDovecot = sync.OnceValue(func() string {
	out, err := exec.Command(dovecotProgram, "--version").Output()
	if err != nil {
		return fmt.Sprintf("%s --version: %v", dovecotProgram, err)
	}
	if version := strings.TrimSpace(string(out)); !strings.HasPrefix(version, "2.3.") {
		return fmt.Sprintf("Dovecot is %s, and the tests configure 2.3 (Debian 12)", version)
	}
	return ""
})

// Dovecot says how [StartDovecot] configures its server. The zero value knows alice@ and bob@example.org.
type Dovecot struct {
	Users []string // whole addresses; alice@example.org and bob@example.org if empty

	// Full names users, whole addresses, whose mailbox has no room: a recipient that LMTP accepts at RCPT and
	// refuses, alone, after the final dot.
	Full []string

	XClient       bool // it believes XCLIENT from the loopback
	ProxyProtocol bool // each TCP connection must begin with a PROXY header
}

// DovecotServer is a running Dovecot that speaks LMTP.
type DovecotServer struct {
	server
	Addr   string // 127.0.0.1:port
	Socket string // path of the Unix socket
	dir    string
}

// StartDovecot starts a Dovecot (2.3) that serves LMTP on TCP and on a Unix socket and delivers to Maildirs. Unknown
// users are refused at RCPT with 550 5.1.1. It ends with the test.
func StartDovecot(t testing.TB, opt Dovecot) *DovecotServer {
	t.Helper()
	Need(t, NeedDovecot)
	if len(opt.Users) == 0 {
		opt.Users = []string{"alice@example.org", "bob@example.org"}
	}
	dir := tempDir(t, "dovecot")
	port := freePort(t, "127.0.0.1")
	s := &DovecotServer{dir: dir, Socket: filepath.Join(dir, "lmtp.sock")}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	mailUser := ids(t, "nobody")
	mail := filepath.Join(dir, "mail")
	if err := os.Mkdir(mail, 0o755); err != nil {
		t.Fatalf("make the mail folder: %v", err)
	}
	if err := os.Chown(mail, mailUser.uid, mailUser.gid); err != nil {
		t.Fatalf("give the mail folder to its user: %v", err)
	}
	conf := filepath.Join(dir, "dovecot.conf")
	writeFile(t, filepath.Join(dir, "users"), dovecotUsers(opt))
	writeFile(t, conf, dovecotConf(opt, dir, port, mailUser))
	s.server = server{
		t: t, name: "Dovecot", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd {
			cmd := exec.Command(dovecotProgram, "-F", "-c", conf)
			cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
			cmd.Dir = dir
			return cmd
		},
	}
	if opt.ProxyProtocol {
		s.preface = proxyPreface
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start Dovecot: %v\n%s", err, s.Log())
	}
	return s
}

// dovecotUsers is a passwd file. Its last column carries settings of the user's own.
func dovecotUsers(opt Dovecot) string {
	var b strings.Builder
	for _, u := range opt.Users {
		fmt.Fprintf(&b, "%s:{PLAIN}unused::::::\n", u)
	}
	for _, u := range opt.Full {
		fmt.Fprintf(&b, "%s:{PLAIN}unused::::::userdb_quota_rule=*:bytes=1\n", u)
	}
	return b.String()
}

func dovecotConf(opt Dovecot, dir string, port int, mailUser idPair) string {
	trusted, haproxy := "", "no"
	if opt.XClient {
		trusted = "127.0.0.0/8"
	}
	if opt.ProxyProtocol {
		haproxy = "yes"
	}
	return strings.NewReplacer(
		"TRUSTED", trusted, "HAPROXY", haproxy,
		"DIR", dir, "PORT", strconv.Itoa(port), "UID", strconv.Itoa(mailUser.uid), "GID", strconv.Itoa(mailUser.gid),
	).Replace(`
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
instance_name = peer
protocols = lmtp
listen = 127.0.0.1
ssl = no
hostname = lmtp.example.org
postmaster_address = postmaster@example.org
disable_plaintext_auth = no
login_trusted_networks = TRUSTED
haproxy_trusted_networks = 127.0.0.0/8

mail_location = maildir:DIR/mail/%d/%n
mail_uid = UID
mail_gid = GID
first_valid_uid = 1
mail_plugins = quota
plugin {
  quota = maildir:User quota
  quota_full_tempfail = no
  quota_grace = 0
}

passdb {
  driver = passwd-file
  args = username_format=%u DIR/users
}
userdb {
  driver = passwd-file
  args = username_format=%u DIR/users
  default_fields = uid=UID gid=GID home=DIR/mail/%d/%n
}

service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = PORT
    haproxy = HAPROXY
  }
  unix_listener DIR/lmtp.sock {
    mode = 0666
  }
}
`)
}

// Messages waits until at least n messages have been delivered to the address, and gives all of them, oldest first.
func (s *DovecotServer) Messages(address string, n int) []Message {
	s.t.Helper()
	local, domain, _ := strings.Cut(address, "@")
	return awaitMail(s.t, filepath.Join(s.dir, "mail", domain, local), n, s.Log)
}

// Log is what Dovecot has logged so far.
func (s *DovecotServer) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Errorf("read Dovecot's log: %v", err)
	}
	return string(b)
}
