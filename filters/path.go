package filters

import (
	"crypto/tls"
	"errors"
	"strings"
)

// ParsePath reads an address as it stands between the angle brackets of MAIL and RCPT; "" and "<>" are the null
// reverse-path. A quoted local part is unquoted.
func ParsePath(s string) (Path, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
	if s == "" {
		return Path{}, nil
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 {
		return Path{}, errors.New("not an address: expected local-part@domain")
	}
	local, domain := s[:at], s[at+1:]
	if strings.HasPrefix(local, `"`) && strings.HasSuffix(local, `"`) && len(local) >= 2 {
		local = unquote(local[1 : len(local)-1])
	}
	return Path{Local: local, Domain: domain}, nil
}

func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// String writes the path as RFC 5321 section 4.1.2 wants it, the local part quoted where it is no dot-string;
// the null reverse-path is "", and the domain may be missing ("postmaster").
func (p Path) String() string {
	switch {
	case p.Null():
		return ""
	case p.Domain == "":
		return quoteLocal(p.Local)
	}
	return quoteLocal(p.Local) + "@" + p.Domain
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

// isDotString reports whether s is atoms with single dots between them (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			if !isAtext(atom[i]) {
				return false
			}
		}
	}
	return true
}

func isAtext(c byte) bool {
	return c >= 0x80 || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// TLSName is a protocol version as the log writes it: "1.3".
func TLSName(version uint16) string {
	return strings.TrimPrefix(tls.VersionName(version), "TLS ")
}
