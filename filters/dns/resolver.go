package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
)

// A Resolver asks recursive servers and remembers what they said. It is safe for concurrent use.
type Resolver struct {
	cfg     Config
	offline bool
	servers []*server
	cache   *cache

	ctx   context.Context // ends with Close; its cause is ErrClosed
	close context.CancelCauseFunc
	slots chan struct{} // one for each look-up on the wire
	work  sync.WaitGroup

	counters atomic.Pointer[Counters]
	pulse    pulse

	mu      sync.Mutex
	closed  bool
	flights map[question]*flight
}

// New makes a resolver. It asks nothing yet; the error is about cfg or /etc/resolv.conf.
func New(cfg Config) (*Resolver, error) {
	if cfg.Timeout < 0 || cfg.Retry < 0 || cfg.Concurrent < 0 || cfg.CacheBytes < 0 {
		return nil, errors.New("dns: timeout, retry, concurrent and cache bytes can't be negative")
	}
	cfg = cfg.withDefaults()
	addrs, err := serverAddrs(cfg.Servers)
	if err != nil {
		return nil, err
	}
	c, err := newCache(cfg.Cache, cfg.CacheBytes)
	if err != nil {
		return nil, fmt.Errorf("dns: cache: %w", err)
	}
	r := &Resolver{
		cfg:     cfg,
		cache:   c,
		slots:   make(chan struct{}, cfg.Concurrent),
		flights: make(map[question]*flight),
	}
	for _, a := range addrs {
		r.servers = append(r.servers, &server{addr: a})
	}
	r.ctx, r.close = context.WithCancelCause(context.Background())
	r.counters.Store(&Counters{})
	return r, nil
}

// Offline gives a resolver that answers every look-up with [NoNetwork] and asks nobody. It need not be closed.
func Offline() *Resolver { return &Resolver{offline: true} }

// Close ends all look-ups under way (they fail with [ErrClosed]) and closes the sockets.
func (r *Resolver) Close() error {
	if r.offline {
		return nil
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.close(ErrClosed)
	r.work.Wait()
	for _, s := range r.servers {
		s.closeIdle()
	}
	return nil
}

// A gives the IPv4 addresses of name.
func (r *Resolver) A(ctx context.Context, name string) ([]netip.Addr, error) {
	a, err := r.lookup(ctx, name, mdns.TypeA)
	return slices.Clone(a.addrs), err
}

// AAAA gives the IPv6 addresses of name. An IPv4-mapped address stays as the record has it.
func (r *Resolver) AAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	a, err := r.lookup(ctx, name, mdns.TypeAAAA)
	return slices.Clone(a.addrs), err
}

// TXT gives the TXT records of name, the character-strings of each joined without a space, octets as they are.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.lookup(ctx, name, mdns.TypeTXT)
	return slices.Clone(a.texts), err
}

// MX gives the mail exchangers of name, the most preferred first.
func (r *Resolver) MX(ctx context.Context, name string) ([]MX, error) {
	a, err := r.lookup(ctx, name, mdns.TypeMX)
	return slices.Clone(a.mx), err
}

// PTR gives the names of addr's reverse mapping. Names that no host can have are left out.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	a, err := r.lookup(ctx, ReverseName(addr), mdns.TypePTR)
	return slices.Clone(a.names), err
}

// Addrs gives the IPv4 and then the IPv6 addresses of name, looked up at the same time. What one of the two look-ups found
// counts even if the other failed.
func (r *Resolver) Addrs(ctx context.Context, name string) ([]netip.Addr, error) {
	return Addrs(ctx, r, name)
}

// Addrs is [Resolver.Addrs] for any Lookuper.
func Addrs(ctx context.Context, l Lookuper, name string) ([]netip.Addr, error) {
	var v6 []netip.Addr
	var err6 error
	done := make(chan struct{})
	go func() {
		defer close(done)
		v6, err6 = l.AAAA(ctx, name)
	}()
	v4, err4 := l.A(ctx, name)
	<-done
	switch all := append(v4, v6...); {
	case len(all) > 0:
		return all, nil
	case IsTemporary(err6):
		return nil, err6
	default:
		return nil, err4
	}
}

// lookup answers from the cache or the servers. The error is an *Error.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (answer, error) {
	acct := accountOf(ctx)
	if !acct.traced() {
		a, _ := r.find(ctx, acct, name, qtype)
		return a, a.err(name, qtype)
	}
	start := time.Now()
	a, cached := r.find(ctx, acct, name, qtype)
	err := a.err(name, qtype)
	if wire, werr := wireName(name); werr == nil {
		name = strings.TrimSuffix(wire, ".")
	}
	acct.show(Lookup{
		Name: name, Type: typeName(qtype), Answer: a.text(), Err: err,
		Cached: cached, Took: time.Since(start),
	})
	return a, err
}

func (a *answer) err(name string, qtype uint16) error {
	if a.kind == 0 {
		return nil
	}
	return &Error{Name: name, Type: typeName(qtype), Kind: a.kind, Err: a.cause}
}

// find does the work of lookup. cached says that no server had to be waited for.
func (r *Resolver) find(ctx context.Context, acct *account, name string, qtype uint16) (a answer, cached bool) {
	if !acct.charge() {
		return answer{kind: OverBudget}, true
	}
	wire, err := wireName(name)
	if err != nil {
		return answer{kind: NotExist, cause: err}, true
	}
	if r.offline {
		return answer{kind: NoNetwork}, true
	}
	if ctx.Err() != nil {
		return failed(context.Cause(ctx)), true
	}
	q := question{name: wire, qtype: qtype}
	if a, ok := r.cache.get(q, r.cfg.Now()); ok {
		r.counters.Load().count(a, true)
		return a, true
	}
	acct.begin()
	defer acct.end()
	a = r.fly(ctx, q)
	r.counters.Load().count(a, false)
	return a, false
}
