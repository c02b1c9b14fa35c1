package filters

import (
	"net/netip"
	"strings"

	"postern/filters/message"
)

// A Hop is what a relay wrote about its client into a Received field (RFC 5321 section 4.4).
type Hop struct {
	Helo string
	IP   netip.Addr
}

// maxHops bounds how many Received fields are read in the search for the client behind our own relays.
const maxHops = 10

// BehindRelays finds the client that handed the message to the outermost of our relays: it reads the topmost
// Received field, which the peer wrote, and goes on to the next one as long as the client named there is a relay of
// ours too. ok is false when a field can't be read: then nobody is known who could be judged.
func BehindRelays(h message.Header, isRelay func(netip.Addr) bool) (Hop, bool) {
	for i, field := range h.All("Received") {
		if i == maxHops {
			break
		}
		hop, ok := ParseReceived(field.Value())
		if !ok {
			return Hop{}, false
		}
		if !isRelay(hop.IP) {
			return hop, true
		}
	}
	return Hop{}, false
}

// ParseReceived reads the from clause as the common servers write it:
//
//	from helo (rdns [192.0.2.1]) by …            Postfix, Sendmail, Postern
//	from rdns ([192.0.2.1] helo=helo) by …       Exim
//	from [192.0.2.1] (helo=helo) by …            Exim without reverse name
//	from helo (192.0.2.1) by …                   Exchange
//	from unknown (HELO helo) (192.0.2.1) by …    qmail
//
// Only what the server vouches for counts: an address literal given as HELO is not taken for the client's address
// when the parentheses behind it hold one.
func ParseReceived(value string) (Hop, bool) {
	rest, ok := cutWord(value, "from")
	if !ok {
		return Hop{}, false
	}
	clause := fromClause(rest)
	first, tail, _ := strings.Cut(clause, " ")
	hop := Hop{Helo: first}
	if name, found := heloIn(tail); found {
		hop.Helo = name
	}
	// What follows Exim's helo= is the client's own word, an address in it too.
	tail, _, _ = strings.Cut(tail, "helo=")
	for _, candidate := range []string{tail, first} {
		if ip, found := addressIn(candidate); found {
			hop.IP = ip
			return hop, true
		}
	}
	return Hop{}, false
}

// cutWord cuts a leading keyword that white space follows.
func cutWord(s, word string) (string, bool) {
	s = strings.TrimLeft(s, " \t")
	if len(s) <= len(word) || !strings.EqualFold(s[:len(word)], word) || s[len(word)] != ' ' && s[len(word)] != '\t' {
		return "", false
	}
	return strings.TrimLeft(s[len(word):], " \t"), true
}

// fromClause is the text before the word "by" that stands outside parentheses.
func fromClause(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ' ', '\t':
			if _, by := cutWord(s[i:], "by"); by && depth <= 0 {
				return s[:i]
			}
		}
	}
	return s
}

// heloIn finds Exim's helo=name and qmail's HELO name.
func heloIn(s string) (string, bool) {
	for _, mark := range []string{"helo=", "HELO "} {
		if _, after, found := strings.Cut(s, mark); found {
			if end := strings.IndexAny(after, " )"); end >= 0 {
				after = after[:end]
			}
			return after, after != ""
		}
	}
	return "", false
}

// addressIn finds the last IP address that stands alone or in brackets: what a server adds stands behind what the
// client said.
func addressIn(s string) (netip.Addr, bool) {
	fields := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t()[]", r) })
	for i := len(fields) - 1; i >= 0; i-- {
		word := fields[i]
		if len(word) > 5 && strings.EqualFold(word[:5], "IPv6:") {
			word = word[5:]
		}
		if ip, err := netip.ParseAddr(word); err == nil && ip.Zone() == "" {
			return ip.Unmap(), true
		}
	}
	return netip.Addr{}, false
}
