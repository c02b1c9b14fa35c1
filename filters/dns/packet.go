package dns

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	mdns "github.com/miekg/dns"
)

// The header of a message (RFC 1035, section 4.1.1).
const (
	headerLen = 12

	flagResponse  = 0x80 // in octet 2
	flagOpcode    = 0x78
	flagTruncated = 0x02
	flagRecurse   = 0x01
	maskRcode     = 0x0f // in octet 3
)

// udpSize is the largest answer we take over UDP: what passes every network without fragments.
const udpSize = 1232

// errStray says that a packet is not the answer to the question: late, forged or mistaken. It is ignored.
var errStray = errors.New("not an answer to the question")

// packet is one question as it goes out.
type packet struct {
	octets   []byte
	question []byte // the question section, a part of octets
}

// newPacket packs q with a random id and, if mixCase, random case: what an answer must repeat (RFC 5452, sections 4 and 9).
func newPacket(q question, mixCase, edns bool) (*packet, error) {
	buf := make([]byte, headerLen+256+4+11)
	end, err := mdns.PackDomainName(q.name, buf, headerLen, nil, false)
	if err != nil {
		return nil, fmt.Errorf("name %q can't be packed: %w", q.name, err)
	}
	var random [2 + 32]byte
	rand.Read(random[:]) // never fails
	copy(buf, random[:2])
	buf[2] = flagRecurse
	buf[5] = 1 // one question
	if mixCase {
		for i, c := range buf[headerLen:end] {
			if 'a' <= c && c <= 'z' && random[2+i/8]&(1<<(i%8)) != 0 {
				buf[headerLen+i] = c - 'a' + 'A'
			}
		}
	}
	binary.BigEndian.PutUint16(buf[end:], q.qtype)
	binary.BigEndian.PutUint16(buf[end+2:], mdns.ClassINET)
	end += 4
	p := &packet{question: buf[headerLen:end]}
	if edns {
		buf[11] = 1 // one additional record: root, OPT, our UDP size, no flags, no options (RFC 6891, section 6.1.2)
		binary.BigEndian.PutUint16(buf[end+1:], mdns.TypeOPT)
		binary.BigEndian.PutUint16(buf[end+3:], udpSize)
		end += 11
	}
	p.octets = buf[:end]
	return p, nil
}

// matches checks that answer belongs to p. The error is errStray where it does not, errTruncated or errCase where it does
// but TCP is called for.
func (p *packet) matches(answer []byte) error {
	if len(answer) < headerLen || !bytes.Equal(answer[:2], p.octets[:2]) {
		return errStray
	}
	if answer[2]&flagResponse == 0 || answer[2]&flagOpcode != 0 {
		return errStray
	}
	rcode := int(answer[3] & maskRcode)
	switch questions := binary.BigEndian.Uint16(answer[4:]); {
	case questions == 0 && rejectsEDNS(rcode):
		// Servers that could not read the question leave it out. All this leads to is another try without EDNS0.
		return nil
	case questions != 1 || len(answer) < headerLen+len(p.question):
		return errStray
	}
	got := answer[headerLen : headerLen+len(p.question)]
	exact := bytes.Equal(got, p.question)
	switch {
	case !exact && !equalFold(got, p.question):
		return errStray
	case answer[2]&flagTruncated != 0:
		return errTruncated
	case !exact:
		return errCase
	}
	return nil
}

// equalFold compares two question sections of one length. Letters are never lengths or types: a label has at most 63
// octets, and the types that we ask for are below 'A'.
func equalFold(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
