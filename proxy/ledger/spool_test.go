package ledger

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSpoolBound has one message wait for the next hop's word, with most of what limits.spool_total allows: another large
// one is put off, a small one goes on, and when the first is done there is room again.
func TestSpoolBound(t *testing.T) {
	t.Parallel()
	b := newBook()
	h := startHop(t, pooledHop, ownAddress(t), b, nil)
	config := strings.NewReplacer("message: 20MiB", "message: 1MiB", "spool_memory: 64KiB", "spool_memory: 64KiB, spool_total: 1500KiB", "upstream_reply: 1s", "upstream_reply: 1m").Replace(commonConfig)
	p := newPostern(t, config+"dns: {servers: ['127.0.0.1:9']}\nfilters: {iprev: {enabled: false}, helo: {enabled: false}}\n"+
		"domains: [lane.example]\nupstream: [{address: 'smtp://"+h.addr+"'}]\n")
	l := &lane{domain: "lane.example", hop: h, proxy: p, book: b}
	send := func(large bool) int {
		a := l.open(point{hop: h.kind, large: large, client: &none}, "spool")
		c := l.client(false)
		c.attempt(a, b.try(a), nil)
		a.abandoned = c.last != 250
		return c.last
	}
	var held atomic.Bool
	waits, release, first := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	h.watch(func(step string) {
		if step == "dot" && held.CompareAndSwap(false, true) {
			close(waits)
			<-release
		}
	})
	go func() { first <- send(true) }()
	select {
	case <-waits:
	case <-time.After(patience):
		close(release)
		t.Fatal("the first message did not come to the next hop")
	}
	if code := send(true); code != 452 {
		t.Errorf("a message for which there is no room was answered with %d, want 452", code)
	}
	if code := send(false); code != 250 {
		t.Errorf("a small message was answered with %d, want 250", code)
	}
	close(release)
	if code := <-first; code != 250 {
		t.Errorf("the message that waited was answered with %d, want 250", code)
	}
	if code := send(true); code != 250 {
		t.Errorf("with room again a large message was answered with %d, want 250", code)
	}
	p.finish()
	b.judge(t, p.log())
}
