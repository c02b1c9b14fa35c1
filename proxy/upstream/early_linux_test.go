package upstream

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
)

// A dotConn tells when the final dot was handed to the system.
type dotConn struct {
	*net.TCPConn
	once   sync.Once
	dotted chan struct{}
}

func (c *dotConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	if err == nil && bytes.HasSuffix(p, []byte(".\r\n")) {
		c.once.Do(func() { close(c.dotted) })
	}
	return n, err
}

// TestReplyBeforeTheDotArrives has a server reply when the final dot was written, and read no further until then. The
// message is in the buffers of the two systems, and the server's word counts only where its own system has all of it.
func TestReplyBeforeTheDotArrives(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  int
		reply string
		taken bool
		code  int
	}{
		{name: "accepted with the end under way", size: 100_000, reply: "250 2.0.0 Ok\r\n"},
		{name: "refused with the end under way", size: 100_000, reply: "552 5.3.4 Too big\r\n", code: 552}, // it needs no end for that
		{name: "accepted with the end in its hands", size: 100, reply: "250 2.0.0 Ok\r\n", code: 250},
	} {
		for _, scheme := range []string{"smtp", "lmtp"} {
			t.Run(scheme+"/"+tc.name, func(t *testing.T) {
				t.Parallel()
				dotted := make(chan struct{})
				s := &server{lmtp: scheme == "lmtp", room: 4096, hooks: map[string]hook{"body": func(p *peer, _ string) bool {
					select {
					case <-dotted:
						p.say(tc.reply)
						p.untilClosed()
					case <-p.s.stopped:
					}
					return false
				}}}
				s.start(t)
				u := newUpstream(t, Config{Address: scheme + "://" + s.addr(), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					var d net.Dialer
					c, err := d.DialContext(ctx, network, address)
					if err != nil {
						return nil, err
					}
					tcp := c.(*net.TCPConn)
					return &dotConn{TCPConn: tcp, dotted: dotted}, tcp.SetWriteBuffer(200_000)
				}})
				c := mustOpen(t, u, Client{})
				result, err := deliver(context.Background(), c, text(strings.Repeat("a line that has its end\r\n", tc.size/25)), alice)
				if tc.code != 0 {
					if err != nil || result.Reply.Code != tc.code {
						t.Fatalf("got %v, %v; expected %d", result, err, tc.code)
					}
					return
				}
				if e := wantError(t, err, "data", true); !errors.Is(e, ErrProtocol) || c.Alive() {
					t.Fatalf("got %v, alive %v; expected %v", err, c.Alive(), ErrProtocol)
				}
			})
		}
	}
}
