package zone

import (
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

const headerLen = 12

// query is a question as it came in.
type query struct {
	octets   []byte // the whole packet; valid until the next one is read
	question []byte // its question section
	lower    string // the name on the wire, in lower case
	name     string // the same as miekg/dns writes it, with the final dot
	typ      uint16
	edns     bool
	size     uint16 // of the largest UDP answer that the client takes
	before   int    // how often the same was asked before
}

// parseQuery reads a packet. ok is false for what is no query with one question of class IN.
func parseQuery(p []byte) (q *query, ok bool) {
	if len(p) < headerLen || p[2]&0xf8 != 0 || binary.BigEndian.Uint16(p[4:]) != 1 {
		return nil, false
	}
	off := headerLen
	for off < len(p) && p[off] != 0 {
		if p[off] > 63 {
			return nil, false
		}
		off += 1 + int(p[off])
	}
	if end := off + 5; end > len(p) || end > headerLen+255+4 {
		return nil, false
	}
	q = &query{octets: p, question: p[headerLen : off+5], size: dns.MinMsgSize}
	q.lower = strings.ToLower(string(p[headerLen : off+1])) // lengths are below 'A'
	name, _, err := dns.UnpackDomainName([]byte(q.lower), 0)
	if err != nil {
		return nil, false
	}
	q.name = name
	q.typ = binary.BigEndian.Uint16(p[off+1:])
	if binary.BigEndian.Uint16(p[off+3:]) != dns.ClassINET {
		return nil, false
	}
	// An OPT record, with no other record before it (RFC 6891, section 6.1.2).
	if rest := p[off+5:]; binary.BigEndian.Uint16(p[10:]) > 0 && len(rest) >= 11 &&
		rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == dns.TypeOPT {
		q.edns = true
		q.size = min(max(binary.BigEndian.Uint16(rest[3:]), dns.MinMsgSize), maxUDP)
	}
	return q, true
}

// replies gives the packets that answer q: mostly one.
func (s *Server) replies(q *query, udp bool) [][]byte {
	fault := s.zone.fault(q.name, q.typ)
	switch {
	case fault == Timeout, fault == Lose && udp && q.before%2 == 0:
		return nil
	case fault == Formerr && q.edns:
		return [][]byte{q.header(dns.RcodeFormatError)}
	case fault == Truncate && udp:
		p := append(q.header(dns.RcodeSuccess), q.question...)
		p[2] |= 0x02
		p[5] = 1
		return [][]byte{p}
	}
	right := s.reply(q, udp, fault)
	switch fault {
	case Lie:
		return [][]byte{lie(right)}
	case Stray:
		wrongID := append([]byte(nil), right...)
		wrongID[0] ^= 0xff
		echo := append([]byte(nil), q.octets...)
		return [][]byte{{0xff}, wrongID, lie(right), echo, right}
	case Garbage:
		p := append(q.header(dns.RcodeSuccess), q.question...)
		p[5], p[7] = 1, 3 // three answers
		return [][]byte{append(p, 0xc0, 0xff, 0x3f, 1, 2, 3, 0xff, 0xff, 0xff)}
	}
	return [][]byte{right}
}

// header gives the bare header of an answer to q.
func (q *query) header(rcode byte) []byte {
	p := make([]byte, headerLen, headerLen+len(q.question)+16)
	copy(p, q.octets[:2])
	p[2] = 0x84 | q.octets[2]&0x01 // an authoritative answer; recursion as desired
	p[3] = 0x80 | rcode
	return p
}

// lie changes a letter of the name in the question, and so in the answer.
func lie(right []byte) []byte {
	p := append([]byte(nil), right...)
	if p[headerLen] > 0 {
		p[headerLen+1] ^= 0x01
	}
	return p
}

// reply gives the packed answer to q, from memory where the same was asked before.
func (s *Server) reply(q *query, udp bool, fault Fault) []byte {
	k := packedKey{name: q.lower, typ: q.typ, edns: q.edns}
	if udp {
		k.size = q.size
	}
	s.mu.Lock()
	p, ok := s.packed[k]
	s.mu.Unlock()
	if !ok {
		p = s.pack(q, k, fault)
		s.mu.Lock()
		if len(s.packed) < maxCached {
			s.packed[k] = p
		}
		s.mu.Unlock()
	}
	p = append([]byte(nil), p...)
	copy(p, q.octets[:2])
	copy(p[headerLen:], q.question) // names that point here repeat its case as well
	return p
}

func (s *Server) pack(q *query, k packedKey, fault Fault) []byte {
	m := &dns.Msg{Compress: true}
	m.Response = true
	m.RecursionDesired = q.octets[2]&0x01 != 0
	m.Question = []dns.Question{{Name: q.name, Qtype: q.typ, Qclass: dns.ClassINET}}
	switch fault {
	case Servfail:
		m.Rcode = dns.RcodeServerFailure
	case Refused:
		m.Rcode = dns.RcodeRefused
	default:
		s.zone.answer(m)
	}
	if q.edns {
		m.SetEdns0(maxUDP, false)
	}
	size := int(k.size)
	if size == 0 {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	m.Compress = true // Truncate clears it for small messages; reply relies on names that point to the question
	p, err := m.Pack()
	if err != nil { // a record that cannot be packed: the zone is at fault
		h := append(q.header(dns.RcodeServerFailure), q.question...)
		h[5] = 1
		return h
	}
	return p
}
