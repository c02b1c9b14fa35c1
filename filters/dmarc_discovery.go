package filters

import (
	"context"
	"fmt"
	"strings"

	"postern/filters/dns"
	"postern/filters/message"
)

// maxTreeWalk is the number of queries of one DNS tree walk at most (RFC 9989 section 4.10).
const maxTreeWalk = 8

// dmarcDiscovery finds policy records and organizational domains. One serves one message: what it has looked up it
// does not look up again.
type dmarcDiscovery struct {
	ctx     context.Context
	r       dns.Lookuper
	psl     bool // by the public suffix list, as RFC 7489 had it
	records map[string]*dmarcRecord
}

func newDMARCDiscovery(ctx context.Context, r dns.Lookuper, psl bool) *dmarcDiscovery {
	return &dmarcDiscovery{ctx: ctx, r: r, psl: psl, records: map[string]*dmarcRecord{}}
}

// record fetches the record of a domain, nil if there is none. Only failures of DNS are errors.
func (d *dmarcDiscovery) record(domain string) (*dmarcRecord, error) {
	if rec, known := d.records[domain]; known {
		return rec, nil
	}
	txts, err := d.r.TXT(d.ctx, "_dmarc."+domain)
	if err != nil && !dns.IsVoid(err) {
		return nil, fmt.Errorf("policy of %s: %w", domain, err)
	}
	rec := selectDMARC(txts)
	d.records[domain] = rec
	return rec, nil
}

// treeWalkNames lists the domains that a walk asks: the domain itself, then from its parent (or, with eight labels and
// more, from its last seven labels) up to the top.
func treeWalkNames(domain string) []string {
	names := []string{domain}
	labels := strings.Split(domain, ".")
	for n := min(len(labels)-1, maxTreeWalk-1); n > 0; n-- {
		names = append(names, strings.Join(labels[len(labels)-n:], "."))
	}
	return names
}

// found is a record with its place.
type dmarcFound struct {
	domain string
	record *dmarcRecord
}

// walk gives the records on the way up, longest name first, and stops where one says that it is a public suffix or is
// not (psd=y, psd=n).
func (d *dmarcDiscovery) walk(domain string) ([]dmarcFound, error) {
	var records []dmarcFound
	for _, name := range treeWalkNames(domain) {
		rec, err := d.record(name)
		if err != nil {
			return nil, err
		}
		if rec == nil {
			continue
		}
		records = append(records, dmarcFound{domain: name, record: rec})
		if rec.psd != 'u' {
			break
		}
	}
	return records, nil
}

// organizational finds the organizational domain of a domain (RFC 9989 section 4.10.2).
func (d *dmarcDiscovery) organizational(domain string) (string, error) {
	if d.psl {
		return organizationalByList(domain), nil
	}
	records, err := d.walk(domain)
	if err != nil {
		return "", err
	}
	return organizationalOf(domain, records), nil
}

func organizationalByList(domain string) string {
	if org := message.OrgDomain(domain); org != "" {
		return org
	}
	return domain // it is a public suffix itself
}

// organizationalOf selects among the records of a walk. The walk has ended at psd=y and psd=n, so such a record is the last.
func organizationalOf(start string, records []dmarcFound) string {
	if len(records) == 0 {
		return start
	}
	last := records[len(records)-1]
	if last.record.psd == 'y' && last.domain != start {
		return oneLabelBelow(start, last.domain)
	}
	return last.domain // the shortest name, or psd=n
}

// oneLabelBelow gives the part of name that has one label more than its ancestor.
func oneLabelBelow(name, ancestor string) string {
	front := strings.TrimSuffix(name, "."+ancestor)
	return front[strings.LastIndexByte(front, '.')+1:] + "." + ancestor
}

// policy finds the record that applies to an author domain, at the domain itself, else at its organizational domain,
// else at its public suffix. It is nil where there is none.
func (d *dmarcDiscovery) policy(author string) (*dmarcFound, error) {
	rec, err := d.record(author)
	if err != nil {
		return nil, err
	}
	if rec != nil {
		return &dmarcFound{domain: author, record: rec}, nil
	}
	if d.psl {
		org := organizationalByList(author)
		if rec, err = d.record(org); rec == nil {
			return nil, err
		}
		return &dmarcFound{domain: org, record: rec}, nil
	}
	records, err := d.walk(author)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	org := organizationalOf(author, records)
	for _, f := range records {
		if f.domain == org {
			return &f, nil
		}
	}
	return &records[len(records)-1], nil // org has none: the walk ended at its public suffix
}

// exists reports whether a domain exists. Only NXDOMAIN says that it does not (RFC 8020).
func (d *dmarcDiscovery) exists(domain string) (bool, error) {
	_, err := d.r.A(d.ctx, domain)
	switch {
	case err == nil || dns.IsNoData(err):
		return true, nil
	case dns.IsNotExist(err):
		return false, nil
	}
	return false, fmt.Errorf("existence of %s: %w", domain, err)
}

// aligned reports whether an authenticated domain is in alignment with the author domain (RFC 9989 section 4.4).
func (d *dmarcDiscovery) aligned(author, authenticated string, strict bool) (bool, error) {
	if author == authenticated {
		return true, nil
	}
	if strict {
		return false, nil
	}
	org, err := d.organizational(author)
	if err != nil {
		return false, err
	}
	if !isSubdomain(authenticated, org) {
		return false, nil // its own organizational domain can't be the same: no need to ask
	}
	other, err := d.organizational(authenticated)
	return other == org, err
}
