package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// The limits of RFC 1035, section 2.3.4, in octets.
const (
	maxLabel = 63
	maxName  = 253  // without the final dot; 255 on the wire
	maxInput = 1024 // longest name worth converting from Unicode: 253 letters of four octets each
)

// lookupProfile maps names as RFC 5891 wants for look-ups, but lets labels such as "_dmarc" stand beside Unicode ones.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.CheckHyphens(false),
	idna.StrictDomainName(false),
)

// wireName gives name in the form that miekg/dns packs and unpacks: lower case, A-labels, odd octets escaped, with the
// final dot. The error says why it cannot stand in DNS.
//
// Octets that no host name has are let through, since the macros of SPF and selectors of DKIM make such names; control
// characters are not, for nobody means them and software has been fooled by them.
func wireName(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return "", errors.New("the name is empty")
	}
	if len(name) > maxInput {
		return "", fmt.Errorf("a name has at most %d octets", maxName)
	}
	if !isASCII(name) {
		if !utf8.ValidString(name) {
			return "", errors.New("the name is not valid UTF-8")
		}
		a, err := lookupProfile.ToASCII(name)
		if err != nil {
			return "", errors.New("the name has no ASCII form") // idna's own error repeats the name unquoted
		}
		name = strings.TrimSuffix(a, ".")
	}
	if len(name) == 0 || len(name) > maxName {
		return "", fmt.Errorf("a name has 1 to %d octets", maxName)
	}
	plain, err := checkLabels(name)
	if err != nil {
		return "", err
	}
	if plain {
		return name + ".", nil
	}
	return escapeName(name), nil
}

// checkLabels applies the length limits and refuses control characters. plain says that name is already in its wire form.
func checkLabels(name string) (plain bool, err error) {
	plain = true
	start := 0
	for i := 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			if n := i - start; n == 0 || n > maxLabel {
				return false, fmt.Errorf("a label has 1 to %d octets", maxLabel)
			}
			start = i + 1
			continue
		}
		switch c := name[i]; {
		case c < ' ' || c >= 0x7f:
			return false, errors.New("the name has a control character")
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			plain = false
		}
	}
	return plain, nil
}

// escapeName lowers the letters of name and escapes what miekg/dns escapes when it unpacks, so that the two compare equal.
func escapeName(name string) string {
	var b strings.Builder
	b.Grow(len(name) + 16)
	for i := range len(name) {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		case c == '.':
			b.WriteByte(c)
		case strings.IndexByte(` '@;()"\`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('.')
	return b.String()
}

// hostName gives a name out of an answer as we hand it on, lower case and without the final dot, "." for the root. ok is
// false for names with octets that need an escape: no host has them, and they could not be asked for again.
func hostName(wire string) (name string, ok bool) {
	if wire == "." {
		return wire, true
	}
	if wire == "" || strings.ContainsRune(wire, '\\') { // "" is a record without data
		return "", false
	}
	return strings.ToLower(strings.TrimSuffix(wire, ".")), true
}

// ReverseName gives the name at which the PTR records of addr are, without the final dot: "1.2.0.192.in-addr.arpa", or
// the nibbles under ip6.arpa. An IPv4-mapped address counts as IPv4. It is "" for the zero Addr.
func ReverseName(addr netip.Addr) string {
	const digits = "0123456789abcdef"
	addr = addr.Unmap()
	switch {
	case addr.Is4():
		b := addr.As4()
		return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa", b[3], b[2], b[1], b[0])
	case addr.Is6():
		b := addr.As16()
		name := make([]byte, 0, 72)
		for i := len(b) - 1; i >= 0; i-- {
			name = append(name, digits[b[i]&0xf], '.', digits[b[i]>>4], '.')
		}
		return string(append(name, "ip6.arpa"...))
	}
	return ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// typeName gives the name of a record type, "TXT".
func typeName(t uint16) string { return mdns.Type(t).String() }
