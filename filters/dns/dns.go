// Package dns looks names up for the checks of the mail filter.
//
// Every check of sender authentication rests on DNS: SPF, DKIM and DMARC records are TXT records, a DNS block list
// answers with an address, reverse DNS is a PTR record that must lead back. The questions are asked while a client waits,
// the names come from strangers, and a wrong "there is no such record" turns a failure of DNS into a verdict. So this
// resolver keeps three outcomes apart that libraries like to mix: the name does not exist (NXDOMAIN, [NotExist]), the name
// exists without such a record ([NoData]), and nobody could tell ([Temporary]).
//
// It is a stub resolver (RFC 1034, section 5.3.1): it asks recursive servers, by default those of /etc/resolv.conf, over
// connected UDP sockets that are reused (RFC 1035; EDNS0 with 1232 octets, RFC 6891), and over TCP where an answer was
// truncated (RFC 7766). A packet that does not carry the id, the question and the source that were asked is ignored, not
// believed (RFC 5452). Where one server stays silent the next is asked early, while the first may still answer.
// Answers are cached for their TTL, negative ones as RFC 2308 says, failures for seconds (RFC 9520). Concurrent look-ups of
// one name share a single query, which goes on when one of those who wait for it gives up.
//
// The names given may be Unicode or ASCII, with or without the final dot, and hold whatever a stranger wrote; a name that
// cannot stand in DNS does not exist.
package dns

import (
	"context"
	"net/netip"
	"time"
)

// A Lookuper is what the checks take: [Resolver] is one.
//
// Every method returns at least one record, or an [*Error]. Names in answers are lower-case ASCII without the final dot.
// The slices are the caller's own.
type Lookuper interface {
	// A gives the IPv4 addresses of name.
	A(ctx context.Context, name string) ([]netip.Addr, error)
	// AAAA gives the IPv6 addresses of name. An IPv4-mapped address stays as the record has it.
	AAAA(ctx context.Context, name string) ([]netip.Addr, error)
	// TXT gives the TXT records of name, the character-strings of each joined without a space, octets as they are.
	TXT(ctx context.Context, name string) ([]string, error)
	// MX gives the mail exchangers of name, the most preferred first.
	MX(ctx context.Context, name string) ([]MX, error)
	// PTR gives the names of addr's reverse mapping. Names that no host can have are left out.
	PTR(ctx context.Context, addr netip.Addr) ([]string, error)
}

var _ Lookuper = (*Resolver)(nil)

// MX is one mail exchanger.
type MX struct {
	Pref uint16 // less is preferred
	Host string // "." for the null MX of RFC 7505: the domain takes no mail
}

// Config says whom to ask and how long. The zero value asks the servers of /etc/resolv.conf with the defaults below.
type Config struct {
	// Servers are the recursive servers, in order of preference: "192.0.2.53", "192.0.2.53:5353", "[2001:db8::53]:53".
	// The port is 53 where none stands. None at all means those of /etc/resolv.conf.
	Servers []string
	// Timeout is how long one look-up may take in all, retries and TCP included. 0 means 3 s.
	Timeout time.Duration
	// Retry is how long a server may stay silent before the next one is asked as well; it doubles with every further
	// try. 0 means 300 ms, or a quarter of Timeout where that is less.
	Retry time.Duration
	// Cache is how many answers are kept. 0 means 100,000; below zero nothing is kept.
	Cache int
	// CacheBytes bounds the memory of the cache. 0 means 64 MiB.
	CacheBytes int64
	// MinTTL and MaxTTL clamp how long a positive answer is kept. 0 means 5 s and 6 h.
	MinTTL, MaxTTL time.Duration
	// MaxNegativeTTL clamps how long "does not exist" and "no such record" are kept (RFC 2308, section 5). 0 means 1 h.
	MaxNegativeTTL time.Duration
	// FailTTL is how long a failure is kept, so that a dead server is not hammered (RFC 9520, section 3.2). 0 means 5 s;
	// below zero failures are not kept.
	FailTTL time.Duration
	// Concurrent bounds the look-ups that are on the wire at once; further ones wait their turn within their Timeout.
	// 0 means 1024.
	Concurrent int
	// PlainCase asks names in lower case. Otherwise the case of letters is random and the answer must repeat it, which
	// makes answers hard to forge; a server that does not repeat it is asked over TCP.
	PlainCase bool
	// Now is the clock that the cache goes by. nil means time.Now.
	Now func() time.Time
}

// The defaults of [Config].
const (
	defaultTimeout        = 3 * time.Second
	defaultRetry          = 300 * time.Millisecond
	defaultCache          = 100_000
	defaultCacheBytes     = 64 << 20
	defaultMinTTL         = 5 * time.Second
	defaultMaxTTL         = 6 * time.Hour
	defaultMaxNegativeTTL = time.Hour
	defaultFailTTL        = 5 * time.Second
	defaultConcurrent     = 1024
)

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	orDefault(&c.Timeout, defaultTimeout)
	orDefault(&c.Retry, min(defaultRetry, c.Timeout/4))
	orDefault(&c.Cache, defaultCache)
	orDefault(&c.CacheBytes, defaultCacheBytes)
	orDefault(&c.MinTTL, defaultMinTTL)
	orDefault(&c.MaxTTL, defaultMaxTTL)
	orDefault(&c.MaxNegativeTTL, defaultMaxNegativeTTL)
	orDefault(&c.FailTTL, defaultFailTTL)
	orDefault(&c.Concurrent, defaultConcurrent)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func orDefault[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}
