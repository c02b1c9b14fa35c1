package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/proxy/upstream"
)

// A mailServer is the server behind the demo's proxy: it knows a few recipients and has a Maildir for each.
type mailServer struct {
	server *smtp.Server
	inner  net.Listener
	dir    string
	known  []string
	done   chan struct{}
}

func startMailServer(dir string, recipients ...string) (*mailServer, error) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &mailServer{inner: inner, dir: dir, known: recipients, done: make(chan struct{})}
	m.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &mailSession{server: m}, nil
	}))
	m.server.Domain = "mail.example.org"
	m.server.EnableSMTPUTF8, m.server.EnableDSN = true, true
	go func() {
		defer close(m.done)
		_ = m.server.Serve(inner) // ends with Close
	}()
	return m, nil
}

func (m *mailServer) addr() string { return m.inner.Addr().String() }

func (m *mailServer) close() {
	m.server.Close()
	<-m.done
}

type mailSession struct {
	server *mailServer
	rcpts  []string
}

func (s *mailSession) Reset()        { s.rcpts = nil }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !slices.Contains(s.server.known, strings.ToLower(to)) {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user here: " + to}
	}
	s.rcpts = append(s.rcpts, strings.ToLower(to))
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	queued := ""
	for _, rcpt := range s.rcpts {
		box := upstream.NewMaildir(filepath.Join(s.server.dir, strings.ReplaceAll(rcpt, "/", "_")), "demo")
		if err := box.Create(); err != nil {
			return err
		}
		if queued, err = box.Deliver(context.Background(), strings.NewReader(string(raw)), nil); err != nil {
			return err
		}
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: fmt.Sprintf("Ok: queued as %s", queued)}
}
