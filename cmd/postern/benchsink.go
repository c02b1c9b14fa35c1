package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// A benchSink is the mail server behind the proxy under load: it takes everything, keeps nothing and counts.
type benchSink struct {
	inner net.Listener
	taken atomic.Int64
	work  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

func startBenchSink() (*benchSink, error) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &benchSink{inner: inner, conns: make(map[net.Conn]bool)}
	s.work.Go(s.accept)
	return s, nil
}

func (s *benchSink) addr() string { return s.inner.Addr().String() }

// close ends all connections and waits for what served them.
func (s *benchSink) close() {
	s.mu.Lock()
	s.closed = true
	s.inner.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.work.Wait()
}

func (s *benchSink) accept() {
	for {
		conn, err := s.inner.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a connection that was reset before it could be had
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.conns[conn] = true
		s.mu.Unlock()
		s.work.Go(func() { s.serve(conn) })
	}
}

func (s *benchSink) forget(conn net.Conn) {
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
	conn.Close()
}

const benchBuffer = 64 << 10 // longer than any line

// The sink's replies. They are written when no further command is waiting, as RFC 2920 has it.
var (
	sinkEHLO = []byte("250-sink.localhost\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n")
	sinkOK   = []byte("250 2.0.0 Ok\r\n")
	sinkData = []byte("354 Go ahead\r\n")
	sinkBye  = []byte("221 2.0.0 Bye\r\n")
	sinkHi   = []byte("220 sink.localhost ESMTP\r\n")
)

func (s *benchSink) serve(conn net.Conn) {
	defer s.forget(conn)
	in, out := bufio.NewReaderSize(conn, benchBuffer), bufio.NewWriter(conn)
	out.Write(sinkHi)
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(bytes.ToUpper(line[:4])) {
		case "EHLO":
			out.Write(sinkEHLO)
		case "DATA":
			out.Write(sinkData)
			if out.Flush() != nil || !skipData(in) {
				return
			}
			s.taken.Add(1)
			out.Write(sinkOK)
		case "QUIT":
			out.Write(sinkBye)
			out.Flush()
			return
		default:
			out.Write(sinkOK)
		}
	}
}

// skipData reads a message to its final dot.
func skipData(in *bufio.Reader) bool {
	start := true // of a line
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			start = false
			continue
		}
		if err != nil {
			return false
		}
		if start && string(line) == ".\r\n" {
			return true
		}
		start = true
	}
}
