package upstream

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxPath bounds a path: RFC 5321 section 4.5.3.1.3 allows 256 octets; quoting and UTF-8 make longer ones common enough.
const maxPath = 1000

// A Path is a reverse-path or forward-path. The zero value is the null reverse-path "<>".
type Path struct {
	Local  string // unquoted
	Domain string // as written; an address literal keeps its brackets; may be empty in a recipient ("postmaster")
}

// Null reports whether p is the null reverse-path.
func (p Path) Null() bool { return p.Local == "" && p.Domain == "" }

// String is the path as it stands between the angle brackets: the local part is quoted where RFC 5321 section 4.1.2 needs it.
func (p Path) String() string {
	if p.Null() {
		return ""
	}
	if p.Domain == "" {
		return quoteLocal(p.Local)
	}
	return quoteLocal(p.Local) + "@" + p.Domain
}

// check says why p can't be sent, or nil. What passes can't end the path or the line early, whatever its parts hold:
// the local part is quoted and has no controls, the domain has nothing but letters, digits and a few marks.
func (p Path) check() error {
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

func (p Path) ascii() bool { return isASCII(p.Local) && isASCII(p.Domain) }

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

func quoteLocal(s string) string {
	if isDotString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// isDotString reports whether s is a Dot-string: atoms, which with RFC 6531 may hold UTF-8, and single dots between them.
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			if c := atom[i]; c < 0x80 && !isAlnum(c) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) < 0 {
				return false
			}
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
