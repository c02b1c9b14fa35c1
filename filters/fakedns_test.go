package filters

import (
	"context"
	"net/netip"
	"strings"
	"sync"

	"postern/filters/dns"
)

// fakeDNS answers from maps, and counts. Names are lower case, without the final dot; PTR records stand under the
// address as text. A name in fail answers nothing but a temporary failure.
type fakeDNS struct {
	a, aaaa map[string][]string
	txt     map[string][]string
	mx      map[string][]dns.MX
	ptr     map[string][]string
	cname   map[string]string
	fail    map[string]bool // "name" for all types, "name TXT" for one
	offline bool

	mu      sync.Mutex
	queries []string // "name TXT"
}

var _ dns.Lookuper = (*fakeDNS)(nil)

// ask counts the query and finds out which error it gives, if any, when there are no records of its type.
func (f *fakeDNS) ask(ctx context.Context, name, qtype string, found bool) error {
	f.mu.Lock()
	f.queries = append(f.queries, name+" "+qtype)
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return &dns.Error{Name: name, Type: qtype, Kind: dns.Temporary, Err: ctx.Err()}
	case f.offline:
		return &dns.Error{Name: name, Type: qtype, Kind: dns.NoNetwork}
	case found:
		return nil
	case f.fail[name] || f.fail[name+" "+qtype]:
		return &dns.Error{Name: name, Type: qtype, Kind: dns.Temporary}
	case f.exists(name):
		return &dns.Error{Name: name, Type: qtype, Kind: dns.NoData}
	}
	return &dns.Error{Name: name, Type: qtype, Kind: dns.NotExist}
}

// exists reports whether the name or one below it has any record.
func (f *fakeDNS) exists(name string) bool {
	below := func(n string) bool { return n == name || strings.HasSuffix(n, "."+name) }
	for _, m := range []map[string][]string{f.a, f.aaaa, f.txt} {
		for n := range m {
			if below(n) {
				return true
			}
		}
	}
	for n := range f.mx {
		if below(n) {
			return true
		}
	}
	return false
}

func fakeName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// follow goes through one alias, which is as deep as the tests have them.
func (f *fakeDNS) follow(name string) string {
	name = fakeName(name)
	if to, ok := f.cname[name]; ok {
		return to
	}
	return name
}

func (f *fakeDNS) addrs(ctx context.Context, name, qtype string, m map[string][]string) ([]netip.Addr, error) {
	name = f.follow(name)
	var list []netip.Addr
	for _, s := range m[name] {
		list = append(list, netip.MustParseAddr(s))
	}
	return answered(list, f.ask(ctx, name, qtype, len(list) > 0))
}

// answered gives records or an error, never both.
func answered[T any](records []T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return records, nil
}

func (f *fakeDNS) A(ctx context.Context, name string) ([]netip.Addr, error) {
	return f.addrs(ctx, name, "A", f.a)
}

func (f *fakeDNS) AAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	return f.addrs(ctx, name, "AAAA", f.aaaa)
}

func (f *fakeDNS) TXT(ctx context.Context, name string) ([]string, error) {
	name = f.follow(name)
	return answered(f.txt[name], f.ask(ctx, name, "TXT", len(f.txt[name]) > 0))
}

func (f *fakeDNS) MX(ctx context.Context, name string) ([]dns.MX, error) {
	name = f.follow(name)
	return answered(f.mx[name], f.ask(ctx, name, "MX", len(f.mx[name]) > 0))
}

func (f *fakeDNS) PTR(ctx context.Context, ip netip.Addr) ([]string, error) {
	name := ip.String()
	return answered(f.ptr[name], f.ask(ctx, name, "PTR", len(f.ptr[name]) > 0))
}
