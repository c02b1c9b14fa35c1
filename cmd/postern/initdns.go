package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/dns"
)

// initDNSPatience bounds one look-up.
const initDNSPatience = 5 * time.Second

// askDNS finds out whether the resolver answers, whether our names and addresses agree, and which lists refuse us.
func (s *setup) askDNS(ctx context.Context, r report) {
	resolver, err := dns.New(dns.Config{Servers: s.DNS, Timeout: initDNSPatience})
	if err != nil {
		r.warn("%v", err)
		return
	}
	defer resolver.Close()
	if err := resolver.Test(ctx, s.Hostname); err != nil {
		r.warn("%v: without a resolver mail is judged by its content alone; one of your own, such as unbound on this machine, serves best", err)
		return
	}
	r.fine("the resolver answers")
	ours := s.ourAddresses(ctx, r, resolver)
	for _, domain := range s.Domains {
		s.exchangers(ctx, r, resolver, domain, ours)
	}
	for _, zone := range s.DNSBL {
		if err := filters.TryDNSBL(ctx, zone, resolver); err != nil {
			s.Refuse[zone] = err.Error()
			r.warn("list %s: %v; it stands in the configuration as a comment. Most lists refuse resolvers that many share: use one of your own", zone, err)
			continue
		}
		r.fine("list %s answers us", zone)
	}
}

// ourAddresses gives the addresses of our host name, and tells whether each leads back to it.
func (s *setup) ourAddresses(ctx context.Context, r report, resolver dns.Lookuper) []netip.Addr {
	ours, err := dns.Addrs(ctx, resolver, s.Hostname)
	if err != nil {
		r.warn("%s has no address: %v; others look it up, and clients must find it by the MX record", s.Hostname, err)
		return nil
	}
	for _, ip := range ours {
		names, err := resolver.PTR(ctx, ip)
		switch {
		case err != nil:
			r.warn("%s has the address %s, which has no reverse DNS (PTR): %v", s.Hostname, ip, err)
		case slices.Contains(names, strings.ToLower(s.Hostname)):
			r.fine("%s has the address %s, whose reverse DNS leads back to it", s.Hostname, ip)
		default:
			r.warn("%s has the address %s, whose reverse DNS (PTR) is %s, expected %s", s.Hostname, ip, strings.Join(names, ", "), s.Hostname)
		}
	}
	return ours
}

// exchangers tells whether the MX records of a domain lead here.
func (s *setup) exchangers(ctx context.Context, r report, resolver dns.Lookuper, domain string, ours []netip.Addr) {
	records, err := resolver.MX(ctx, domain)
	if err != nil {
		r.warn("%s has no MX record: %v; expected one with %s", domain, err, s.Hostname)
		return
	}
	var others []string
	for i, mx := range records {
		if strings.EqualFold(mx.Host, s.Hostname) {
			place := "first"
			if i > 0 && records[0].Pref < mx.Pref {
				place = "a later one; mail comes here only when the others fail"
			}
			r.fine("%s: our name is in its MX records (%s)", domain, place)
			return
		}
		if addrs, err := dns.Addrs(ctx, resolver, mx.Host); err == nil && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(ours, a) }) {
			r.fine("%s: its MX record %s has our address", domain, mx.Host)
			return
		}
		others = append(others, mx.Host)
	}
	r.warn("%s: its MX records lead to %s, and not to %s", domain, strings.Join(others, ", "), s.Hostname)
}
