package peertest

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const haproxyProgram = "/usr/sbin/haproxy"

// HAProxy says how [StartHAProxy] configures its proxy.
type HAProxy struct {
	Upstream string // host:port of the SMTP server behind it; it must be running
	Proxy    int    // the version of the PROXY header that each connection to it begins with: 1, 2, or 0 for none
	Server   string // more words for its line of the server
	Config   string // in place of all that; ADDR in it is where it listens
}

// HAProxyServer is a running HAProxy.
type HAProxyServer struct {
	server
	Addr string // 127.0.0.1:port
}

// StartHAProxy starts an HAProxy that passes TCP connections on to an SMTP server. It ends with the test.
func StartHAProxy(t testing.TB, opt HAProxy) *HAProxyServer {
	t.Helper()
	Need(t, NeedHAProxy)
	dir := tempDir(t, "haproxy")
	s := &HAProxyServer{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))}
	proxy := map[int]string{1: "send-proxy", 2: "send-proxy-v2"}[opt.Proxy] + " " + opt.Server
	text := fmt.Sprintf(haproxyConf, s.Addr, opt.Upstream, proxy)
	if opt.Config != "" {
		text = strings.ReplaceAll(opt.Config, "ADDR", s.Addr)
	}
	conf := filepath.Join(dir, "haproxy.cfg")
	writeFile(t, conf, text)
	s.server = server{
		t: t, name: "HAProxy", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd { return exec.Command(haproxyProgram, "-db", "-f", conf) },
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start HAProxy: %v", err)
	}
	return s
}

const haproxyConf = `
global
	maxconn 2000
	log stdout format raw local0
defaults
	mode tcp
	timeout connect 30s
	timeout client 10m
	timeout server 10m
listen smtp
	bind %s
	log global
	option log-health-checks
	option smtpchk EHLO balancer.example
	unique-id-format %%ci:%%cp:%%pid
	server mail %s %s
`
