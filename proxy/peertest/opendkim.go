package peertest

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

const opendkimProgram = "/usr/sbin/opendkim"

// OpenDKIMServer is a running opendkim, a milter.
type OpenDKIMServer struct {
	server
	Addr string // 127.0.0.1:port
}

// StartOpenDKIM starts an opendkim that verifies the mail that it is shown, and signs what a client on loopback sends
// from the domain with the key in that file, as s1. It writes its results whatever they are, under that name, and knows
// no keys but those in keys ("NAME RECORD" a line). It ends with the test.
func StartOpenDKIM(t testing.TB, name, domain, keyFile, keys string) *OpenDKIMServer {
	t.Helper()
	Need(t, NeedOpenDKIM)
	dir := tempDir(t, "opendkim")
	port := strconv.Itoa(freePort(t, "127.0.0.1"))
	s := &OpenDKIMServer{Addr: net.JoinHostPort("127.0.0.1", port)}
	conf := filepath.Join(dir, "opendkim.conf")
	writeFile(t, filepath.Join(dir, "keys"), keys)
	writeFile(t, conf, "Syslog no\nRequireSafeKeys no\nBackground no\nMode sv\nAlwaysAddARHeader yes\nSelector s1\n"+
		"AuthservID "+name+"\nDomain "+domain+"\nKeyFile "+keyFile+"\nTestPublicKeys "+filepath.Join(dir, "keys")+"\n"+
		"Socket inet:"+port+"@127.0.0.1\nUserID root\n")
	s.server = server{
		t: t, name: "opendkim", network: "tcp", banner: s.Addr, silent: true,
		command: func() *exec.Cmd { return exec.Command(opendkimProgram, "-f", "-x", conf) },
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start opendkim: %v", err)
	}
	return s
}
