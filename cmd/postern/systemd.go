package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postern/proxy"
)

// firstSocket is the file descriptor of the first socket that systemd passes (sd_listen_fds(3)).
const firstSocket = 3

// maxSockets bounds how many are believed.
const maxSockets = 64

// inheritedSockets gives the listening sockets that systemd started the process with. The environment that tells of
// them is removed, so that it is not told to anyone else.
func inheritedSockets() ([]proxy.Inherited, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // they are meant for another process, or there are none
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("LISTEN_FDS is %q, expected a number of sockets up to %d", count, maxSockets)
	}
	var all []proxy.Inherited
	for i := range n {
		fd := firstSocket + i
		unix.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "inherited")
		l, err := net.FileListener(file)
		err = errors.Join(err, file.Close()) // the listener has a copy
		if err != nil {
			return nil, fmt.Errorf("the inherited file descriptor %d is not a listening socket: %w", fd, err)
		}
		if _, ok := l.(*net.TCPListener); !ok {
			return nil, errors.Join(fmt.Errorf("the inherited socket %s is not one for TCP, expected ListenStream= with a port", l.Addr()), l.Close())
		}
		in := proxy.Inherited{Listener: l}
		if i < len(names) {
			in.Name = names[i]
		}
		all = append(all, in)
	}
	return all, nil
}

// A notifier tells systemd how the service is (sd_notify(3)). Where nobody wants to know, it does nothing.
type notifier struct {
	address  string
	watchdog time.Duration // how often systemd wants to hear from us; 0 for never
}

func newNotifier() *notifier {
	n := &notifier{address: os.Getenv("NOTIFY_SOCKET")}
	pid := os.Getenv("WATCHDOG_PID")
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 63); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"} {
		os.Unsetenv(name)
	}
	return n
}

// tell sends one message of assignments. An address that begins with @ is an abstract one.
func (n *notifier) tell(assignments ...string) error {
	if n.address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: n.address})
	if err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("telling systemd: %w", err)
	}
	return nil
}

// reloading says that a reload begins, and when: systemd wants to know that it is not one of before it asked.
func (n *notifier) reloading() error {
	if n.address == "" {
		return nil
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return n.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// keepAlive answers the watchdog as long as alive does, until done is closed.
func (n *notifier) keepAlive(done <-chan struct{}, alive func()) {
	if n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(n.watchdog / 3)
	defer tick.Stop()
	for {
		alive()
		// One message that is lost is made up for by the next.
		_ = n.tell("WATCHDOG=1")
		select {
		case <-tick.C:
		case <-done:
			return
		}
	}
}
