package filters

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"postern/rules/strict"
)

// DNSBLConfig is the configuration of the DNS lists that are asked about the client's address and about domains.
type DNSBLConfig struct {
	Lists DNSBLLists  `yaml:"lists"`
	Skip  DomainNames `yaml:"skip"` // domains of links that no list is asked about
}

func defaultDNSBLConfig() DNSBLConfig { return DNSBLConfig{} }

// DNSBLList is one DNS list (RFC 5782), of bad addresses, or with a negative score of good ones.
type DNSBLList struct {
	Zone    string                   `yaml:"zone"`
	Of      []DNSBLIdentity          `yaml:"of"`            // what it is asked about
	Score   float64                  `yaml:"score"`         // points for a listing
	Codes   map[netip.Prefix]float64 `yaml:"codes"`         // points by answer, where they differ: {127.0.0.10: 3, 127.0.0.4/30: 5}
	Masks   map[int]float64          `yaml:"masks"`         // points by bits of the last three octets of the answer: {8: 5} is phishing at SURBL
	Refuse  bool                     `yaml:"refuse"`        // a listing may refuse mail before DATA
	Banner  bool                     `yaml:"before_banner"` // with Refuse: already in place of the banner
	IPs     bool                     `yaml:"uri_addresses"` // of: uri: it has addresses too, which links with an address for a host are looked up by
	Timeout time.Duration            `yaml:"timeout"`       // how long this list is waited for
}

const defaultDNSBLTimeout = 5 * time.Second

// A DNSBLIdentity is what a list can be asked about: the address of the client, or a domain that stands for a sender.
type DNSBLIdentity string

const (
	dnsblClient DNSBLIdentity = "client" // the client's address
	dnsblRDNS   DNSBLIdentity = "rdns"   // its confirmed name
	dnsblHelo   DNSBLIdentity = "helo"   // the name that it gives at HELO
	dnsblMail   DNSBLIdentity = "mail"   // the domain of the reverse-path
	dnsblFrom   DNSBLIdentity = "from"   // the domain of the From field
	dnsblDKIM   DNSBLIdentity = "dkim"   // the domains of the signatures that passed
	dnsblURI    DNSBLIdentity = "uri"    // the domains that the message links to
)

// dnsblIdentities are all of them, in the order in which they become known.
var dnsblIdentities = []DNSBLIdentity{dnsblClient, dnsblRDNS, dnsblHelo, dnsblMail, dnsblFrom, dnsblDKIM, dnsblURI}

// UnmarshalStrict reads the name of one.
func (d *DNSBLIdentity) UnmarshalStrict(n *strict.Node) strict.Problems {
	var word string
	problems := n.Decode(&word)
	if len(problems) == 0 && !slices.Contains(dnsblIdentities, DNSBLIdentity(word)) {
		known := make([]string, len(dnsblIdentities))
		for i, of := range dnsblIdentities {
			known[i] = string(of)
		}
		problems.Addf(n.Pos(), "%s", strict.Unknown("identity", word, known))
	}
	*d = DNSBLIdentity(word)
	return problems
}

func (l DNSBLList) withDefaults() DNSBLList {
	if l.Timeout <= 0 {
		l.Timeout = defaultDNSBLTimeout
	}
	if len(l.Of) == 0 {
		l.Of = []DNSBLIdentity{dnsblClient}
	}
	return l
}

// UnmarshalStrict wants a zone, and codes that a list can answer.
func (l *DNSBLList) UnmarshalStrict(n *strict.Node) strict.Problems {
	type plain DNSBLList
	read := plain{Of: []DNSBLIdentity{dnsblClient}, Score: 1, Timeout: defaultDNSBLTimeout}
	problems := n.Decode(&read)
	if len(problems) > 0 {
		return problems
	}
	zone, ok := asciiDomain(read.Zone)
	switch node := n.Get("zone"); {
	case node == nil:
		problems.Addf(n.Pos(), "zone is missing, expected the domain of a DNS list, such as zen.spamhaus.org")
	case !ok:
		problems.Addf(node.Pos(), "%q is no domain, expected that of a DNS list, such as zen.spamhaus.org", read.Zone)
	}
	if read.Timeout <= 0 {
		problems.Addf(n.Get("timeout").Pos(), "timeout: %v, expected more than 0", read.Timeout)
	}
	if wrong := BadPoints(read.Score); wrong != "" {
		problems.Addf(n.Get("score").Pos(), "%s", wrong)
	}
	if len(read.Of) == 0 {
		problems.Addf(n.Get("of").Pos(), "of is empty, expected one of client, rdns, helo, mail, from, dkim, uri")
	}
	late := func(of DNSBLIdentity) bool { return of == dnsblFrom || of == dnsblDKIM || of == dnsblURI }
	if read.Refuse && !slices.ContainsFunc(read.Of, func(of DNSBLIdentity) bool { return !late(of) }) {
		problems.Addf(n.Get("refuse").Pos(), "refuse: a list of what stands in the message can't refuse before the message, expected false")
	}
	if read.IPs && !slices.Contains(read.Of, dnsblURI) {
		problems.Addf(n.Get("uri_addresses").Pos(), "uri_addresses: this list is not asked about links, expected uri in of")
	}
	switch {
	case read.Banner && !read.Refuse:
		problems.Addf(n.Get("before_banner").Pos(), "before_banner: this list refuses nothing, expected refuse: true beside it")
	case read.Banner && !slices.Contains(read.Of, dnsblClient):
		problems.Addf(n.Get("before_banner").Pos(), "before_banner: only the client's address is known by then, expected client in of")
	}
	problems.Add(codeProblems(n.Get("codes"), read.Codes))
	problems.Add(maskProblems(n.Get("masks"), read.Masks))
	read.Zone = zone
	*l = DNSBLList(read)
	return problems
}

