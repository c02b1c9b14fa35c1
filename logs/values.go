package logs

import (
	"iter"
	"net/netip"
	"strconv"
	"strings"
)

// Findings lists what stands in the keys rules and shadow, as symbol:points with commas between.
func Findings(list string) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		for part := range strings.SplitSeq(list, ",") {
			at := strings.LastIndexByte(part, ':')
			if at <= 0 {
				continue
			}
			points, err := strconv.ParseFloat(part[at+1:], 64)
			if err != nil {
				continue
			}
			if !yield(part[:at], points) {
				return
			}
		}
	}
}

// AddressDomain is the domain of an address as a From field or an envelope gives it, in lower case; "" without one.
func AddressDomain(s string) string {
	if end := strings.LastIndexByte(s, '>'); end >= 0 {
		if start := strings.LastIndexByte(s[:end], '<'); start >= 0 {
			s = s[start+1 : end]
		}
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return ""
	}
	domain := s[at+1:]
	if end := strings.IndexAny(domain, " \t,;>()\"…"); end >= 0 {
		domain = domain[:end]
	}
	return strings.ToLower(domain)
}

// network is the network of an address: /24 of IPv4, /48 of IPv6.
func network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	bits := 48
	if addr = addr.Unmap(); addr.Is4() {
		bits = 24
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return ip
	}
	return p.String()
}
