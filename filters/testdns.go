package filters

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"postern/filters/dns"
	"postern/rules"
)

// testDNS answers with what a test in a rule file says, and with nothing else. Lists list their test entries, as sound ones do
// (RFC 5782 section 5), so that tests need not say so.
type testDNS struct {
	records rules.DNS
	tests   map[string]bool // the entries by which the configured lists are tested: whether they have to be there

	mu         sync.Mutex
	unanswered []string // questions, such as "TXT shop.example", in the order in which they were asked
}

var _ dns.Lookuper = (*testDNS)(nil)

func newTestDNS(records rules.DNS, lists DNSBLConfig) *testDNS {
	d := &testDNS{records: records, tests: make(map[string]bool)}
	for _, l := range lists.Lists {
		for _, test := range []dnsblTest{dnsblAddressTest, dnsblDomainTest} {
			d.tests[test.listed+"."+strings.ToLower(l.Zone)] = true
			d.tests[test.unlisted+"."+strings.ToLower(l.Zone)] = false
		}
	}
	return d
}

// maxUnanswered bounds the questions that are noted.
const maxUnanswered = 50

// find gives the records of a type, as of picks them; else why there are none.
func find[T any](d *testDNS, name, qtype string, of func(rules.DNSRecords) []T) ([]T, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	r, exists := d.records[name]
	if list := of(r); len(list) > 0 && !r.Broken {
		return slices.Clone(list), nil
	}
	if r.Broken {
		return nil, &dns.Error{Name: name, Type: qtype, Kind: dns.Temporary}
	}
	if _, test := d.tests[name]; !test {
		d.note(qtype + " " + name)
	}
	if exists || d.below(name) {
		return nil, &dns.Error{Name: name, Type: qtype, Kind: dns.NoData}
	}
	return nil, &dns.Error{Name: name, Type: qtype, Kind: dns.NotExist}
}

// below reports whether a name below this one has records: then it exists, without any of its own (RFC 8020).
func (d *testDNS) below(name string) bool {
	for known := range d.records {
		if strings.HasSuffix(known, "."+name) {
			return true
		}
	}
	return false
}

func (d *testDNS) note(question string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unanswered) < maxUnanswered && !slices.Contains(d.unanswered, question) {
		d.unanswered = append(d.unanswered, question)
	}
}

// unansweredOnes are the questions that had no answer, in the order of the alphabet: that of asking is not always the same.
func (d *testDNS) unansweredOnes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.unanswered))
}

// A gives the IPv4 addresses of a name.
func (d *testDNS) A(_ context.Context, name string) ([]netip.Addr, error) {
	if _, own := d.records[strings.ToLower(name)]; !own && d.tests[strings.ToLower(name)] {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 2})}, nil
	}
	return find(d, name, "A", func(r rules.DNSRecords) []netip.Addr { return ofFamily(r.Addrs, netip.Addr.Is4) })
}

// AAAA gives the IPv6 addresses of a name.
func (d *testDNS) AAAA(_ context.Context, name string) ([]netip.Addr, error) {
	return find(d, name, "AAAA", func(r rules.DNSRecords) []netip.Addr { return ofFamily(r.Addrs, netip.Addr.Is6) })
}

func ofFamily(addrs []netip.Addr, family func(netip.Addr) bool) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !family(a) })
}

// TXT gives the texts of a name.
func (d *testDNS) TXT(_ context.Context, name string) ([]string, error) {
	return find(d, name, "TXT", func(r rules.DNSRecords) []string { return r.TXT })
}

// MX gives the mail exchangers of a name, the most preferred first.
func (d *testDNS) MX(_ context.Context, name string) ([]dns.MX, error) {
	return find(d, name, "MX", func(r rules.DNSRecords) []dns.MX {
		var list []dns.MX
		for _, mx := range r.MX {
			list = append(list, dns.MX{Pref: mx.Pref, Host: mx.Host})
		}
		slices.SortStableFunc(list, func(a, b dns.MX) int { return int(a.Pref) - int(b.Pref) })
		return list
	})
}

// PTR gives the names of an address.
func (d *testDNS) PTR(_ context.Context, addr netip.Addr) ([]string, error) {
	return find(d, addr.Unmap().String(), "PTR", func(r rules.DNSRecords) []string { return r.PTR })
}
