package filters

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// macroPart is literal text or one macro of a macro-string (RFC 7208 section 7).
type macroPart struct {
	literal bool
	text    string // literal text, after %%, %_ and %- were replaced
	letter  byte   // lower case
	escape  bool   // the letter was upper case: URL-escape the outcome
	digits  int    // right-hand labels to keep; 0 is all
	reverse bool
	delims  string
}

// parseMacros reads a macro-string. The letters c, r and t are for explanation texts only, as is the space.
func parseMacros(s string, explanation bool) ([]macroPart, error) {
	var parts []macroPart
	for i := 0; i < len(s); {
		if s[i] != '%' {
			end := i
			for end < len(s) && s[end] != '%' {
				if c := s[end]; c < ' ' || c >= 0x7f || c == ' ' && !explanation {
					return nil, fmt.Errorf("the octet 0x%02x is not allowed", c)
				}
				end++
			}
			parts = append(parts, macroPart{literal: true, text: s[i:end]})
			i = end
			continue
		}
		if i+1 == len(s) {
			return nil, errors.New("a lone %")
		}
		replaced, ok := map[byte]string{'%': "%", '_': " ", '-': "%20"}[s[i+1]]
		if ok {
			// An escape counts as a macro at the end of a domain-spec: both are macro-expand in the grammar.
			parts = append(parts, macroPart{text: replaced})
			i += 2
			continue
		}
		end := strings.IndexByte(s[i:], '}')
		if s[i+1] != '{' || end < 0 {
			return nil, errors.New("a lone %")
		}
		part, err := parseMacro(s[i+2:i+end], explanation)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		i += end + 1
	}
	return parts, nil
}

// parseMacro reads what stands between the braces.
func parseMacro(body string, explanation bool) (macroPart, error) {
	if body == "" {
		return macroPart{}, errors.New("an empty macro")
	}
	m := macroPart{letter: body[0] | 0x20, escape: body[0] < 'a'}
	allowed := "slodipvh"
	if explanation {
		allowed += "crt"
	}
	if !isAlpha(body[0]) || strings.IndexByte(allowed, m.letter) < 0 {
		return m, fmt.Errorf("unknown macro %%{%s}", body)
	}
	rest := body[1:]
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	if digits > 0 {
		n, err := strconv.Atoi(rest[:digits])
		if n == 0 || err != nil {
			return m, fmt.Errorf("macro %%{%s} asks for no label at all", body)
		}
		m.digits = n
	}
	rest = rest[digits:]
	if rest != "" && rest[0]|0x20 == 'r' {
		m.reverse, rest = true, rest[1:]
	}
	if strings.Trim(rest, ".-+,/_=") != "" {
		return m, fmt.Errorf("macro %%{%s} has an unknown delimiter", body)
	}
	m.delims = rest
	return m, nil
}

// macroValues are what the letters stand for.
type macroValues struct {
	local, senderDomain string // of the reverse-path, or "postmaster" and the HELO name
	domain              string // the domain that is being checked, %{d}
	helo                string
	ip                  netip.Addr
	receiver            string // %{r}
	now                 time.Time
	validated           func() string // the confirmed name of ip, %{p}; looked up only where it is asked for
}

// expand puts the values in.
func (v *macroValues) expand(parts []macroPart) string {
	var b strings.Builder
	for _, p := range parts {
		if p.letter == 0 {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(p.transform(v.value(p.letter)))
	}
	return b.String()
}

func (v *macroValues) value(letter byte) string {
	switch letter {
	case 's':
		return v.local + "@" + v.senderDomain
	case 'l':
		return v.local
	case 'o':
		return v.senderDomain
	case 'd':
		return v.domain
	case 'h':
		return v.helo
	case 'i':
		return dottedAddress(v.ip)
	case 'v':
		if v.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'p':
		return v.validated()
	case 'c':
		return v.ip.String()
	case 'r':
		return v.receiver
	case 't':
		return strconv.FormatInt(v.now.Unix(), 10)
	}
	return ""
}

// dottedAddress is %{i}: an IPv6 address as nibbles with dots.
func dottedAddress(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	nibbles := strings.ToUpper(strings.ReplaceAll(ip.StringExpanded(), ":", ""))
	return strings.Join(strings.Split(nibbles, ""), ".")
}

// transform splits, reverses, cuts and escapes (RFC 7208 section 7.3).
func (p macroPart) transform(value string) string {
	if p.digits > 0 || p.reverse || p.delims != "" {
		delims := p.delims
		if delims == "" {
			delims = "."
		}
		words := splitAny(value, delims)
		if p.reverse {
			slices.Reverse(words)
		}
		if p.digits > 0 && p.digits < len(words) {
			words = words[len(words)-p.digits:]
		}
		value = strings.Join(words, ".")
	}
	if p.escape {
		value = urlEscape(value)
	}
	return value
}

// splitAny splits at each octet of delims, keeping empty words.
func splitAny(s, delims string) []string {
	var words []string
	start := 0
	for i := range len(s) {
		if strings.IndexByte(delims, s[i]) >= 0 {
			words = append(words, s[start:i])
			start = i + 1
		}
	}
	return append(words, s[start:])
}

// urlEscape escapes all but the unreserved characters of RFC 3986 section 2.3.
func urlEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if isAlphanum(s[i]) || strings.IndexByte("-._~", s[i]) >= 0 {
			b.WriteByte(s[i])
			continue
		}
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

// cutName shortens an expanded name to what DNS can hold, dropping labels from the left (RFC 7208 section 7.3).
func cutName(name string) string {
	name = strings.TrimSuffix(name, ".")
	for len(name) > maxDomainName {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			break
		}
		name = rest
	}
	return name
}
