package main

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/filters/dns/zone"
)

// The sites that the generator plays: each is a domain with a few hosts that send its mail. Their addresses are those
// that RFC 2544 sets aside for measurement.
const (
	benchSites = benchMessages
	benchHosts = 5 // of each site
)

// benchLists are the DNS lists that the made configuration asks.
var benchLists = []string{"a.bl.example", "b.bl.example", "c.bl.example"}

func benchDomain(site int) string { return fmt.Sprintf("site%03d.example", site%benchSites) }

// benchHost is the name of a site's first host.
func benchHost(site int) string { return benchHostName(site, 0) }

func benchHostName(site, host int) string { return fmt.Sprintf("m%d.%s", host, benchDomain(site)) }

// benchAddr is the address of a site's host.
func benchAddr(site, host int) netip.Addr {
	site %= benchSites
	return netip.AddrFrom4([4]byte{198, 18, byte(site / 50), byte(site%50*benchHosts + host)})
}

// benchZone is what the DNS stub answers from: for each site SPF, key, DMARC, names and addresses that confirm each
// other, and lists on which one in fifty sites stands.
func benchZone(mail *benchMail) (*zone.Zone, error) {
	var b strings.Builder
	b.WriteString("$TTL 3600\n_spf.mailer.example. TXT \"v=spf1 ip4:198.18.0.0/16 -all\"\n")
	for site := range benchSites {
		domain := benchDomain(site)
		policy := "ip4:198.18.0.0/16"
		if site%3 == 0 {
			policy = "include:_spf.mailer.example"
		}
		fmt.Fprintf(&b, "%s. MX 10 %s.\n%s. TXT \"v=spf1 mx %s ~all\"\n", domain, benchHost(site), domain, policy)
		fmt.Fprintf(&b, "_dmarc.%s. TXT \"v=DMARC1; p=reject; rua=mailto:dmarc@%s\"\n", domain, domain)
		if len(mail.keys) > 0 {
			fmt.Fprintf(&b, "%s._domainkey.%s. TXT %s\n", benchSelector, domain, characterStrings(mail.key(site).record))
		}
		for host := range benchHosts {
			addr := benchAddr(site, host)
			fmt.Fprintf(&b, "%s. A %s\n%s.in-addr.arpa. PTR %s.\n", benchHostName(site, host), addr, backwards(addr), benchHostName(site, host))
			if site%50 == 0 {
				fmt.Fprintf(&b, "%s.%s. A 127.0.0.2\n", backwards(addr), benchLists[2])
			}
		}
	}
	for _, list := range benchLists {
		fmt.Fprintf(&b, "2.0.0.127.%s. A 127.0.0.2\n", list) // the entry that every list has (RFC 5782 section 5)
	}
	return zone.Parse("zone", []byte(b.String()))
}

// backwards is the address as it stands in the names of reverse zones and lists.
func backwards(addr netip.Addr) string {
	a := addr.As4()
	return fmt.Sprintf("%d.%d.%d.%d", a[3], a[2], a[1], a[0])
}

// characterStrings cuts a text into strings of the size that a TXT record can hold.
func characterStrings(text string) string {
	const most = 255
	var parts []string
	for len(text) > most {
		parts = append(parts, fmt.Sprintf("%q", text[:most]))
		text = text[most:]
	}
	return strings.Join(append(parts, fmt.Sprintf("%q", text)), " ")
}
