package peertest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startLimit is how long a server may take to say its banner, and stopLimit how long to end after SIGTERM.
// Both are bounds on a machine that is busy, not waits: each step goes on as soon as it can.
const (
	startLimit = 30 * time.Second
	stopLimit  = 15 * time.Second
	pollPause  = 10 * time.Millisecond
)

// process is one server program in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	out  *os.File      // what it and its children print; without a name
	done chan struct{} // closed when the program has ended

	guard     *exec.Cmd
	guardPipe io.Closer
}

// guardScript ends a process group once its standard input ends: when the test's process is gone, however it went.
// (The kernel's parent death signal would not do, since a program that changes its user loses it.)
const guardScript = `read -r none; kill -s TERM -- "-$1"; sleep 2; kill -s KILL -- "-$1"`

// proxyPreface is what is sent to a server that wants a PROXY header before it greets.
const proxyPreface = "PROXY TCP4 127.0.0.1 127.0.0.1 40000 25\r\n"

// startProcess runs a program that stays in the foreground, and a guard that ends it with the test's process.
func startProcess(cmd *exec.Cmd) (*process, error) {
	// A file and not a pipe: waiting for the program must not mean waiting for the children that hold the other end.
	out, err := os.CreateTemp("", "peer-console-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the output of %s: %w", cmd.Path, err)
	}
	if err := os.Remove(out.Name()); err != nil {
		return nil, fmt.Errorf("unlink the file for the output of %s: %w", cmd.Path, errors.Join(err, out.Close()))
	}
	p := &process{cmd: cmd, out: out, done: make(chan struct{})}
	cmd.Stdin = nil
	cmd.Stdout = out
	cmd.Stderr = out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := adoptOrphans(); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", errors.Join(err, out.Close()))
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, errors.Join(err, out.Close()))
	}
	go func() {
		_ = cmd.Wait() // the exit status is in cmd.ProcessState, and SIGTERM is no failure
		close(p.done)
	}()
	if err := p.startGuard(); err != nil {
		return nil, errors.Join(err, p.terminate(), p.killGroup(), out.Close())
	}
	return p, nil
}

func (p *process) startGuard() error {
	p.guard = exec.Command("/bin/sh", "-c", guardScript, "sh", strconv.Itoa(p.cmd.Process.Pid))
	p.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := p.guard.StdinPipe()
	if err != nil {
		return fmt.Errorf("make the pipe to the guard of %s: %w", p.cmd.Path, err)
	}
	p.guardPipe = pipe
	if err := p.guard.Start(); err != nil {
		return fmt.Errorf("start the guard of %s: %w", p.cmd.Path, errors.Join(err, pipe.Close()))
	}
	return nil
}

// dismissGuard ends the guard before it can act. The group that it guards may be gone already.
func (p *process) dismissGuard() error {
	if err := p.guard.Process.Kill(); err != nil {
		return fmt.Errorf("dismiss the guard of %s: %w", p.cmd.Path, err)
	}
	_ = p.guard.Wait()      // reports that it was killed
	_ = p.guardPipe.Close() // Wait has closed it
	return nil
}

// stop asks the program to end, and kills it if it does not. That it had ended before is an error.
func (p *process) stop() error {
	var failure error
	if p.ended() {
		failure = fmt.Errorf("%s had ended by itself (%v):\n%s", p.cmd.Path, p.cmd.ProcessState, p.output())
	} else {
		failure = p.terminate()
	}
	return errors.Join(p.dismissGuard(), failure, p.killGroup(), p.out.Close())
}

func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.cmd.Path, err)
	}
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-p.done:
		return nil
	case <-limit.C:
		_ = p.cmd.Process.Kill() // fails only if it has just ended
		return fmt.Errorf("%s did not end within %v of SIGTERM", p.cmd.Path, stopLimit)
	}
}