// codeProblems says what is wrong with the points by answer.
func codeProblems(n *strict.Node, codes map[netip.Prefix]float64) strict.Problems {
	var problems strict.Problems
	if n == nil {
		return nil
	}
	for _, pair := range n.Pairs() {
		code, err := strict.ParsePrefix(pair.Key.Text())
		if err != nil {
			continue // the decoder has said so
		}
		if !dnsblAnswers.Overlaps(code) || code.Bits() < dnsblAnswers.Bits() {
			problems.Addf(pair.Key.Pos(), "%s is no answer of a DNS list, expected one within 127.0.0.0/8", pair.Key.Text())
		}
		if wrong := BadPoints(codes[code]); wrong != "" {
			problems.Addf(pair.Value.Pos(), "%s", wrong)
		}
	}
	return problems
}

// maxDNSBLMask is the last three octets of an answer: the first is always 127.
const maxDNSBLMask = 1<<24 - 1

// maskProblems says what is wrong with the points by bits.
func maskProblems(n *strict.Node, masks map[int]float64) strict.Problems {
	var problems strict.Problems
	if n == nil {
		return nil
	}
	for _, pair := range n.Pairs() {
		mask, err := strconv.Atoi(pair.Key.Text())
		if err != nil || mask < 1 || mask > maxDNSBLMask {
			problems.Addf(pair.Key.Pos(), "%s is no mask, expected a number from 1 to %d whose bits are looked for in the answer", pair.Key.Text(), maxDNSBLMask)
		}
		if wrong := BadPoints(masks[mask]); wrong != "" {
			problems.Addf(pair.Value.Pos(), "%s", wrong)
		}
	}
	return problems
}

// DNSBLLists are lists of different zones.
type DNSBLLists []DNSBLList

// maxDNSBLLists bounds the look-ups of one connection.
const maxDNSBLLists = 64

// UnmarshalStrict refuses a zone that stands there twice: its listings would count double.
func (ls *DNSBLLists) UnmarshalStrict(n *strict.Node) strict.Problems {
	var lists []DNSBLList
	problems := n.Decode(&lists)
	if len(problems) > 0 {
		return problems
	}
	if len(lists) > maxDNSBLLists {
		problems.Addf(n.Pos(), "%d lists, expected at most %d", len(lists), maxDNSBLLists)
	}
	seen := map[string]bool{}
	for i, item := range n.Items() {
		if seen[lists[i].Zone] {
			problems.Addf(item.Pos(), "zone %q stands there twice, expected each list once", lists[i].Zone)
		}
		seen[lists[i].Zone] = true
	}
	*ls = lists
	return problems
}

// score is the score of a listing: of several answers the weightiest.
func (l DNSBLList) score(codes []netip.Addr) Score {
	var weightiest Score
	for i, code := range codes {
		if s := Points(l.points(code)); i == 0 || abs(s) > abs(weightiest) {
			weightiest = s
		}
	}
	return weightiest
}

// points are those of the narrowest code that an answer fits, else of the weightiest mask whose bits it has, else of the list.
func (l DNSBLList) points(code netip.Addr) float64 {
	points, bits := l.Score, -1
	for prefix, p := range l.Codes {
		if prefix.Contains(code) && prefix.Bits() > bits {
			points, bits = p, prefix.Bits()
		}
	}
	if bits >= 0 || !code.Is4() {
		return points
	}
	o := code.As4()
	value := int(o[1])<<16 | int(o[2])<<8 | int(o[3])
	heaviest := -1.0
	for mask, p := range l.Masks {
		if w := math.Abs(p); value&mask == mask && (w > heaviest || w == heaviest && p > points) {
			points, heaviest = p, w
		}
	}
	return points
}

func abs(s Score) Score { return max(s, -s) }
