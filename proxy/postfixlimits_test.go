package proxy

import (
	"fmt"
	"testing"

	"postern/proxy/peertest"
)

// TestPostfixCountsConnections: what docs/reliability.md says of Postfix's limits for strangers. Postern's own address
// falls under them unless it is exempt; with XCLIENT Postfix counts the clients that it is told of, each by itself, and
// one that is over the limit does not make the server behind look out of order to the others.
func TestPostfixCountsConnections(t *testing.T) {
	t.Parallel()
	const limit, held = 2, 5
	one := func(int) string { return "192.0.2.10" }
	for name, tc := range map[string]struct {
		exempt  string
		xclient []string
		info    string
		client  func(i int) string
		taken   bool // all of them; else no more than the limit
	}{
		"not exempt":                {info: "none", client: one},
		"exempt":                    {info: "none", client: one, exempt: "127.0.0.0/8", taken: true},
		"XCLIENT, one client":       {info: "xclient", client: one, xclient: []string{"127.0.0.0/8"}},
		"XCLIENT, a client for one": {info: "xclient", client: func(i int) string { return fmt.Sprint("192.0.2.", 20+i) }, xclient: []string{"127.0.0.0/8"}, taken: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			postfix := peertest.StartPostfix(t, peertest.Postfix{XClient: tc.xclient, Parameters: map[string]string{
				"smtpd_client_connection_count_limit": fmt.Sprint(limit), "smtpd_client_event_limit_exceptions": tc.exempt,
			}})
			p := startTestProxy(t, fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: '127.0.0.1:0', xclient: [127.0.0.1]}]\n"+
				"networks: {trusted: [192.0.2.0/24]}\nfilters: {iprev: {enabled: false}, helo: {enabled: false}}\nupstream: [{address: 'smtp://%s', client_info: %s}]\ndns: {servers: ['%s']}\n",
				postfix.Addr, tc.info, testZone(t)), withoutPacks)
			come := func(ip string) (code int) {
				client := hello(t, p.addr)
				client.Want("XCLIENT ADDR="+ip, 220)
				client.Want("EHLO client.example", 250)
				client.Want("MAIL FROM:<carol@plain.example>", 250)
				code, _ = client.Cmd("RCPT TO:<alice@example.org>")
				return code
			}
			taken := 0
			for i := range held {
				switch code := come(tc.client(i)); code {
				case 250:
					taken++
				case 451:
				default:
					t.Errorf("client %d heard %d", i, code)
				}
			}
			if tc.taken != (taken == held) || !tc.taken && taken > limit {
				t.Errorf("%d of %d taken\n%s", taken, held, postfix.Log())
			}
			if down := len(p.events("upstream_down")) > 0; down && tc.info == "xclient" {
				t.Errorf("the server behind counts as down: %v", p.events("upstream_down"))
			}
			if tc.info == "xclient" && come("192.0.2.99") != 250 {
				t.Error("another client is turned away too")
			}
		})
	}
}
