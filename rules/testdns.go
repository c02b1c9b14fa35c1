package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern/rules/strict"
)

// DNS is what a test has DNS answer. The names are in lower case and without the final dot; the names of an address (PTR) stand
// under the address as netip.Addr writes it. A name that is not in it does not exist.
type DNS map[string]DNSRecords

// DNSRecords are the answers for a name. One that is broken has none: every question is a temporary failure.
type DNSRecords struct {
	Broken bool
	Addrs  []netip.Addr // A and AAAA
	TXT    []string
	MX     []DNSExchanger
	PTR    []string
}

// DNSExchanger is a mail exchanger; less Pref is preferred.
type DNSExchanger struct {
	Pref uint16
	Host string
}

// The records that a mapping below a name can have, and the words for a name that can't be looked up.
var (
	dnsTypes  = []string{"a", "aaaa", "mx", "txt"}
	dnsFaults = []string{"servfail", "timeout"}
)

// UnmarshalStrict reads names, or addresses, and what stands in DNS under them:
//
//	shop.example: ['v=spf1 a -all', 192.0.2.7]
//	192.0.2.7: mail.shop.example
//	mail.example: {mx: 10 mx.mail.example}
//	slow.example: timeout
func (d *DNS) UnmarshalStrict(n *strict.Node) strict.Problems {
	var p strict.Problems
	if n.Kind() != strict.Mapping {
		p.Addf(n.Pos(), "expected names and their records, such as {shop.example: 'v=spf1 -all', 192.0.2.7: mail.shop.example}, got %s", describe(n))
		return p
	}
	*d = DNS{}
	for _, pair := range n.Pairs() {
		written := pair.Key.Text()
		name := strings.ToLower(strings.TrimSuffix(written, "."))
		addr, err := netip.ParseAddr(name)
		isAddr := err == nil
		if isAddr {
			name = addr.Unmap().String()
		}
		if !isAddr && !dnsName(name) {
			p.Addf(pair.Key.Pos(), "%q is neither a name in DNS nor an address, expected one such as _dmarc.shop.example or 192.0.2.7", written)
			continue
		}
		records := (*d)[name]
		switch {
		case pair.Value.Kind() == strict.Mapping && isAddr:
			p.Addf(pair.Value.Pos(), "expected the name of the address %s, or a list of names, got %s", written, describe(pair.Value))
		case pair.Value.Kind() == strict.Mapping:
			p.Add(records.readTypes(pair.Value))
		case isAddr:
			p.Add(records.readEach(pair.Value, (*DNSRecords).addName))
		default:
			p.Add(records.readEach(pair.Value, (*DNSRecords).addAny))
		}
		(*d)[name] = records
	}
	return p
}

// readTypes reads records whose types are named: {mx: 10 mx.example, txt: [...]}.
func (r *DNSRecords) readTypes(n *strict.Node) strict.Problems {
	var p strict.Problems
	for _, pair := range n.Pairs() {
		switch kind := pair.Key.Text(); kind {
		case "a", "aaaa":
			p.Add(r.readEach(pair.Value, (*DNSRecords).addAddress))
		case "mx":
			p.Add(r.readEach(pair.Value, (*DNSRecords).addExchanger))
		case "txt":
			p.Add(r.readEach(pair.Value, (*DNSRecords).addText))
		default:
			p.Addf(pair.Key.Pos(), "%s", strict.Unknown("type of record", kind, dnsTypes))
		}
	}
	return p
}

// readEach reads one record or a list of them. add says what was expected where it can't take one.
func (r *DNSRecords) readEach(n *strict.Node, add func(*DNSRecords, string) (expected string)) strict.Problems {
	var p strict.Problems
	items := []*strict.Node{n}
	if n.Kind() == strict.Sequence {
		items = n.Items()
	}
	for _, item := range items {
		if item.Kind() != strict.Scalar {
			p.Addf(item.Pos(), "expected a record or a list of them, got %s", describe(item))
			continue
		}
		if expected := add(r, item.Text()); expected != "" {
			p.Addf(item.Pos(), "%q is not %s", item.Text(), expected)
		}
	}
	return p
}

// addAny takes a record whose type its form tells: an address, the word for a failure, or else text.
func (r *DNSRecords) addAny(s string) (expected string) {
	if r.addFault(s) || r.addAddress(s) == "" {
		return ""
	}
	if near := strict.Suggest(s, dnsFaults); near != "" {
		return fmt.Sprintf("a record, did you mean %s? (expected {txt: %q} for a text record)", near, s)
	}
	return r.addText(s)
}

// addFault takes a word for a name that can't be looked up; false for any other.
func (r *DNSRecords) addFault(s string) bool {
	if !slices.Contains(dnsFaults, s) {
		return false
	}
	r.Broken = true
	return true
}

func (r *DNSRecords) addAddress(s string) (expected string) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return "an address, expected one such as 192.0.2.7 or 2001:db8::7"
	}
	r.Addrs = append(r.Addrs, addr)
	return ""
}

func (r *DNSRecords) addText(s string) (expected string) {
	r.TXT = append(r.TXT, s)
	return ""
}

func (r *DNSRecords) addName(s string) (expected string) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if r.addFault(s) {
		return ""
	}
	if !dnsName(name) {
		return "a host name, expected one such as mail.shop.example"
	}
	r.PTR = append(r.PTR, name)
	return ""
}

// addExchanger takes `10 mx.example`, or the host alone; a host of "." says that the domain takes no mail (RFC 7505).
func (r *DNSRecords) addExchanger(s string) (expected string) {
	pref, host := uint64(10), s
	if before, after, ok := strings.Cut(s, " "); ok {
		var err error
		if pref, err = strconv.ParseUint(before, 10, 16); err != nil {
			host = ""
		} else {
			host = strings.TrimSpace(after)
		}
	}
	if host != "." {
		host = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	if _, err := strconv.Atoi(host); host != "." && (err == nil || !dnsName(host)) {
		return "a mail exchanger, expected one such as 10 mx.shop.example"
	}
	r.MX = append(r.MX, DNSExchanger{Pref: uint16(pref), Host: host})
	return ""
}

// dnsName reports whether a name can stand in DNS as rule files write it: ASCII, labels of 1 to 63 octets, 253 in all.
func dnsName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			return false
		}
	}
	return true
}

// Schema is that of the answers of DNS that a test gives.
func (DNS) Schema() map[string]any {
	record := object{"anyOf": []any{strict.WordsSchema(dnsFaults...), strict.TextSchema()}}
	types := object{}
	for _, kind := range dnsTypes {
		types[kind] = oneOrMore(strict.TextSchema())
	}
	return object{
		"type":                 "object",
		"additionalProperties": object{"anyOf": []any{oneOrMore(record), object{"type": "object", "properties": types, "additionalProperties": false}}},
		"description":          "What DNS answers; names that are not here do not exist. The checks are run with it.",
	}
}
