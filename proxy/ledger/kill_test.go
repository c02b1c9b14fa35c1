package ledger

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestKills kills the program again and again while clients send, at random moments and at each step of a delivery, and
// starts it on the same store and at the same address. Now and then it is ended by SIGTERM instead, which does not count.
func TestKills(t *testing.T) {
	t.Parallel()
	kills, programs := 15, 1
	if testing.Short() {
		kills = 8
	}
	if full {
		kills, programs = 500, 4
	}
	kills = number("POSTERN_KILLS", kills)
	all := &bag{outcomes: newTally(), kills: make(map[string]int)}
	t.Cleanup(func() { all.publish(t) })
	for n := range programs {
		share := kills / programs
		if n == 0 {
			share += kills % programs
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			newBattue(t, n).run(share, all)
		})
	}
}

// A bag is what all battues have brought in.
type bag struct {
	mu       sync.Mutex
	outcomes *tally
	kills    map[string]int // by moment
}

func (all *bag) add(outcomes *tally, kills map[string]int) {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.outcomes.merge(outcomes)
	for moment, n := range kills {
		all.kills[moment] += n
	}
}

// publish prints how often the program was killed at which moment, and what became of the messages under way.
func (all *bag) publish(t *testing.T) {
	table, total := newTally(), 0
	for moment, n := range all.kills {
		total += n
		row := fmt.Sprintf("%s: %d times", moment, n)
		table.points[row] = all.outcomes.points[moment]
		table.counts[row] = all.outcomes.counts[moment]
	}
	publish(t, fmt.Sprintf("The program killed %d times, and ended %d times by SIGTERM", total-all.kills[termination], all.kills[termination]), table.table("when", "messages under way"))
}

// A battue is a number of clients that send without pause to a program that is killed without pause.
type battue struct {
	t       *testing.T
	random  *rand.Rand
	book    *book
	program *postern
	hops    []*hop
	domains []string
	kills   map[string]int // by moment

	mu     sync.Mutex
	moment string // at which the program will be killed next
	kill   func()

	over atomic.Bool
	done atomic.Int32 // messages
}

// termination is the moment at which the program is not killed, but asked to end.
const termination = "SIGTERM at any time"

// The moments at which the program is killed. What stands behind "next hop: " is one of the hop's steps, before it does
// what follows there; "taken" is between taking a message and saying so, "after" comes when it has said so.
var moments = []string{
	"any time", "any time", "any time", termination,
	"client: STARTTLS", "client: handshake", "next hop: STARTTLS", "next hop: handshake", "next hop: EHLO", "next hop: MAIL", "next hop: RCPT 1", "next hop: DATA", "next hop: header", "next hop: before the dot",
	"next hop: dot", "next hop: dot 2", "next hop: taken", "next hop: after", "client: final dot", "client: reply",
}

func newBattue(t *testing.T, n int) *battue {
	b := &battue{t: t, random: rand.New(rand.NewPCG(uint64(seed), uint64(n))), book: newBook(), kills: make(map[string]int)}
	var routes strings.Builder
	kinds := []hopKind{pooledHop, personalHop, requiredHop, impliedHop, lmtpHop}
	addrs, cert := hopAddresses(t, len(kinds))
	for i, kind := range kinds {
		h := startHop(t, kind, addrs[i], b.book, cert.ServerConfig())
		h.watch(func(step string) { b.at("next hop: " + strings.TrimSuffix(step, " again")) })
		b.hops = append(b.hops, h)
		b.domains = append(b.domains, fmt.Sprintf("lane%d.example", i))
		fmt.Fprintf(&routes, "  - {domains: [%s], upstream: [{address: '%s://%s'%s}]}\n", b.domains[i], kind.scheme, h.addr, kind.options)
	}
	b.program = newPostern(t, commonConfig+"dns: {servers: ['127.0.0.1:9']}\ndomains: ["+strings.Join(b.domains, ", ")+"]\n"+
		"filters: {iprev: {enabled: false}, helo: {enabled: false}, content: {packs: []}}\n"+
		"upstream: [{address: 'smtp://"+b.hops[0].addr+"'}]\nroutes:\n"+routes.String(), "SSL_CERT_FILE="+cert.CertFile, "GOMEMLIMIT=64MiB")
	return b
}

