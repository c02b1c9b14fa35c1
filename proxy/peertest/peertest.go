// Package peertest starts real servers for tests: Postfix, Dovecot's LMTP, Exim and OpenSMTPD for mail, nginx and HAProxy
// to stand in front, rsyslogd and the journal of systemd to log to, from Debian's packages, and a recording SMTP sink that lives in the test's own process. It also holds the two clients that tests
// talk through: swaks, and a raw socket client that sends exactly the bytes it is told to.
//
// Every server gets a folder of its own for configuration, queue and mail, listens on loopback only, asks no DNS and
// sends nothing on, so that several can run at the same time without knowing of each other. Each ends with the test
// that started it.
//
// The Debian packages need root: Postfix changes to its own users. [Need] skips a test where a program or root is
// missing, and fails it instead where POSTERN_CI=1 says that everything must be there.
package peertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The things that [Need] knows. Each names the Debian package that brings it.
const (
	NeedRoot      = "root"
	NeedSwaks     = "swaks"
	NeedPostfix   = "postfix"
	NeedDovecot   = "dovecot-lmtpd"
	NeedExim      = "exim4"
	NeedOpenSMTPD = "opensmtpd"
	NeedNginx     = "nginx"
	NeedNginxMail = "nginx-mail"
	NeedHAProxy   = "haproxy"
	NeedOpenDKIM  = "opendkim"
	NeedRsyslog   = "rsyslog"
	NeedClamd     = "clamav-daemon"
)

// Need skips the test, with a message that says what to install, unless all that is named is there: "swaks", "postfix",
// "dovecot-lmtpd", "exim4", "opensmtpd", "nginx", "nginx-mail", "haproxy", "rsyslog", "clamav-daemon", "root", or any other program in the path. The mail servers imply root.
// With POSTERN_CI=1 in the environment the test fails instead, so that no run counts as complete that left out a peer.
func Need(t testing.TB, what ...string) {
	t.Helper()
	var missing []string
	for _, w := range what {
		if m := lacks(w); m != "" {
			missing = append(missing, m)
		}
	}
	if len(missing) == 0 {
		return
	}
	msg := "integration test left out: " + strings.Join(missing, "; ")
	if os.Getenv("POSTERN_CI") == "1" {
		t.Fatalf("%s (POSTERN_CI=1: nothing may be left out)", msg)
	}
	t.Skip(msg)
}

// lacks says why w cannot be used, or "" if it can.
func lacks(w string) string {
	root := ""
	if os.Geteuid() != 0 {
		root = w + " needs root"
	}
	switch w {
	case NeedRoot:
		if root != "" {
			return "this test needs root"
		}
		return ""
	case NeedPostfix:
		return firstOf(root, missingFile(postfixMaster, "postfix"))
	case NeedDovecot:
		return firstOf(root, missingFile(dovecotProgram, "dovecot-lmtpd"), missingFile(dovecotLMTP, "dovecot-lmtpd"), wrongDovecot())
	case NeedExim:
		return firstOf(root, missingTree(eximTree, eximProgram))
	case NeedOpenSMTPD:
		return firstOf(root, missingTree("opensmtpd", smtpdProgram))
	case NeedNginx:
		return firstOf(missingFile(nginxProgram, "nginx"), missingFile(nginxStream, "libnginx-mod-stream"))
	case NeedNginxMail:
		return firstOf(missingFile(nginxProgram, "nginx"), missingFile(nginxMail, "libnginx-mod-mail"))
	case NeedOpenDKIM:
		return firstOf(root, missingFile(opendkimProgram, "opendkim"))
	case NeedHAProxy:
		return missingFile(haproxyProgram, "haproxy")
	case NeedClamd:
		return missingFile(clamdProgram, "clamav-daemon")
	case NeedRsyslog:
		return missingFile(rsyslogProgram, "rsyslog")
	}
	if _, err := exec.LookPath(w); err != nil {
		pkg := w
		if brought, ok := packageOf[w]; ok {
			pkg = brought
		}
		return fmt.Sprintf("no program %s (Debian package %s; test.sh installs it)", w, pkg)
	}
	return ""
}

// packageOf names the Debian packages of programs that are called otherwise.
var packageOf = map[string]string{
	"promtool":         "prometheus",
	"fail2ban-regex":   "fail2ban",
	"systemd-analyze":  "systemd",
	"systemd-sysusers": "systemd",
	"systemd-tmpfiles": "systemd",
	"rsyslogd":         "rsyslog",
}

func firstOf(reasons ...string) string {
	for _, r := range reasons {
		if r != "" {
			return r
		}
	}
	return ""
}

func missingFile(path, pkg string) string {
	if _, err := os.Stat(path); err != nil {
		return fmt.Sprintf("no %s (Debian package %s; test.sh installs it)", path, pkg)
	}
	return ""
}

// tempDir makes a folder that the servers' own users can reach, which that of [testing.TB.TempDir] is not, and whose
// path is short enough for a Unix socket inside it. It is removed when the test ends.
func tempDir(t testing.TB, name string) string {
	t.Helper()
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(base) > 32 || !reachable(base) {
			continue
		}
		dir, err := os.MkdirTemp(base, "peer-"+name+"-")
		if err != nil {
			continue
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatalf("open %s to the servers' users: %v", dir, err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Errorf("remove %s: %v", dir, err)
			}
		})
		return dir
	}
	t.Fatal("no temp folder that other users can reach: tried TMPDIR, /tmp and /var/tmp")
	return ""
}

// reachable says whether users other than the owner can walk down to dir.
func reachable(dir string) bool {
	for {
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// freePort finds a TCP port that is free on each of the hosts. It looks below the range from which the system takes
// the ports of outgoing connections, so that a stopped server finds its port free again when it is started. Test
// programs that run at the same time look in different places, and no port is given out twice before its test has ended.
func freePort(t testing.TB, hosts ...string) int {
	t.Helper()
	first := 12000 + os.Getpid()%20*1000
	for range 500 {
		port := first + rand.IntN(1000)
		if _, taken := portsTaken.LoadOrStore(port, true); !taken && portIsFree(port, hosts) {
			t.Cleanup(func() { portsTaken.Delete(port) }) // registered before that of the server, and so run after it
			return port
		}
	}
	t.Fatalf("no free port found between %d and %d", first, first+1000)
	return 0
}

// portsTaken are the ports that freePort has given out to tests that run, or found in use.
var portsTaken sync.Map

func portIsFree(port int, hosts []string) bool {
	for _, h := range hosts {
		l, err := net.Listen("tcp", net.JoinHostPort(h, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// writeFile writes a configuration file that every user can read. Its time lies in the past: Postfix reads a main.cf
// that is younger than a second over and over again until it is older, lest it saw half of it.
func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatalf("write the server's file: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatalf("open the server's file to its users: %v", err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatalf("date the server's file back: %v", err)
	}
}
