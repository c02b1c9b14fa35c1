package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/proxy/peertest"
)

// TestReleaseToSome: where an LMTP server takes a released message for some recipients only, it stays for the others, and
// nobody gets it twice.
func TestReleaseToSome(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	broken := false // the connection breaks after alice's reply
	full := true    // bob's mailbox
	sink := peertest.StartSink(t, peertest.Sink{LMTP: true, Script: func(e peertest.Event) peertest.Answer {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case e.Verb == "." && strings.Contains(e.Line, "<bob@") && full:
			return peertest.Answer{Reply: "452 4.2.2 Mailbox full"}
		case e.Verb == "." && strings.Contains(e.Line, "<dora@") && broken:
			return peertest.Answer{Close: true}
		}
		return peertest.Answer{}
	}})
	folder := filepath.Join(t.TempDir(), "held")
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "lmtp://"+sink.Addr)+
		"quarantine: maildir:"+folder+"\nfilters: {content: {rules: [sessions.yaml], packs: []}}\n", nil)
	const message = "X-Postern-Envelope-To: <alice@example.org>\r\nFrom: carol@plain.example\r\nSubject: hold this\r\n\r\ntext\r\n"
	client := hello(t, p.addr)
	to := []string{"alice@example.org", "bob@example.org", "carl@example.org", "dora@example.org"}
	if code, text := client.Deliver("carol@plain.example", to, message); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	q, err := p.server.runtime.Load().Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	only := func(want ...string) Quarantined {
		t.Helper()
		list, err := q.List()
		if err != nil || len(list) != 1 || strings.Join(list[0].Rcpts, " ") != strings.Join(want, " ") {
			t.Fatalf("held is %+v (%v), want it for %v", list, err, want)
		}
		return list[0]
	}
	before := only(to...)
	mu.Lock()
	broken = true
	mu.Unlock()
	_, err = q.Release(t.Context(), before.ID)
	if err == nil || !strings.Contains(err.Error(), "delivered to alice@example.org, carl@example.org; it stays for the others") {
		t.Errorf("the first release: %v", err)
	}
	left := only("bob@example.org", "dora@example.org") // of dora it is not known
	if left.ID != before.ID || left.From != before.From || !left.Time.Equal(before.Time) || left.Verdict != before.Verdict {
		t.Errorf("held is %+v, was %+v", left, before)
	}
	if info, err := os.Stat(left.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}
	mu.Lock()
	broken, full = false, false
	mu.Unlock()
	if _, err := q.Release(t.Context(), before.ID); err != nil {
		t.Fatal(err)
	}
	if list, err := q.List(); err != nil || len(list) != 0 {
		t.Errorf("still there: %+v, %v", list, err)
	}
	second := sink.Wait(2)[1]
	if got := strings.Join(second.Rcpts, " "); got != "RCPT TO:<bob@example.org> RCPT TO:<dora@example.org>" {
		t.Errorf("the second release went to %s", got)
	}
	if !strings.HasSuffix(string(second.Data), "\r\n"+message) {
		t.Errorf("released as\n%s", second.Data)
	}
}
