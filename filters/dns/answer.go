package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"
)

// Limits on what an answer may hold.
const (
	maxChain   = 10       // CNAME records from the name that was asked to the records
	maxRecords = 256      // further addresses, exchangers and names are left out
	maxText    = 32 << 10 // octets of all TXT records together; more is a failure, for a part may mislead
)

var (
	errChain   = fmt.Errorf("a CNAME loop, or a chain of more than %d", maxChain)
	errTooMuch = fmt.Errorf("the TXT records are larger than %d octets", maxText)
)

// question is what is asked: a name in wire form (see wireName) and a record type.
type question struct {
	name  string
	qtype uint16
}

// answer is the outcome of a look-up, as it is cached and shared: nobody may change its slices.
type answer struct {
	kind  Kind // 0: there are records
	cause error
	ttl   time.Duration

	addrs []netip.Addr
	texts []string
	mx    []MX
	names []string
}

func failed(err error) answer { return answer{kind: Temporary, cause: err} }

// size estimates the memory of an answer, in octets.
func (a *answer) size() int64 {
	n := int64(len(a.addrs) * 24)
	for _, t := range a.texts {
		n += int64(len(t)) + 16
	}
	for _, m := range a.mx {
		n += int64(len(m.Host)) + 24
	}
	for _, s := range a.names {
		n += int64(len(s)) + 16
	}
	return n
}

// text gives the records as [WithTrace] shows them.
func (a *answer) text() []string {
	var out []string
	for _, ip := range a.addrs {
		out = append(out, ip.String())
	}
	for _, m := range a.mx {
		out = append(out, fmt.Sprintf("%d %s", m.Pref, m.Host))
	}
	return append(append(out, a.texts...), a.names...)
}

// reading is the state of following one name to its records, possibly over several messages.
type reading struct {
	question
	links int // CNAME records followed so far
	ttl   uint32
}

// read takes from msg what it says about rd's name. done is false where msg only has a part of the CNAME chain: then
// rd.name is the name to ask for next.
func (rd *reading) read(msg *mdns.Msg) (a answer, done bool) {
	aliases := aliasesIn(msg)
	followed := false
	for {
		alias, ok := aliases[strings.ToLower(rd.name)]
		if !ok {
			break
		}
		if rd.links++; rd.links > maxChain {
			return failed(errChain), true
		}
		rd.name = strings.ToLower(alias.Target)
		rd.ttl = min(rd.ttl, alias.Hdr.Ttl)
		followed = true
	}
	a, err := rd.records(msg)
	switch {
	case err != nil:
		return failed(err), true
	case a.kind == 0:
		return a, true
	}
	// RFC 2308, section 2: the response code is about the last name of the chain.
	soa, found := negativeTTL(msg)
	switch {
	case msg.Rcode == mdns.RcodeNameError:
		a.kind = NotExist
	case followed && !found:
		return answer{}, false
	default:
		a.kind = NoData
	}
	a.ttl = seconds(min(rd.ttl, soa))
	return a, true
}

// aliasesIn gives the CNAME records of the answer section by their owner in lower case. A second CNAME of an owner, which
// RFC 1034, section 3.6.2 forbids, is ignored.
func aliasesIn(msg *mdns.Msg) map[string]*mdns.CNAME {
	var m map[string]*mdns.CNAME
	for _, rr := range msg.Answer {
		c, ok := rr.(*mdns.CNAME)
		if !ok || c.Hdr.Class != mdns.ClassINET || c.Target == "" { // "" is a record without data
			continue
		}
		owner := strings.ToLower(c.Hdr.Name)
		if _, dup := m[owner]; dup {
			continue
		}
		if m == nil {
			m = make(map[string]*mdns.CNAME)
		}
		m[owner] = c
	}
	return m
}

// records collects the records of rd's name and type; kind is NoData where there is none.
func (rd *reading) records(msg *mdns.Msg) (answer, error) {
	a := answer{kind: NoData}
	ttl, count, text := rd.ttl, 0, 0
	for _, rr := range msg.Answer {
		h := rr.Header()
		if h.Rrtype != rd.qtype || h.Class != mdns.ClassINET || !strings.EqualFold(h.Name, rd.name) {
			continue
		}
		if count++; count > maxRecords && rd.qtype != mdns.TypeTXT {
			break
		}
		ttl = min(ttl, h.Ttl)
		if text += a.add(rr); text > maxText {
			return answer{}, errTooMuch
		}
	}
	if len(a.addrs)+len(a.texts)+len(a.mx)+len(a.names) == 0 {
		return a, nil
	}
	a.kind, a.ttl = 0, seconds(ttl)
	slices.SortStableFunc(a.mx, func(x, y MX) int { return int(x.Pref) - int(y.Pref) })
	return a, nil
}

// add appends one record and gives the octets of text that it brought.
func (a *answer) add(rr mdns.RR) (text int) {
	switch rr := rr.(type) {
	case *mdns.A:
		if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok {
			a.addrs = append(a.addrs, ip)
		}
	case *mdns.AAAA:
		if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			a.addrs = append(a.addrs, ip)
		}
	case *mdns.TXT:
		t := joinText(rr.Txt)
		a.texts = append(a.texts, t)
		return len(t) + 16 // an empty one costs memory too
	case *mdns.MX:
		if host, ok := hostName(rr.Mx); ok {
			a.mx = append(a.mx, MX{Pref: rr.Preference, Host: host})
		}
	case *mdns.PTR:
		if host, ok := hostName(rr.Ptr); ok && host != "." {
			a.names = append(a.names, host)
		}
	}
	return 0
}

// joinText joins the character-strings of a TXT record and undoes the escapes that miekg/dns writes into them.
func joinText(parts []string) string {
	s := strings.Join(parts, "")
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			b = append(b, (s[i+1]-'0')*100+(s[i+2]-'0')*10+(s[i+3]-'0'))
			i += 3
		default:
			i++
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// negativeTTL gives how long, in seconds, the absence that msg tells of may be kept: the lesser of the SOA's own TTL and its
// minimum field (RFC 2308, section 5). Without an SOA it may not be kept.
func negativeTTL(msg *mdns.Msg) (ttl uint32, found bool) {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*mdns.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl), true
		}
	}
	return 0, false
}

// isReferral reports whether msg points to other servers instead of answering (RFC 2308, section 2.2.1): the server does
// not recurse for us, and so knows nothing.
func isReferral(msg *mdns.Msg) bool {
	if msg.Rcode != mdns.RcodeSuccess || len(msg.Answer) > 0 {
		return false
	}
	ns := false
	for _, rr := range msg.Ns {
		switch rr.(type) {
		case *mdns.SOA:
			return false
		case *mdns.NS:
			ns = true
		}
	}
	return ns
}

var errReferral = errors.New("a referral instead of an answer: the server does not recurse for us")

// maxTTL is the largest TTL; one with the top bit set counts as 0 (RFC 2181, section 8).
const maxTTL = 1<<31 - 1

func seconds(ttl uint32) time.Duration {
	if ttl > maxTTL {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
