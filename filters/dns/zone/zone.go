// Package zone is an authoritative DNS server within the process, for tests, the demonstration and load measurement: it
// answers from a zone file, as quickly as it can, and misbehaves where the file says so.
//
// A zone file is in the master format of RFC 1035, section 5, with names of any origin: the server holds itself for
// authoritative for everything, so a name that the file does not have does not exist. Names between (an empty
// non-terminal: "example.org" where only "www.example.org" has records) exist without records. Wildcards work as in
// RFC 4592, aliases are followed within the file, and negative answers have an SOA record, a made-up one where the file
// has none. NS records are data like any other: nothing is delegated.
//
// A comment line that begins with "@" makes names misbehave, whether they have records or not:
//
//	$ORIGIN example.org.
//	$TTL 300
//	www          A   192.0.2.1
//	www          TXT "v=spf1 -all"
//	; @servfail broken         ; every type of broken.example.org is answered with SERVFAIL
//	; @timeout  www TXT        ; no answer for this type
//	; @timeout  *.slow         ; no answer for any name below slow.example.org
//	; @truncate www MX         ; over UDP only a truncated answer, over TCP the whole one
//	; @refused  other.example. ; refused
//	; @formerr  old            ; a format error, as from a server that knows no EDNS0
//	; @lie      liar           ; the right id, but another question and its answer
//	; @stray    noisy          ; forged answers (wrong id, wrong question) before the right one
//	; @garbage  junk           ; the header and the question, then octets that are no records
//	; @lose     flaky          ; every other query over UDP gets lost, the first one first
package zone

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// defaultTTL is the TTL, in seconds, of records where the file names none; also that of made-up SOA records.
const defaultTTL = 300

// Fault is a way to misbehave.
type Fault string

// The faults, by the word that a zone file has after "@".
const (
	Servfail Fault = "servfail"
	Timeout  Fault = "timeout"
	Truncate Fault = "truncate"
	Refused  Fault = "refused"
	Formerr  Fault = "formerr"
	Lie      Fault = "lie"
	Stray    Fault = "stray"
	Garbage  Fault = "garbage"
	Lose     Fault = "lose"
)

var faultNames = []Fault{Servfail, Timeout, Truncate, Refused, Formerr, Lie, Stray, Garbage, Lose}

// Zone is what a server answers from. Fill it before it is served; then it may be served by several servers, but must not
// change.
type Zone struct {
	records map[string]map[uint16][]dns.RR // by canonical owner name, then type
	names   map[string]bool                // the owners and all names above them
	faults  map[faultKey]Fault
}

// faultKey says where a fault applies: typ 0 is every type.
type faultKey struct {
	name string
	typ  uint16
}

// New makes an empty zone: no name exists in it.
func New() *Zone {
	return &Zone{
		records: make(map[string]map[uint16][]dns.RR),
		names:   map[string]bool{".": true},
		faults:  make(map[faultKey]Fault),
	}
}

// Parse reads a zone file. file is its name in errors, which have the form "file:line:column: what is wrong".
func Parse(file string, src []byte) (*Zone, error) {
	z := New()
	p := dns.NewZoneParser(bytes.NewReader(src), ".", "")
	p.SetDefaultTTL(defaultTTL)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.Add(rr)
	}
	if err := p.Err(); err != nil {
		return nil, positioned(file, err)
	}
	if err := z.directives(file, src); err != nil {
		return nil, err
	}
	return z, nil
}

// Add adds a record. Its name counts in any case.
func (z *Zone) Add(rr dns.RR) {
	name := canonical(rr.Header().Name)
	types, ok := z.records[name]
	if !ok {
		types = make(map[uint16][]dns.RR)
		z.records[name] = types
		for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
			z.names[name[off:]] = true
		}
	}
	t := rr.Header().Rrtype
	types[t] = append(types[t], rr)
}

