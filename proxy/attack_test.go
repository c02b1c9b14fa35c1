package proxy

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"postern/proxy/peertest"
)

// sessionEnd finds who a session was with, and why it ended.
var sessionEnd = regexp.MustCompile(` reason=("[^"]*"|\S+) .* helo="([^"]*)"`)

// TestAttacks: each attack is ended by the limit that is meant for it, with a reply, and nothing is left running.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, timed := range []bool{false, true} {
		t.Run(fmt.Sprintf("timed=%v", timed), func(t *testing.T) {
			t.Parallel()
			sink := peertest.StartSink(t, peertest.Sink{})
			cert := peertest.NewCert(t, "mx.example.org")
			limits := "limits: {message: 256KiB, commands: 200, recipients: 20}\n"
			if timed {
				limits = "limits: {idle: 2s, session: 6s, handshake: 2s}\n"
			}
			p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), fmt.Sprintf("    tls: {cert: %s, key: %s}\n", cert.CertFile, cert.KeyFile),
				"smtp://"+sink.Addr)+limits+"networks: {trusted: [127.0.0.1]}\n", withoutPacks)
			var all sync.WaitGroup
			var deaf sync.Map // connections that are kept open until the server has ended them
			defer func() {
				deaf.Range(func(c, _ any) bool { return c.(io.Closer).Close() == nil })
			}()
			attacks := map[string]peertest.Attack{}
			for _, a := range peertest.Attacks() {
				if a.Timed != timed {
					continue
				}
				attacks[a.Host()] = a
				all.Go(func() {
					if open := attack(t, a, p.addr); open != nil {
						deaf.Store(open, true)
					}
				})
			}
			all.Wait()
			for _, line := range p.sessions(len(attacks)) {
				m := sessionEnd.FindStringSubmatch(line)
				if m == nil {
					t.Errorf("a session that is nobody's: %s", line)
					continue
				}
				a, ours := attacks[m[2]]
				if reason := strings.Trim(m[1], `"`); !ours || !regexp.MustCompile(a.Reason).MatchString(reason) {
					t.Errorf("%s ended with %q, expected %s", m[2], reason, a.Reason)
				}
				delete(attacks, m[2])
			}
			for name := range attacks {
				t.Errorf("there is no session of %s", name)
			}
			if n := len(sink.Transactions()); n != 0 {
				t.Errorf("%d messages were delivered", n)
			}
			if spooled, kept := p.server.spooled.Load(), p.server.kept.Load(); spooled != 0 || kept != 0 {
				t.Errorf("%d bytes are still spooled, %d of them in memory", spooled, kept)
			}
		})
	}
}

// attack runs one, and wants the reply that it names where it hears one. It gives the connection of a client that does not listen.
func attack(t *testing.T, a peertest.Attack, addr string) io.Closer {
	out := a.Run(addr)
	if out.Err != nil {
		t.Errorf("%s: %v", a.Name, out.Err)
	}
	if out.Last != "" && out.Open == nil && !regexp.MustCompile(a.Reply).MatchString(out.Last) {
		t.Errorf("%s: the last line heard is %q, expected %s", a.Name, out.Last, a.Reply)
	}
	return out.Open
}
