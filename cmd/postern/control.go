package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The control socket is how postern reload reaches the proxy that serves: a Unix socket that only its own user (and
// root) may open. One connection carries one request and one answer, a JSON value each.

const (
	controlRequest = 64 << 10         // octets of a request
	controlWait    = 10 * time.Second // for the request
	controlAnswer  = 10 * time.Minute // for the answer: the tests in the rule files run, the upstreams are asked
)

// A controlOrder is what is asked of the proxy.
type controlOrder struct {
	Do     string `json:"do"`     // "reload"
	Config string `json:"config"` // the file that is meant, absolute; "" for the embedded one
}

// A controlResult is the answer.
type controlResult struct {
	Error     string   `json:"error,omitempty"` // why it was not done
	Warnings  []string `json:"warnings,omitempty"`
	Listening []string `json:"listening,omitempty"`
	Rules     int      `json:"rules,omitempty"`
}

// A controlServer answers on a control socket.
type controlServer struct {
	listener *net.UnixListener
	path     string
	answer   func(context.Context, controlOrder) controlResult
	wg       sync.WaitGroup
}

// listenControl binds the socket. One that a process left behind that is gone is replaced.
func listenControl(path string, answer func(context.Context, controlOrder) controlResult) (*controlServer, error) {
	bad := func(err error) (*controlServer, error) {
		return nil, fmt.Errorf("cannot make the control socket %s: %w", path, err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return bad(errors.New("another Postern answers there"))
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return bad(errors.New("there is a file of that name that is no socket"))
	}
	// Made where nobody else can reach it, closed to others, and only then moved to its place.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".ctl")
	if err != nil {
		return bad(err)
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: made})
	if err != nil {
		return bad(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return bad(errors.Join(err, l.Close()))
	}
	return &controlServer{listener: l, path: path, answer: answer}, nil
}

// serve answers one request after the other until close is called.
func (s *controlServer) serve(ctx context.Context) {
	s.wg.Go(func() {
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			s.handle(ctx, conn)
		}
	})
}

func (s *controlServer) handle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	if conn.SetReadDeadline(time.Now().Add(controlWait)) != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // who does not ask does not hold up the end
	var order controlOrder
	result := controlResult{Error: "the request is not one that this version understands"}
	err := json.NewDecoder(&limitedReader{r: conn, left: controlRequest}).Decode(&order)
	if !stop() {
		return
	}
	if err == nil && order.Do == "reload" {
		result = s.answer(ctx, order)
	}
	if conn.SetWriteDeadline(time.Now().Add(controlWait)) != nil {
		return
	}
	// One who is gone needs no answer.
	_ = json.NewEncoder(conn).Encode(result)
}

// limitedReader fails beyond a number of octets.
type limitedReader struct {
	r    net.Conn
	left int
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("the request is too long")
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func (s *controlServer) close() {
	// What can fail here leaves a socket behind that the next start replaces.
	_ = os.Remove(s.path)
	_ = s.listener.Close()
	s.wg.Wait()
}

// askControl sends one order to the proxy that serves and waits for what came of it.
func askControl(ctx context.Context, path string, order controlOrder) (controlResult, error) {
	var result controlResult
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return result, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(controlAnswer)); err != nil {
		return result, err
	}
	if err := json.NewEncoder(conn).Encode(order); err != nil {
		return result, err
	}
	if err := json.NewDecoder(conn).Decode(&result); err != nil {
		return result, fmt.Errorf("reading the answer: %w", err)
	}
	return result, nil
}
