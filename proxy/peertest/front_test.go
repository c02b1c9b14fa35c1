package peertest

import (
	"strings"
	"testing"
)

// What goes through a proxy in front arrives, and the sink sees whom the proxy names.
func TestFronts(t *testing.T) {
	cases := []struct {
		name  string
		proxy bool
		start func(t *testing.T, upstream string) string
	}{
		{name: "nginx", start: func(t *testing.T, upstream string) string {
			return StartNginx(t, Nginx{Upstream: upstream}).Addr
		}},
		{name: "nginx with PROXY", proxy: true, start: func(t *testing.T, upstream string) string {
			return StartNginx(t, Nginx{Upstream: upstream, Proxy: true}).Addr
		}},
		{name: "HAProxy", start: func(t *testing.T, upstream string) string {
			return StartHAProxy(t, HAProxy{Upstream: upstream}).Addr
		}},
		{name: "HAProxy with PROXY 1", proxy: true, start: func(t *testing.T, upstream string) string {
			return StartHAProxy(t, HAProxy{Upstream: upstream, Proxy: 1}).Addr
		}},
		{name: "HAProxy with PROXY 2", proxy: true, start: func(t *testing.T, upstream string) string {
			return StartHAProxy(t, HAProxy{Upstream: upstream, Proxy: 2}).Addr
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			sink := StartSink(t, Sink{Proxy: tc.proxy})
			c := Dial(t, tc.start(t, sink.Addr))
			c.Expect(220)
			c.Want("EHLO client.example", 250)
			if code, text := c.Deliver("carol@example.com", []string{"alice@example.org"}, "Subject: x\r\n\r\ntext\r\n"); code != 250 {
				t.Fatalf("%d %s", code, text)
			}
			c.Want("QUIT", 221)
			tx := sink.Wait(1)[0]
			if named := strings.HasPrefix(tx.Source, "127.0.0.1"); named != tc.proxy {
				t.Errorf("the sink was told of the client %q", tx.Source)
			}
		})
	}
}
