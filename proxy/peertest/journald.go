package peertest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const journaldProgram = "/usr/lib/systemd/systemd-journald"

// JournaldServer is a running systemd-journald.
type JournaldServer struct {
	server
	Socket string // takes entries by the native protocol
	folder string
}

// journaldScript gives journald a /run of its own, so that it touches neither the machine's journal nor its kernel log.
const journaldScript = `mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d &&
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\nForwardToSyslog=no\nForwardToWall=no\nRateLimitBurst=0\n' >/run/systemd/journald.conf.d/test.conf &&
exec ` + journaldProgram

// StartJournald starts a systemd-journald of its own in a mount namespace. The test is skipped where systemd is not
// installed or no namespace can be made, as in many containers. It ends with the test.
func StartJournald(t testing.TB) *JournaldServer {
	t.Helper()
	Need(t, NeedRoot)
	for _, p := range []string{journaldProgram, "/usr/bin/journalctl", "/etc/machine-id"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("no journal to try: %v", err)
		}
	}
	if out, err := exec.Command("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/run").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace can be made here: %v: %s", err, out)
	}
	dir := tempDir(t, "journald")
	link := filepath.Join(dir, "run")
	s := &JournaldServer{Socket: filepath.Join(link, "systemd/journal/socket"), folder: filepath.Join(link, "log/journal")}
	pidFile := filepath.Join(dir, "pid")
	s.server = server{
		t: t, name: "journald", network: "unixgram", banner: s.Socket, silent: true,
		command: func() *exec.Cmd {
			return exec.Command("unshare", "-m", "/bin/sh", "-c", "echo $$ >"+pidFile+"; "+journaldScript)
		},
	}
	t.Cleanup(s.Stop)
	s.before = func() error { return linkToRun(pidFile, link) }
	if err := s.start(); err != nil {
		t.Fatalf("start journald: %v", err)
	}
	return s
}

// linkToRun makes the /run of the process whose id stands in a file reachable by a link: a path of a socket is short.
func linkToRun(pidFile, link string) error {
	if _, err := os.Lstat(link); err == nil {
		return nil
	}
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return fmt.Errorf("the process id of journald: %w", err)
	}
	return os.Symlink(fmt.Sprintf("/proc/%d/root/run", pid), link)
}

// Entries are those in the journal that have a field with a value.
func (s *JournaldServer) Entries(field, value string) []map[string]any {
	s.t.Helper()
	out, err := exec.Command("journalctl", "-D", s.folder, "-o", "json", "--no-pager", "-q", field+"="+value).Output()
	if err != nil {
		return nil // the file may be half written: the caller asks again
	}
	var list []map[string]any
	for line := range strings.Lines(string(out)) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			s.t.Fatalf("journalctl printed %q: %v", line, err)
		}
		list = append(list, entry)
	}
	return list
}
