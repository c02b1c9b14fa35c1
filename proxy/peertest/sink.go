package peertest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Sink says how [StartSink] serves. The zero value takes every message.
type Sink struct {
	LMTP     bool     // LHLO, and one reply per recipient after the final dot (RFC 2033)
	Hostname string   // sink.example if empty
	Keywords []string // of the EHLO reply; SinkKeywords if nil, none if empty
	TLS      *tls.Config
	Implicit bool   // TLS from the first byte (smtps), instead of STARTTLS
	Proxy    bool   // each connection must begin with a PROXY header
	Unix     string // listen on this Unix socket instead of TCP

	// Script answers an event in place of the sink. It is called without locks and may block; it must allow calls
	// from several connections at once. Nil, or a zero Answer, is the usual reply.
	Script func(Event) Answer

	// BytesAt makes the sink ask Script with the verb BYTES once that many octets of a message have come.
	BytesAt int
}

// SinkKeywords is what the sink offers after EHLO unless told otherwise. STARTTLS is added where it has TLS.
var SinkKeywords = []string{"PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}

// Event is a step of a session that a script may answer.
type Event struct {
	Conn int    // the connection's number, from 1
	Verb string // CONNECT, a command's verb in upper case, BYTES, "." for the message (per recipient with LMTP), or EOF
	Line string // the command as sent, without CRLF; with LMTP the recipient's RCPT line for "."
	Tx   Transaction
}

// Answer is what a script says to an event.
type Answer struct {
	Reply string // lines separated by CRLF, without the last CRLF: "550 5.1.1 No such user"
	Raw   string // sent as it is, in place of Reply
	Close bool   // close the connection, after the reply if there is one
	Reset bool   // the same with a TCP reset
	Quiet bool   // say nothing and go on
}

// Transaction is what one MAIL command began.
type Transaction struct {
	Conn    int
	Helo    string   // the whole EHLO, HELO or LHLO line
	Mail    string   // the MAIL line
	Rcpts   []string // the RCPT lines that were accepted
	Refused []string // the RCPT lines that were refused
	Data    []byte   // the message with dots unstuffed, without the final dot: exactly the octets of the wire otherwise
	TLS     bool
	Source  string   // the client's address in the PROXY header
	Extra   []string // XCLIENT and XFORWARD lines since the connection began
	Replies []string // what the sink said to the message: one, or one per recipient with LMTP
}

// SinkServer is a running sink. It runs in the test's process and is safe for concurrent use.
type SinkServer struct {
	Addr string // 127.0.0.1:port, or the path of the Unix socket

	t       testing.TB
	cfg     Sink
	network string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	opened   int
	commands []string
	done     []Transaction
	changed  chan struct{} // closed and renewed with every completed transaction
	wg       sync.WaitGroup
}

// StartSink starts an SMTP server that records every transaction, accepts what its script does not refuse, and
// delivers nothing. It ends with the test.
func StartSink(t testing.TB, cfg Sink) *SinkServer {
	t.Helper()
	if cfg.Hostname == "" {
		cfg.Hostname = "sink.example"
	}
	if cfg.Keywords == nil {
		cfg.Keywords = SinkKeywords
	}
	s := &SinkServer{t: t, cfg: cfg, network: "tcp", conns: map[net.Conn]struct{}{}, changed: make(chan struct{})}
	s.Addr = "127.0.0.1:" + fmt.Sprint(freePort(t, "127.0.0.1"))
	if cfg.Unix != "" {
		s.network, s.Addr = "unix", cfg.Unix
	}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// Start listens again, at the same address, after Stop.
func (s *SinkServer) Start() {
	s.t.Helper()
	l, err := net.Listen(s.network, s.Addr)
	// Another test program may be trying whether the port is free for it.
	for deadline := time.Now().Add(30 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		l, err = net.Listen(s.network, s.Addr)
	}
	if err != nil {
		s.t.Fatalf("start the sink: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = l
	s.wg.Go(func() { s.serve(l) })
}

// Stop closes the listener and every connection, and waits for their goroutines. A script that blocks holds it up.
func (s *SinkServer) Stop() {
	s.mu.Lock()
	if s.listener != nil {
		s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *SinkServer) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed by Stop
		}
		s.mu.Lock()
		if s.listener != l {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.opened++
		n := s.opened
		s.conns[c] = struct{}{}
		s.wg.Go(func() {
			newSinkConn(s, c, n).run()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.conns, c)
		})
		s.mu.Unlock()
	}
}

// Transactions gives every transaction whose message was answered, in the order of the answers.
func (s *SinkServer) Transactions() []Transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.done)
}

// Wait gives the transactions as soon as there are at least n.
func (s *SinkServer) Wait(n int) []Transaction {
	s.t.Helper()
	limit := time.NewTimer(deliveryLimit)
	defer limit.Stop()
	for {
		s.mu.Lock()
		done, changed := slices.Clone(s.done), s.changed
		s.mu.Unlock()
		if len(done) >= n {
			return done
		}
		select {
		case <-changed:
		case <-limit.C:
			s.t.Fatalf("the sink saw %d messages within %v, want %d; commands: %q", len(done), deliveryLimit, n, s.Commands())
		}
	}
}

// Commands gives every command line of all connections, in the order of arrival.
func (s *SinkServer) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// Connections counts the connections that were accepted since the sink was made.
func (s *SinkServer) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// Open counts the connections that are open now.
func (s *SinkServer) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *SinkServer) record(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = append(s.commands, line)
}

func (s *SinkServer) finish(tx Transaction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, tx)
	close(s.changed)
	s.changed = make(chan struct{})
}
