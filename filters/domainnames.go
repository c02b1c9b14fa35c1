package filters

import (
	"slices"

	"postern/rules/strict"
)

// DomainNames are domains in the configuration, as A-labels in lower case.
type DomainNames []string

// UnmarshalStrict refuses what can't be a domain.
func (d *DomainNames) UnmarshalStrict(n *strict.Node) strict.Problems {
	var words []string
	problems := n.Decode(&words)
	if len(problems) > 0 {
		return problems
	}
	list := make(DomainNames, len(words))
	for i, w := range words {
		ascii, ok := asciiDomain(w)
		if !ok {
			problems.Addf(n.Items()[i].Pos(), "%q is no domain, expected one such as example.org", w)
			continue
		}
		list[i] = ascii
	}
	if len(problems) == 0 {
		*d = list
	}
	return problems
}

// hold reports whether a domain is one of these.
func (d DomainNames) hold(domain string) bool { return slices.Contains(d, domain) }

// above gives the one of these that a domain is, or lies below; "" for none.
func (d DomainNames) above(domain string) string {
	for _, name := range d {
		if isSubdomain(domain, name) {
			return name
		}
	}
	return ""
}
