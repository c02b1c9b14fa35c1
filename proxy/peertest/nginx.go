package peertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	nginxProgram = "/usr/sbin/nginx"
	nginxStream  = "/usr/lib/nginx/modules/ngx_stream_module.so"
)

// Nginx says how [StartNginx] configures its proxy.
type Nginx struct {
	Upstream string // host:port of the SMTP server behind it; it must be running
	Proxy    bool   // begin each connection to it with a PROXY header of version 1
	Workers  int    // processes; 1 if zero
	Stream   string // the block "stream", in place of one for Upstream; ADDR in it is where it listens
}

// NginxServer is a running nginx.
type NginxServer struct {
	server
	Addr string // 127.0.0.1:port
	dir  string
}

// StartNginx starts an nginx whose stream module passes TCP connections on to an SMTP server, without reading what is
// said on them. It ends with the test.
func StartNginx(t testing.TB, opt Nginx) *NginxServer {
	t.Helper()
	Need(t, NeedNginx)
	proxy := "off"
	if opt.Proxy {
		proxy = "on"
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))
	stream := fmt.Sprintf(nginxStreamConf, opt.Upstream, proxy)
	if opt.Stream != "" {
		stream = opt.Stream
	}
	return startNginx(t, addr, func(dir string) string {
		return fmt.Sprintf(nginxConf, nginxStream, max(1, opt.Workers), filepath.Join(dir, "pid")) + strings.ReplaceAll(stream, "ADDR", addr)
	})
}

// startNginx starts an nginx that will greet at addr, with the configuration for its folder.
func startNginx(t testing.TB, addr string, config func(dir string) string) *NginxServer {
	t.Helper()
	dir := tempDir(t, "nginx")
	s := &NginxServer{Addr: addr, dir: dir}
	conf := filepath.Join(dir, "nginx.conf")
	writeFile(t, conf, config(dir))
	s.server = server{
		t: t, name: "nginx", network: "tcp", banner: s.Addr,
		command: func() *exec.Cmd {
			return exec.Command(nginxProgram, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf)
		},
	}
	t.Cleanup(s.Stop)
	if err := s.start(); err != nil {
		t.Fatalf("start nginx: %v\n%s", err, s.Log())
	}
	return s
}

const nginxConf = `
load_module %s;
worker_processes %d;
pid %s;
daemon off;
events {
	worker_connections 4096;
}
`

const nginxStreamConf = `
stream {
	server {
		listen ADDR;
		proxy_pass %s;
		proxy_protocol %s;
	}
}
`

// Log is what nginx has logged so far: errors only.
func (s *NginxServer) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "error.log"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Errorf("read nginx's log: %v", err)
	}
	return string(b)
}
