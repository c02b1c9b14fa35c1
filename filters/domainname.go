package filters

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 1035 section 2.3.4, in the text form without the final dot.
const (
	maxDomainName  = 253
	maxDomainLabel = 63
)

// lookupIDNA turns U-labels to A-labels as a resolver would (UTS 46, non-transitional), and lets underscores pass,
// because selectors and service names have them.
var lookupIDNA = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// asciiDomain gives the form in which domains are compared and looked up: A-labels in lower case, without the final
// dot. ok is false for what can't be a domain in DNS: an empty or too long label, a too long name, any byte but
// letters, digits, hyphen and underscore. So no control byte gets past it into a query.
func asciiDomain(name string) (domain string, ok bool) {
	if len(name) > 4*maxDomainName || !utf8.ValidString(name) { // U-labels are at most four octets a letter
		return "", false
	}
	name = strings.TrimSuffix(name, ".")
	if !isASCII(name) {
		converted, err := lookupIDNA.ToASCII(name)
		if err != nil {
			return "", false
		}
		name = converted
	}
	if len(name) == 0 || len(name) > maxDomainName {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return strings.ToLower(name), true
}

// isLabel reports whether s is a label of letters, digits, hyphens and underscores, with no hyphen at either end.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > maxDomainLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlphanum(s[i]) && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}

func isAlphanum(c byte) bool { return isAlpha(c) || isDigit(c) }
func isAlpha(c byte) bool    { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isDigit(c byte) bool    { return '0' <= c && c <= '9' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isSubdomain reports whether name is domain or a name below it. Both are as asciiDomain gives them.
func isSubdomain(name, domain string) bool {
	return name == domain || domain != "" && strings.HasSuffix(name, "."+domain)
}

// parentDomain cuts the leftmost label; of a top-level domain it gives "".
func parentDomain(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return parent
}