// Misbehave has queries for name (and, with "*." in front, for every name below it) answered in the way of f. typ is a type
// of miekg/dns, 0 for all.
func (z *Zone) Misbehave(name string, typ uint16, f Fault) {
	z.faults[faultKey{name: canonical(name), typ: typ}] = f
}

// fault gives the fault for a name and type: the exact name's before that of a wildcard above it, that for the type before
// that for all.
func (z *Zone) fault(name string, typ uint16) Fault {
	if len(z.faults) == 0 {
		return ""
	}
	if f, ok := z.faultAt(name, typ); ok {
		return f
	}
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if f, ok := z.faultAt("*."+name[off:], typ); ok {
			return f
		}
	}
	f, _ := z.faultAt("*.", typ)
	return f
}

func (z *Zone) faultAt(name string, typ uint16) (Fault, bool) {
	if f, ok := z.faults[faultKey{name: name, typ: typ}]; ok {
		return f, true
	}
	f, ok := z.faults[faultKey{name: name}]
	return f, ok
}

// parsePlace takes miekg/dns's errors apart: what is wrong, the token, its line and the column at which it ends.
var parsePlace = regexp.MustCompile(`^(?:dns: )?(.*): (".*") at line: (\d+):(\d+)$`)

func positioned(file string, err error) error {
	m := parsePlace.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	column, _ := strconv.Atoi(m[4]) // the pattern has digits only
	if token, err := strconv.Unquote(m[2]); err == nil && column >= len(token) {
		column -= len(token) - 1
	}
	return fmt.Errorf("%s:%s:%d: %s: %s", file, m[3], column, m[1], m[2])
}

// directives reads the comment lines that begin with "@". A name is relative to the $ORIGIN in force, as in records.
func (z *Zone) directives(file string, src []byte) error {
	origin := "."
	for i, line := range strings.Split(string(src), "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 && strings.EqualFold(fields[0], "$ORIGIN") {
			origin = absolute(fields[1], origin)
			continue
		}
		text, ok := strings.CutPrefix(strings.TrimSpace(line), ";")
		text = strings.TrimSpace(text)
		if !ok || len(text) < 2 || text[0] != '@' || text[1] <= ' ' { // "@ ..." speaks about the origin
			continue
		}
		text, _, _ = strings.Cut(text, ";")
		if err := z.directive(text[1:], origin); err != nil {
			return fmt.Errorf("%s:%d:%d: %w", file, i+1, strings.IndexByte(line, '@')+1, err)
		}
	}
	return nil
}

func (z *Zone) directive(text, origin string) error {
	fields := strings.Fields(text)
	if len(fields) < 2 || len(fields) > 3 {
		return errors.New("a directive has the form \"@what name [type]\"")
	}
	var fault Fault
	for _, f := range faultNames {
		if fields[0] == string(f) {
			fault = f
		}
	}
	if fault == "" {
		return fmt.Errorf("unknown directive %s, expected one of %v", strconv.Quote("@"+fields[0]), faultNames)
	}
	typ := uint16(0)
	if len(fields) == 3 {
		if typ = dns.StringToType[strings.ToUpper(fields[2])]; typ == 0 {
			return fmt.Errorf("unknown record type %q", fields[2])
		}
	}
	name := absolute(fields[1], origin)
	if _, ok := dns.IsDomainName(name); !ok {
		return fmt.Errorf("%q is not a domain name", name)
	}
	z.Misbehave(name, typ, fault)
	return nil
}

func absolute(name, origin string) string {
	switch {
	case name == "@":
		return origin
	case dns.IsFqdn(name):
		return name
	case origin == ".":
		return name + "."
	}
	return name + "." + origin
}

// canonical gives a name in lower case, escaped as names out of packets are.
func canonical(name string) string {
	name = dns.CanonicalName(name)
	var buf [256]byte
	if _, err := dns.PackDomainName(name, buf[:], 0, nil, false); err == nil {
		if unpacked, _, err := dns.UnpackDomainName(buf[:], 0); err == nil {
			return unpacked
		}
	}
	return name
}
