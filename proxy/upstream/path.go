package upstream

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"postern/filters"
)

// maxPath bounds a path: RFC 5321 section 4.5.3.1.3 allows 256 octets; quoting and UTF-8 make longer ones common enough.
const maxPath = 1000

// A Path is a reverse-path or forward-path. The domain of a recipient may be empty ("postmaster").
type Path = filters.Path

// checkPath says why p can't be sent, or nil. What passes can't end the path or the line early, whatever its parts hold:
// the local part is quoted and has no controls, the domain has nothing but letters, digits and a few marks.
func checkPath(p Path) error {
	switch {
	case len(p.Local)+len(p.Domain) > maxPath:
		return fmt.Errorf("address longer than %d octets", maxPath)
	case !utf8.ValidString(p.Local) || !utf8.ValidString(p.Domain):
		return fmt.Errorf("address is not valid UTF-8")
	case strings.ContainsFunc(p.Local, isControl):
		return fmt.Errorf("control character in the local part")
	case !isDomain(p.Domain):
		return fmt.Errorf("bad character in the domain")
	}
	return nil
}

func asciiPath(p Path) bool { return isASCII(p.Local) && isASCII(p.Domain) }

func isControl(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }

// isDomain reports whether s has only octets that a domain or an address literal can have.
func isDomain(s string) bool {
	marks := "-._"
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
		marks = "-._:"
	}
	for _, r := range s {
		if r < 0x80 && !isAlnum(byte(r)) && strings.IndexByte(marks, byte(r)) < 0 || isControl(r) {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// xtext encodes s as RFC 3461 section 4 has it: nothing but printable ASCII without "+" and "=" is left as it is.
func xtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// utf8AddrXtext encodes an internationalized address for ORCPT in ASCII (RFC 6533 section 3).
func utf8AddrXtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < '!' || r > '~' || r == '+' || r == '=' || r == '\\' {
			fmt.Fprintf(&b, "\\x{%X}", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
