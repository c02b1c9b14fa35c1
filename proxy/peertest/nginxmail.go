package peertest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
)

const nginxMail = "/usr/lib/nginx/modules/ngx_mail_module.so"

// NginxMail says how [StartNginxMail] configures its proxy. It speaks SMTP itself up to the first RCPT, and tells the
// server behind of the client by XCLIENT, or by a PROXY header of version 1, or by both.
type NginxMail struct {
	Upstream string // host:port of the SMTP server behind it; it must be running
	XClient  bool
	Proxy    bool
}

// StartNginxMail starts an nginx whose mail module passes SMTP on to a server, as which the test answers for every
// recipient. It ends with the test.
func StartNginxMail(t testing.TB, opt NginxMail) *NginxServer {
	t.Helper()
	Need(t, NeedNginxMail)
	host, port, err := net.SplitHostPort(opt.Upstream)
	if err != nil {
		t.Fatalf("the server behind nginx: %v", err)
	}
	// nginx asks by HTTP, at the first RCPT, where the mail is to go.
	guide := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", host)
		w.Header().Set("Auth-Port", port)
	}))
	t.Cleanup(guide.Close)
	onOff := map[bool]string{true: "on", false: "off"}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t, "127.0.0.1")))
	return startNginx(t, addr, func(dir string) string {
		return fmt.Sprintf(nginxMailConf, nginxMail, filepath.Join(dir, "pid"), guide.Listener.Addr(), addr, onOff[opt.XClient], onOff[opt.Proxy])
	})
}

const nginxMailConf = `
load_module %s;
pid %s;
daemon off;
events {
	worker_connections 256;
}
mail {
	server_name front.example;
	auth_http %s/;
	proxy_pass_error_message on;
	server {
		listen %s;
		protocol smtp;
		smtp_auth none;
		smtp_capabilities PIPELINING 8BITMIME;
		xclient %s;
		proxy_protocol %s;
	}
}
`