// clientsEach is how many clients a battue has.
const clientsEach = 6

func (b *battue) run(kills int, all *bag) {
	var clients sync.WaitGroup
	for n := range clientsEach {
		r := rand.New(rand.NewPCG(uint64(seed), b.random.Uint64()))
		clients.Go(func() {
			for !b.over.Load() {
				b.send(n, r)
			}
		})
	}
	for kills > 0 {
		moment := moments[b.random.IntN(len(moments))]
		if moment != termination {
			kills--
		}
		if !b.strike(moment) {
			break
		}
	}
	b.over.Store(true)
	b.await("") // no more kills
	clients.Wait()
	b.program.finish()
	log := b.program.log()
	if strings.Contains(log, "event=store_moved_aside") {
		b.t.Error("the store did not survive a kill")
	}
	outcomes, _ := b.book.judge(b.t, log)
	all.add(outcomes, b.kills)
}

// await sets the moment of the next kill, and gives what is closed when it has come.
func (b *battue) await(moment string) <-chan struct{} {
	killed := make(chan struct{})
	var once sync.Once
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moment = moment
	b.kill = func() {
		once.Do(func() {
			b.program.kill()
			close(killed)
		})
	}
	return killed
}

// at is told of every step, on either side. If it is the one that is waited for, the program is dead when at returns.
func (b *battue) at(step string) {
	b.mu.Lock()
	kill := b.kill
	due := b.moment != "" && b.moment == step
	b.mu.Unlock()
	if due {
		kill()
	}
}

// strike ends the program at a moment and starts it again.
func (b *battue) strike(moment string) bool {
	b.letThrough(2)
	killed := b.await(moment)
	b.kills[moment]++
	if strings.HasSuffix(moment, "any time") {
		pause(time.Duration(b.random.IntN(30_000)) * time.Microsecond)
		if moment == termination {
			b.program.finish()
		} else {
			b.program.kill()
		}
	} else {
		select {
		case <-killed:
		case <-time.After(patience):
			b.t.Errorf("the moment %q did not come", moment)
			b.program.kill()
		}
	}
	b.await("")
	b.book.hit(moment)
	b.program.quiet()
	if err := b.program.tryStart(); err != nil {
		b.t.Errorf("after a kill: %v", err)
		b.over.Store(true)
		return false
	}
	return true
}

// letThrough waits until so many messages have come to their end.
func (b *battue) letThrough(n int32) {
	goal := b.done.Load() + n
	for limit := time.Now().Add(patience); b.done.Load() < goal && time.Now().Before(limit); {
		pause(time.Millisecond)
	}
}

// send sends one message until it has its final answers. Now and then client or next hop do wrong as well.
func (b *battue) send(n int, r *rand.Rand) {
	lane := r.IntN(len(b.hops))
	id := newID("k")
	p := point{large: r.IntN(40) == 0, client: &none}
	a := b.book.open(id, cause{where: none.step, kind: none.kind, name: "kill"},
		[]string{"first." + id + "@" + b.domains[lane], "second." + id + "@" + b.domains[lane]}, p.message(id))
	c := &client{
		addr: b.program.addr, local: net.IPv4(127, 0, 0, byte(1+n)), from: "book@sender.example", helo: "mail.sender.example",
		book: b.book, at: func(step string) { b.at("client: " + step) }, secure: r.IntN(3) == 0,
	}
	var fault *clientFault
	switch r.IntN(8) {
	case 0:
		b.hops[lane].arm(&hopFault{step: []string{"dot", "dot 1", "dot 2"}[r.IntN(3)], kind: "close", took: true})
	case 1:
		b.hops[lane].arm(&hopFault{step: "after", kind: "reset"})
	case 2:
		fault = &clientFault{step: "unread reply", kind: "close"}
	case 3:
		fault = &clientFault{step: "final dot", kind: []string{"close", "reset"}[r.IntN(2)]}
	}
	c.deliver(a, fault)
	b.done.Add(1)
}
