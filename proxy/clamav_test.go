package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// TestClamAV has a real clamd look at mail: malware is refused although a rule accepts its sender, other mail goes on, what
// the daemon doesn't take is told, and a daemon that is gone is as on_error has it.
func TestClamAV(t *testing.T) {
	t.Parallel()
	daemon := peertest.StartClamd(t)
	rules := filepath.Join(t.TempDir(), "friend.yaml")
	src := "rules:\n  - id: FRIEND\n    action: accept\n    description: Mail of a friend.\n    when: {header: From, contains: ann}\n"
	if err := os.WriteFile(rules, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []struct{ name, body, reply, line string }{
		{name: "plain mail", body: "nothing to see", reply: "250 ", line: " by=FRIEND "},
		{name: "malware", body: "here is " + peertest.ClamdBait, line: " by=malware ",
			reply: "550 5.7.1 Message refused: the message carries malware (" + peertest.ClamdSignature + ")"},
		{name: "a large message", body: strings.Repeat(strings.Repeat("x", 70)+"\r\n", 20_000), reply: "250 ", line: "clamav.too_large:2"},
		{name: "no daemon", body: "nothing to see", reply: "451 4.7.1 ", line: " by=clamav.error "},
	}
	for _, address := range []string{"unix:" + daemon.Socket, daemon.Addr} {
		sink := peertest.StartSink(t, peertest.Sink{})
		p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
			"filters: {clamav: {address: '"+address+"', on_error: defer, scores: {too_large: 2}}, content: {packs: [], rules: ["+rules+"]}}\n", nil)
		done := steps
		if address != daemon.Addr { // the daemon is wanted once more
			done = steps[:len(steps)-1]
		}
		for _, step := range done {
			if step.name == "no daemon" {
				daemon.Stop()
			}
			client := hello(t, p.addr)
			code, text := client.Deliver("ann@good.example", []string{"alice@example.org"}, "From: ann@good.example\r\nTo: alice@example.org\r\n"+
				"Subject: file\r\nMessage-ID: <1@good.example>\r\nDate: Tue, 24 Nov 2026 08:00:00 +0000\r\n\r\n"+step.body+"\r\n")
			if got := fmt.Sprintf("%d %s", code, text); !strings.HasPrefix(got, step.reply) {
				t.Errorf("%s, %s: %q, want %q", address, step.name, got, step.reply)
			}
			client.Want("QUIT", 221)
		}
		p.stop()
		lines := p.events("message")
		if len(lines) != len(done) {
			t.Fatalf("%s: %d lines, want %d: %q", address, len(lines), len(done), lines)
		}
		for _, step := range done {
			if !strings.Contains(strings.Join(lines, "\n"), step.line) {
				t.Errorf("%s, %s: no %s in %q", address, step.name, step.line, lines)
			}
		}
	}
}
