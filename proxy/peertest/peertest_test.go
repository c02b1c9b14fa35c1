package peertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fakeTB records how a test would have ended.
type fakeTB struct {
	testing.TB
	fatal, skip string
}

func (f *fakeTB) Helper() {}
func (f *fakeTB) Skip(args ...any) {
	f.skip = fmt.Sprint(args...)
	runtime.Goexit()
}
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestNeed(t *testing.T) {
	for _, tc := range []struct {
		name, ci, what string
		fatal, skip    bool
	}{
		{name: "there", what: "sh"},
		{name: "missing", what: "no-such-program", skip: true},
		{name: "missing where nothing may be left out", ci: "1", what: "no-such-program", fatal: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("POSTERN_CI", tc.ci)
			f := &fakeTB{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				Need(f, tc.what)
			}()
			<-done
			if (f.fatal != "") != tc.fatal || (f.skip != "") != tc.skip {
				t.Errorf("fails with %q, skips with %q", f.fatal, f.skip)
			}
			if (tc.fatal || tc.skip) && !strings.Contains(f.fatal+f.skip, tc.what) {
				t.Errorf("the message does not name what is missing: %q", f.fatal+f.skip)
			}
		})
	}
}

func TestNeedNamesUnpackedServers(t *testing.T) {
	t.Setenv("POSTERN_PEERS", t.TempDir())
	if got := missingTree(eximTree, eximProgram); !strings.Contains(got, "test.sh") {
		t.Errorf("a missing tree is explained with %q", got)
	}
	tree := filepath.Join(os.Getenv("POSTERN_PEERS"), eximTree)
	for _, f := range []string{"complete", eximProgram} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, f), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := missingTree(eximTree, eximProgram); got != "" {
		t.Errorf("a tree that is there is called missing: %q", got)
	}
}

func TestMessageHeader(t *testing.T) {
	m := Message{Raw: []byte("Received: from a\n\tby b\nSubject: x\nreceived: second\n\nReceived: body\n")}
	got := m.Header("Received")
	if len(got) != 2 || got[0] != "from a\tby b" || got[1] != "second" {
		t.Errorf("Received is %q", got)
	}
	if want := "Received: from a\r\n\tby b\r\n"; !strings.HasPrefix(string(m.Data()), want) {
		t.Errorf("with CRLF it is %q", m.Data())
	}
}

func TestStartingAServerThatEndsIsAnError(t *testing.T) {
	Need(t, NeedRoot)
	dir := tempDir(t, "broken")
	p, err := startProcess(chrooted("/", "bin/sh", "-c", "echo no configuration in "+dir+"; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	err = p.awaitBanner("127.0.0.1:1", func() error { return greets("tcp", "127.0.0.1:1", "") })
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no configuration in "+dir) {
		t.Errorf("the error is %v", err)
	}
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("stopping it gives %v", err)
	}
}

// However the test's process ends, the pipe to the guard ends with it; closing the pipe is the same to the guard.
func TestServerEndsWithTheTestsProcess(t *testing.T) {
	p, err := startProcess(exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.guardPipe.Close(); err != nil {
		t.Error(err)
	}
	<-p.done
	if err := errors.Join(p.dismissGuard(), p.killGroup(), p.out.Close()); err != nil {
		t.Error(err)
	}
}

// The ports of a test that has ended are there for the next ones, however often tests are run.
func TestPortsComeBack(t *testing.T) {
	for range 4 {
		t.Run("some", func(t *testing.T) {
			for range 300 {
				freePort(t, "127.0.0.1")
			}
		})
	}
}
