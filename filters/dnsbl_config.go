package filters

import (
	"net/netip"
	"time"

	"postern/rules/strict"
)

// DNSBLConfig is the configuration of the DNS lists that are asked about the client's address.
type DNSBLConfig struct {
	Lists DNSBLLists `yaml:"lists"`
}

func defaultDNSBLConfig() DNSBLConfig { return DNSBLConfig{} }

// DNSBLList is one DNS list (RFC 5782), of bad addresses, or with a negative score of good ones.
type DNSBLList struct {
	Zone    string                   `yaml:"zone"`
	Score   float64                  `yaml:"score"`   // points for a listed address
	Codes   map[netip.Prefix]float64 `yaml:"codes"`   // points by answer, where they differ: {127.0.0.10: 3, 127.0.0.4/30: 5}
	Refuse  bool                     `yaml:"refuse"`  // a listing may refuse mail before DATA
	Timeout time.Duration            `yaml:"timeout"` // how long this list is waited for
}

const defaultDNSBLTimeout = 5 * time.Second

func (l DNSBLList) withDefaults() DNSBLList {
	if l.Timeout <= 0 {
		l.Timeout = defaultDNSBLTimeout
	}
	return l
}

// UnmarshalStrict wants a zone, and codes that a list can answer.
func (l *DNSBLList) UnmarshalStrict(n *strict.Node) strict.Problems {
	type plain DNSBLList
	read := plain{Score: 1, Timeout: defaultDNSBLTimeout}
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
	problems.Add(codeProblems(n.Get("codes"), read.Codes))
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

// score is the score of a listing: of each answer that of the narrowest code that fits it, or else that of the list;
// of several answers the weightiest.
func (l DNSBLList) score(codes []netip.Addr) Score {
	var weightiest Score
	for i, code := range codes {
		points, bits := l.Score, -1
		for prefix, p := range l.Codes {
			if prefix.Contains(code) && prefix.Bits() > bits {
				points, bits = p, prefix.Bits()
			}
		}
		if s := Points(points); i == 0 || abs(s) > abs(weightiest) {
			weightiest = s
		}
	}
	return weightiest
}

func abs(s Score) Score { return max(s, -s) }
