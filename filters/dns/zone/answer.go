package zone

import (
	"strings"

	"github.com/miekg/dns"
)

// maxAliases bounds the aliases that are followed for one answer, which ends loops.
const maxAliases = 16

// answer fills reply with what the zone says about its question.
func (z *Zone) answer(reply *dns.Msg) {
	reply.Authoritative = true
	reply.RecursionAvailable = true // so that stub resolvers don't wonder
	q := reply.Question[0]
	name := canonical(q.Name)
	asked := q.Name // keeps the case of the question in the first owner
	for range maxAliases {
		types, exists := z.lookup(name)
		if !exists {
			reply.Rcode = dns.RcodeNameError
			reply.Ns = append(reply.Ns, z.soa(name))
			return
		}
		if rrs := matching(types, q.Qtype); len(rrs) > 0 {
			reply.Answer = append(reply.Answer, renamed(rrs, asked)...)
			return
		}
		alias := types[dns.TypeCNAME]
		if len(alias) == 0 {
			reply.Ns = append(reply.Ns, z.soa(name))
			return
		}
		reply.Answer = append(reply.Answer, renamed(alias[:1], asked)...)
		asked = alias[0].(*dns.CNAME).Target
		name = canonical(asked)
	}
}

// lookup gives the records of name, those of the wildcard that covers it if it does not exist itself (RFC 4592, section
// 3.3.1: the wildcard directly below the closest name that does exist).
func (z *Zone) lookup(name string) (types map[uint16][]dns.RR, exists bool) {
	if z.names[name] {
		return z.records[name], true
	}
	for off, end := dns.NextLabel(name, 0); ; off, end = dns.NextLabel(name, off) {
		encloser := "."
		if !end {
			encloser = name[off:]
		}
		if z.names[encloser] {
			types, exists = z.records["*."+strings.TrimPrefix(encloser, ".")]
			return types, exists
		}
	}
}

func matching(types map[uint16][]dns.RR, qtype uint16) []dns.RR {
	if qtype != dns.TypeANY {
		return types[qtype]
	}
	var all []dns.RR
	for _, rrs := range types {
		all = append(all, rrs...)
	}
	return all
}

// renamed gives copies of records with owner, which a wildcard's records need, and which repeats the case of the question.
func renamed(rrs []dns.RR, owner string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = owner
	}
	return out
}

// soa gives the SOA record of the closest name at or above name that has one, a made-up one of the root if none has.
func (z *Zone) soa(name string) dns.RR {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if rrs := z.records[name[off:]][dns.TypeSOA]; len(rrs) > 0 {
			return rrs[0]
		}
	}
	if rrs := z.records["."][dns.TypeSOA]; len(rrs) > 0 {
		return rrs[0]
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: defaultTTL},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: defaultTTL,
	}
}
