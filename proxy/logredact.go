package proxy

import (
	"log/slog"
	"strings"
)

// A Redaction says what the log leaves out of addresses: log.redact.
type Redaction string

// The redactions.
const (
	RedactNothing Redaction = "none"
	RedactLocal   Redaction = "local"   // the part before the @ becomes *, and display names go
	RedactAddress Redaction = "address" // addresses become *, domains included
)

var redactions = []string{string(RedactNothing), string(RedactLocal), string(RedactAddress)}

// value gives what the log shows of a key's value. A Message-ID is no address, and is what a message is found by.
func (r Redaction) value(key string, v slog.Value) slog.Value {
	if r == RedactNothing || r == "" {
		return v
	}
	var show func(string) string
	switch key {
	case "mail_from":
		show = r.path
	case "rcpt_to":
		show = r.paths
	case "from":
		show = r.author
	case "upstream_reply", "errors", "error", "last":
		show = r.text
	default:
		return v
	}
	if _, foreign := v.Any().(Foreign); foreign {
		return slog.AnyValue(Foreign(show(v.String())))
	}
	return slog.StringValue(show(v.String()))
}

// path redacts one address.
func (r Redaction) path(s string) string {
	at := strings.LastIndexByte(s, '@')
	switch {
	case s == "":
		return ""
	case at < 0 || r == RedactAddress:
		return "*"
	}
	return "*" + s[at:]
}

// paths redacts addresses with commas between them. The last may be cut short.
func (r Redaction) paths(s string) string {
	if s == "" {
		return ""
	}
	var list []string
	start := 0
	for i, quoted, escaped := 0, false, false; i < len(s); i++ {
		switch {
		case escaped:
			escaped = false
		case s[i] == '\\':
			escaped = quoted
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			list = append(list, r.path(s[start:i]))
			start = i + 1
		}
	}
	return strings.Join(append(list, r.path(s[start:])), ",")
}

// author redacts a From field: names go, and of each address the domain stays.
func (r Redaction) author(s string) string {
	if s == "" {
		return ""
	}
	if r == RedactAddress {
		return "*"
	}
	var list []string
	for i := strings.IndexByte(s, '@'); i >= 0; i = strings.IndexByte(s, '@') {
		end := i + 1 + domainLength(s[i+1:])
		if end > i+1 {
			list = append(list, "*"+s[i:end])
		}
		s = s[end:]
	}
	if len(list) == 0 {
		return "*"
	}
	return strings.Join(list, ", ")
}

// text redacts the addresses in what someone wrote.
func (r Redaction) text(s string) string {
	var b strings.Builder
	for i := strings.IndexByte(s, '@'); i >= 0; i = strings.IndexByte(s, '@') {
		b.WriteString(s[:localStart(s[:i])])
		b.WriteByte('*')
		end := i + 1 + domainLength(s[i+1:])
		if r == RedactLocal {
			b.WriteString(s[i:end])
		}
		s = s[end:]
	}
	b.WriteString(s)
	return b.String()
}

// localStart is where the local part begins that s ends with.
func localStart(s string) int {
	if n := len(s); n > 1 && s[n-1] == '"' {
		return max(0, strings.LastIndexByte(s[:n-1], '"'))
	}
	return strings.LastIndexAny(s, " \t<>()[],;:\"=") + 1
}

// domainLength is how much of s is a domain or an address literal.
func domainLength(s string) int {
	if strings.HasPrefix(s, "[") {
		return strings.IndexByte(s, ']') + 1
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x80 && c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return i
		}
	}
	return len(s)
}
