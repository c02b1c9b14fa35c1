package filters

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// DKIMSignature is one DKIM-Signature field and what became of it.
type DKIMSignature struct {
	// Result is "pass", "fail" (body or header were changed), "policy" (it verifies, but says too little to be
	// trusted), "neutral" (it can't be read, or its key is being tested), "temperror" or "permerror"
	// (RFC 8601 section 2.7.1).
	Result string
	Reason string

	// What the signature says of itself. Domain and Selector are in lower case and A-labels, "" where the field is
	// too broken to have any.
	Domain     string
	Selector   string
	Identity   string // i=; "" where it says none
	Algorithm  string // "rsa-sha256"
	B          string // the signature in base64, without white space
	HeaderCano string // "simple" or "relaxed"
	BodyCano   string
	Signed     time.Time // zero where it says none
	Expires    time.Time // zero where it says none
	BodyLength int64     // l=, -1 where it says none

	KeyBits int   // size of the RSA modulus, 256 for ed25519, 0 where no key was found
	Covered []int // for a signature that verified: the indices of the header fields that it covers

	field    int // index of the field itself
	names    []string
	bodyHash []byte
	sig      []byte
	err      error // the cause of a temperror
}

// Limits on one signature field.
const (
	maxDKIMField = 64 << 10
	maxDKIMNames = 1000 // entries of h=
)

// errNotSigned is a permanent error, where other faults in a signature only make it unreadable (RFC 6376 section 6.1.1).
var errNotSigned = errors.New("the From field is not signed")

// errWeakHash is what RFC 8301 section 3.1 makes of rsa-sha1.
var errWeakHash = errors.New("rsa-sha1 is not accepted any more")

// parseDKIMSignature reads the value of a DKIM-Signature field (RFC 6376 section 3.5). The signature is never nil and
// holds what could be read.
func parseDKIMSignature(value string) (*DKIMSignature, error) {
	s := &DKIMSignature{BodyLength: -1}
	if len(value) > maxDKIMField {
		return s, fmt.Errorf("the field is longer than %d octets", maxDKIMField)
	}
	tags, err := parseTagList(value)
	if err != nil {
		return s, err
	}
	s.B = tags.dense("b")
	s.Algorithm = strings.ToLower(tags.text("a"))
	if err := s.readNames(tags); err != nil {
		return s, err
	}
	if err := s.readMethods(tags); err != nil {
		return s, err
	}
	if err := s.readTimes(tags); err != nil {
		return s, err
	}
	return s, s.readContents(tags)
}

// readNames reads whose signature it is. Everything that goes into a DNS query or a result passes asciiDomain, so
// that no control byte in it can make it another name.
func (s *DKIMSignature) readNames(tags tagList) error {
	for _, name := range []string{"v", "a", "b", "bh", "d", "h", "s"} {
		if !tags.has(name) {
			return fmt.Errorf("tag %s is missing", name)
		}
	}
	if v := tags.text("v"); v != "1" {
		return fmt.Errorf("version %q is unknown", cutText(v))
	}
	if err := s.readOwner(tags); err != nil {
		return err
	}
	if !tags.has("i") {
		return nil
	}
	identity := tags.text("i")
	at := strings.LastIndexByte(identity, '@')
	under, ok := asciiDomain(identity[at+1:])
	if at < 0 || !ok || !isSubdomain(under, s.Domain) {
		return errors.New("i= is no address in the domain of d=")
	}
	s.Identity = identity[:at+1] + under
	return nil
}

// readOwner reads the domain and the selector under which the key stands.
func (s *DKIMSignature) readOwner(tags tagList) error {
	domain, ok := asciiDomain(tags.text("d"))
	if !ok {
		return errors.New("d= is no domain")
	}
	selector, ok := asciiDomain(tags.text("s"))
	if !ok {
		return errors.New("s= is no selector")
	}
	s.Domain, s.Selector = domain, selector
	return nil
}

// readMethods reads how it was made.
func (s *DKIMSignature) readMethods(tags tagList) error {
	switch s.Algorithm {
	case "rsa-sha256", "ed25519-sha256":
	case "rsa-sha1":
		return errWeakHash
	default:
		return fmt.Errorf("algorithm %q is unknown", cutText(s.Algorithm))
	}
	s.HeaderCano, s.BodyCano = "simple", "simple"
	if tags.has("c") {
		header, body, both := strings.Cut(strings.ToLower(tags.text("c")), "/")
		s.HeaderCano = header
		if both {
			s.BodyCano = body
		}
	}
	for _, c := range []string{s.HeaderCano, s.BodyCano} {
		if c != "simple" && c != "relaxed" {
			return fmt.Errorf("canonicalization %q is unknown", cutText(c))
		}
	}
	if tags.has("q") && !hasWord(tags.dense("q"), "dns/txt") {
		return errors.New("no known way to get its key")
	}
	return nil
}

// readTimes reads t=, x= and l=.
func (s *DKIMSignature) readTimes(tags tagList) error {
	var signed, expires int64 = -1, -1
	for _, number := range []struct {
		name string
		into *int64
	}{{name: "t", into: &signed}, {name: "x", into: &expires}, {name: "l", into: &s.BodyLength}} {
		if !tags.has(number.name) {
			continue
		}
		n, err := parseDKIMNumber(tags.text(number.name))
		if err != nil {
			return fmt.Errorf("%s= is no number", number.name)
		}
		*number.into = n
	}
	if signed >= 0 && expires >= 0 && expires <= signed {
		return errors.New("it expires before it was made")
	}
	if signed >= 0 {
		s.Signed = time.Unix(signed, 0)
	}
	if expires >= 0 {
		s.Expires = time.Unix(expires, 0)
	}
	return nil
}

// maxDKIMTime is beyond any date that matters and still one that time.Time can hold.
const maxDKIMTime = math.MaxInt32 * 1000

// parseDKIMNumber reads up to 76 digits (RFC 6376 section 3.5); too large ones are cut.
func parseDKIMNumber(s string) (int64, error) {
	if s == "" || len(s) > 76 || !isAllDigits(s) {
		return 0, errors.New("not a number")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > maxDKIMTime {
		n = maxDKIMTime
	}
	return n, nil
}

// readContents reads the list of signed fields, the hash and the signature.
func (s *DKIMSignature) readContents(tags tagList) error {
	var err error
	if s.sig, err = base64.StdEncoding.DecodeString(s.B); err != nil || len(s.sig) == 0 {
		return errors.New("b= is no base64")
	}
	if s.bodyHash, err = base64.StdEncoding.DecodeString(tags.dense("bh")); err != nil || len(s.bodyHash) == 0 {
		return errors.New("bh= is no base64")
	}
	hasFrom := false
	for name := range strings.SplitSeq(strings.ToLower(tags.dense("h")), ":") {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return errors.New("h= is no list of field names")
		}
		s.names = append(s.names, name)
		hasFrom = hasFrom || name == "from"
	}
	switch {
	case len(s.names) > maxDKIMNames:
		return fmt.Errorf("h= has more than %d names", maxDKIMNames)
	case !hasFrom:
		return errNotSigned
	}
	return nil
}

// hasWord reports whether a word stands in a list with colons, in any case.
func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ":") {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}
