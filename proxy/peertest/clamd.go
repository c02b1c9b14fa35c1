package peertest

import (
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const clamdProgram = "/usr/sbin/clamd"

// ClamdSignature is what a [ClamdServer] finds in whatever holds [ClamdBait].
const (
	ClamdSignature = "Postern.Test.Carrier.UNOFFICIAL"
	ClamdBait      = "postern-test-malware"
)

// ClamdServer is a running clamd, the daemon of ClamAV.
type ClamdServer struct {
	server
	Addr   string // 127.0.0.1:port
	Socket string // path of its local socket
}

// StartClamd starts a clamd that knows one signature and takes streams of up to 1 MiB. It ends with the test.
func StartClamd(t testing.TB) *ClamdServer {
	t.Helper()
	Need(t, NeedClamd)
	dir := tempDir(t, "clamd")
	port := strconv.Itoa(freePort(t, "127.0.0.1"))
	s := &ClamdServer{Addr: net.JoinHostPort("127.0.0.1", port), Socket: filepath.Join(dir, "clamd.ctl")}
	db := filepath.Join(dir, "db")
	if err := os.Mkdir(db, 0o755); err != nil {
		t.Fatalf("make the folder of signatures: %v", err)
	}
	writeFile(t, filepath.Join(db, "test.ndb"), strings.TrimSuffix(ClamdSignature, ".UNOFFICIAL")+":0:*:"+hex.EncodeToString([]byte(ClamdBait))+"\n")
	conf := filepath.Join(dir, "clamd.conf")
	writeFile(t, conf, "Foreground yes\nDatabaseDirectory "+db+"\nTemporaryDirectory "+dir+"\nLocalSocket "+s.Socket+
		"\nTCPAddr 127.0.0.1\nTCPSocket "+port+"\nStreamMaxLength 1M\nMaxThreads 4\n")
	s.server = server{
		t: t, name: "clamd", network: "tcp", banner: s.Addr, silent: true,
		command: func() *exec.Cmd { return exec.Command(clamdProgram, "--config-file="+conf) },
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start clamd: %v", err)
	}
	return s
}
