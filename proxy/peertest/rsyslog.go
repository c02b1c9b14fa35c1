package peertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const rsyslogProgram = "/usr/sbin/rsyslogd"

// RsyslogServer is a running rsyslogd.
type RsyslogServer struct {
	server
	UDP    string // 127.0.0.1:port
	Socket string // path of its local socket
	file   string
}

// StartRsyslog starts an rsyslogd of its own, which writes what it gets into a file. It ends with the test.
func StartRsyslog(t testing.TB) *RsyslogServer {
	t.Helper()
	Need(t, NeedRsyslog)
	dir := tempDir(t, "rsyslog")
	port := strconv.Itoa(freePort(t, "127.0.0.1"))
	s := &RsyslogServer{UDP: net.JoinHostPort("127.0.0.1", port), Socket: filepath.Join(dir, "log"), file: filepath.Join(dir, "got")}
	conf := filepath.Join(dir, "rsyslog.conf")
	writeFile(t, conf, fmt.Sprintf(`global(workDirectory=%[1]q)
module(load="imudp")
module(load="imuxsock" SysSock.Use="off")
input(type="imudp" address="127.0.0.1" port=%[2]q)
input(type="imuxsock" socket=%[3]q)
template(name="entry" type="string" string="%%programname%%/%%syslogfacility-text%%/%%syslogseverity-text%%/%%msgid%% %%msg%%\n")
action(type="omfile" file=%[4]q template="entry")
`, dir, port, s.Socket, s.file))
	s.server = server{
		t: t, name: "rsyslog", network: "unixgram", banner: s.Socket, silent: true,
		command: func() *exec.Cmd {
			return exec.Command(rsyslogProgram, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
		},
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start rsyslogd: %v", err)
	}
	return s
}

// Entries are what it wrote so far: a line "PROGRAM/FACILITY/SEVERITY/MSGID TEXT" for each entry.
func (s *RsyslogServer) Entries() []string {
	s.t.Helper()
	raw, err := os.ReadFile(s.file)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatalf("read what rsyslogd wrote: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
}
