package message

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// OrgDomain is the registrable domain that a host name belongs to, by the public suffix list: "example.co.uk" for
// "www.example.co.uk". It is in lower case and A-labels. It is empty for an address, a public suffix by itself, and what is no
// host name.
func OrgDomain(domain string) string {
	ascii := ASCIIDomain(domain)
	if ascii == "" || !strings.Contains(ascii, ".") {
		return ""
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return ""
	}
	org, err := publicsuffix.EffectiveTLDPlusOne(ascii)
	if err != nil {
		return ""
	}
	return org
}

// ASCIIDomain is a domain name in lower case and A-labels (RFC 5890), without the final dot; empty if it is no domain name.
// Underscores are let through, for they occur in names that work.
func ASCIIDomain(domain string) string {
	domain = strings.TrimSuffix(domain, ".")
	if domain == "" || len(domain) > 1000 {
		return ""
	}
	ascii := strings.ToLower(domain)
	if !isASCII([]byte(ascii)) {
		var err error
		if ascii, err = idna.Lookup.ToASCII(domain); err != nil {
			// The strict profile refuses what some resolvers find: try the plain one.
			if ascii, err = idna.Punycode.ToASCII(strings.ToLower(domain)); err != nil {
				return ""
			}
		}
	}
	if len(ascii) > 253 {
		return ""
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 {
			return ""
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return ""
			}
		}
	}
	return ascii
}
