package ledger

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deaths are the ways in which the name servers fail. Which one it is stands in the name that is asked for, or, in the
// names for addresses, in the third octet of the address.
var deaths = []string{
	"silent", "refused", "servfail", "garbage", "empty", "otherid", "otherquestion", "truncated", "slow", "once", "loop", "huge",
}

// A nameServer is one that fails as the names say.
type nameServer struct {
	addr string
	udp  *dns.Server
	tcp  *dns.Server

	mu    sync.Mutex
	asked map[string]bool
	died  map[string]int // questions by way of failing
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	n := &nameServer{addr: ownAddress(t), asked: make(map[string]bool), died: make(map[string]int)}
	pc, err := net.ListenPacket("udp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	n.udp = &dns.Server{PacketConn: pc, Handler: n}
	n.tcp = &dns.Server{Listener: l, Handler: n}
	for _, s := range []*dns.Server{n.udp, n.tcp} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() {
			if err := s.ActivateAndServe(); err != nil {
				t.Errorf("name server: %v", err)
			}
		}()
		<-started
	}
	return n
}

// stop ends it.
func (n *nameServer) stop(t *testing.T) {
	t.Helper()
	for _, s := range []*dns.Server{n.udp, n.tcp} {
		if err := s.Shutdown(); err != nil {
			t.Errorf("name server: %v", err)
		}
	}
}

// first reports whether a question comes for the first time.
func (n *nameServer) first(q dns.Question) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := q.String()
	known := n.asked[key]
	n.asked[key] = true
	return !known
}

func death(name string) string {
	labels := dns.SplitDomainName(strings.ToLower(name))
	for _, l := range labels {
		if slices.Contains(deaths, l) {
			return l
		}
	}
	if i := slices.Index(labels, "in-addr"); i == 4 {
		var third int
		if _, err := fmt.Sscan(labels[1], &third); err == nil && third < len(deaths) {
			return deaths[third]
		}
	}
	return ""
}

// ServeDNS implements dns.Handler.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	raw := []byte(nil)
	how := death(name)
	n.mu.Lock()
	n.died[how]++
	n.mu.Unlock()
	switch how {
	case "silent":
		return
	case "refused":
		m.Rcode = dns.RcodeRefused
	case "servfail":
		m.Rcode = dns.RcodeServerFailure
	case "garbage":
		raw = []byte("this is no message of the domain name system")
	case "empty":
		raw = []byte{}
	case "otherid":
		m.Id++
	case "otherquestion":
		m.Question[0].Name = "elsewhere.example."
	case "truncated":
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
			_ = w.Close() // and no more is to be had by TCP
			return
		}
		m.Truncated = true
	case "slow":
		pause(200 * time.Millisecond)
		m.Rcode = dns.RcodeServerFailure
	case "once":
		if !n.first(q.Question[0]) {
			return
		}
		m.Rcode = dns.RcodeServerFailure
	case "loop":
		m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 60}, Target: name}}
	case "huge":
		for i := range 300 {
			m.Answer = append(m.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60},
				Txt: []string{fmt.Sprintf("v=spf1 include:%d.%s -all", i, strings.TrimSuffix(name, "."))},
			})
		}
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
			m.Answer, m.Truncated = nil, true
		}
	}
	if raw != nil {
		_, _ = w.Write(raw) // who asked may be gone
		return
	}
	_ = w.WriteMsg(m)
}

// TestNameServersDie lets the name servers fail in every way while mail comes: none of it is refused for that.
func TestNameServersDie(t *testing.T) {
	t.Parallel()
	b := newBook()
	h := startHop(t, pooledHop, ownAddress(t), b, nil)
	names := startNameServer(t)
	p := newPostern(t, strings.Replace(commonConfig, "limits: {", "limits: {banner_wait: 0s, ", 1)+
		"dns: {servers: ['"+names.addr+"'], timeout: 300ms}\ndomains: [lane.example]\n"+
		"filters: {dnsbl: {lists: [{zone: list.example, refuse: true}, {zone: domains.example, of: [helo, mail, from]}]}}\n"+
		"upstream: [{address: 'smtp://"+h.addr+"'}]\n", "GOMEMLIMIT=64MiB")
	l := &lane{domain: "lane.example", hop: h, proxy: p, book: b}
	rounds := 1
	if full {
		rounds = 8
	}
	var wg sync.WaitGroup
	for n, how := range deaths {
		wg.Go(func() {
			for round := range rounds {
				l.withNames(how, net.IPv4(127, 128, byte(n), byte(1+round)))
			}
		})
	}
	wg.Wait()
	names.stop(t)
	for _, how := range deaths {
		if names.died[how] == 0 {
			b.miss("name server: " + how)
		}
	}
	for round := range 2 * rounds {
		l.withNames("nobody answers", net.IPv4(127, 128, 100, byte(1+round)))
	}
	p.finish()
	b.report(t, "Name servers that fail", "faults", p.log())
}

// withNames sends a message all of whose names are subject to a way of failing.
func (l *lane) withNames(how string, from net.IP) {
	id := newID("dns")
	domain := strings.ReplaceAll(how, " ", "-") + ".example"
	sender := id + "." + domain
	message := fmt.Appendf(nil, "DKIM-Signature: v=1; a=rsa-sha256; d=%s; s=key; h=from:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n", domain)
	message = append(message, strings.ReplaceAll(string(point{}.message(id)), "book@sender.example", "book@"+sender)...)
	a := l.book.open(id, cause{where: "name server", kind: how, name: "name server: " + how}, []string{"first." + id + "@" + l.domain}, message)
	a.fired = true
	c := l.client(false)
	c.local, c.from, c.helo = from, "book@"+sender, "mail."+sender
	c.deliver(a, nil)
}