// killGroup ends what the program left behind in its process group, which only its own children can be in, and waits
// until they are gone, so that nobody writes into the server's folder any more. The program itself has ended.
func (p *process) killGroup() error {
	<-p.done
	group := p.cmd.Process.Pid
	deadline := time.Now().Add(stopLimit)
	for syscall.Kill(-group, syscall.SIGKILL) == nil { // until the group is empty
		// As their subreaper we inherit them. ECHILD: those that are left still have a parent, which is dying.
		if _, err := syscall.Wait4(-group, nil, 0, nil); err != nil && time.Now().After(deadline) {
			return fmt.Errorf("children of %s outlive it: %w", p.cmd.Path, err)
		} else if err != nil {
			time.Sleep(pollPause)
		}
	}
	return nil
}

// adoptOrphans makes this process the one that inherits the children of servers that have ended.
var adoptOrphans = sync.OnceValue(func() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
})

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// awaitBanner waits until probe finds the server at addr answering, or its program has ended.
func (p *process) awaitBanner(addr string, probe func() error) error {
	deadline := time.Now().Add(startLimit)
	var last error
	for time.Now().Before(deadline) {
		if p.ended() {
			return fmt.Errorf("%s ended at once (%v):\n%s", p.cmd.Path, p.cmd.ProcessState, p.output())
		}
		if last = probe(); last == nil {
			return nil
		}
		time.Sleep(pollPause)
	}
	return fmt.Errorf("%s does not answer at %s: %w\n%s", p.cmd.Path, addr, last, p.output())
}

// greets opens a connection, reads the greeting, and leaves politely.
func greets(network, addr, preface string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(preface)); err != nil {
		return err
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	if !strings.HasPrefix(string(buf[:n]), "220") {
		return fmt.Errorf("greeting is %q, not 220", buf[:n])
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// listens opens a connection and closes it again.
func listens(network, addr string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// output is what the program has printed so far. The children share the file's offset, so it is read by position.
func (p *process) output() string {
	b, err := io.ReadAll(io.NewSectionReader(p.out, 0, 16<<20))
	if err != nil {
		return fmt.Sprintf("(its output cannot be read: %v)", err)
	}
	return string(b)
}

// server is what all the programs have in common: one process, at one address, that can be stopped and started again.
type server struct {
	t       testing.TB
	name    string
	command func() *exec.Cmd
	network string // of the address that is polled for the banner
	banner  string
	preface string       // what a client must send before the server greets it
	silent  bool         // it speaks another protocol: that it takes connections must do
	before  func() error // what must be done before it can be polled; tried until it succeeds
	proc    *process
}

// start starts the program and waits for its banner.
func (s *server) start() error {
	proc, err := startProcess(s.command())
	if err != nil {
		return err
	}
	probe := func() error {
		if s.before != nil {
			if err := s.before(); err != nil {
				return err
			}
		}
		if s.silent {
			return listens(s.network, s.banner)
		}
		return greets(s.network, s.banner, s.preface)
	}
	if err := proc.awaitBanner(s.banner, probe); err != nil {
		return errors.Join(err, proc.dismissGuard(), proc.terminate(), proc.killGroup(), proc.out.Close())
	}
	s.proc = proc
	return nil
}

// Start starts the server again after [server.Stop], at the same address and with the mail that it had.
func (s *server) Start() {
	s.t.Helper()
	if s.proc != nil {
		s.t.Fatalf("%s is running already", s.name)
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("start %s: %v", s.name, err)
	}
}

// Stop ends the server and every session with it. Stopping a stopped server does nothing.
func (s *server) Stop() {
	s.t.Helper()
	if s.proc == nil {
		return
	}
	if err := s.proc.stop(); err != nil {
		s.t.Errorf("stop %s: %v", s.name, err)
	}
	s.proc = nil
}

// Log is what the server has printed since it was started last. Those that log elsewhere have a method of their own.
func (s *server) Log() string {
	if s.proc == nil {
		return ""
	}
	return s.proc.output()
}
