package message

import (
	"sort"
	"strconv"
	"strings"
)

// maxParams bounds the parameters read of one field, continuations counted.
const maxParams = 200

// ParseMediaType reads a value such as that of Content-Type or Content-Disposition (RFC 2045 section 5.1, RFC 2183):
// a type in lower case and its parameters, names in lower case. Parameters in several pieces or with a charset (RFC 2231)
// are put together and decoded, and so are encoded words, which don't belong there but are common. It reads what it can of a
// malformed value; ok says whether it was well formed. Of a parameter given twice, the first counts.
func ParseMediaType(value string) (mediaType string, params map[string]string, ok bool) {
	ok = true
	head, rest, more := strings.Cut(value, ";")
	mediaType, after := cutType(stripComments(head))
	switch {
	case strings.IndexByte(mediaType, '=') >= 0 || mediaType == "":
		// The type was left out and the parameters come at once.
		ok, rest, more = false, value, true
		mediaType = ""
	case after != "":
		// The semicolon was left out.
		ok, rest, more = false, after+";"+rest, true
	}
	raw := map[string]string{}
	for more && rest != "" && len(raw) < maxParams {
		var name, val string
		var good bool
		name, val, rest, good = cutParam(rest)
		if name == "" {
			ok = ok && good
			continue
		}
		if _, twice := raw[name]; twice {
			ok = false
			continue
		}
		ok = ok && good
		raw[name] = val
	}
	params = joinParams(raw)
	return mediaType, params, ok
}

// cutType takes a type or "type/subtype" off s, in lower case. White space around the slash is passed over.
func cutType(s string) (mediaType, rest string) {
	words := strings.Fields(s)
	for i, w := range words {
		mediaType += strings.ToLower(w)
		if strings.Contains(mediaType, "/") && !strings.HasSuffix(mediaType, "/") {
			return mediaType, strings.Join(words[i+1:], " ")
		}
		if i == 2 {
			return strings.ToLower(words[0]), strings.Join(words[1:], " ")
		}
	}
	return mediaType, ""
}

// cutParam takes one parameter off s. A value runs to the semicolon if it isn't quoted, whatever is in it.
func cutParam(s string) (name, value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t\r\n;")
	end := strings.IndexAny(s, "=;")
	if end < 0 || s[end] == ';' {
		if end < 0 {
			end = len(s)
		}
		return "", "", s[end:], strings.TrimSpace(s[:end]) == ""
	}
	name = strings.ToLower(strings.TrimSpace(s[:end]))
	s = strings.TrimLeft(s[end+1:], " \t\r\n")
	if strings.HasPrefix(s, `"`) {
		value, s, ok = cutQuoted(s[1:])
		skip := strings.IndexByte(s, ';')
		if skip < 0 {
			skip = len(s)
		}
		return name, value, s[skip:], ok && strings.TrimSpace(s[:skip]) == ""
	}
	end = strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	value = strings.TrimSpace(s[:end])
	ok = value != "" && !strings.ContainsAny(value, " \t()<>@,:\\\"/[]?=")
	return name, strings.Trim(value, `"`), s[end:], ok
}

// cutQuoted takes the rest of a quoted string off s, whose opening quote is gone already. Where no quote closes it,
// it ends at the semicolon.
func cutQuoted(s string) (value, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case c == '\r' || c == '\n':
		default:
			b.WriteByte(c) // a lone backslash too: Windows paths are more common than quoted pairs of other characters
		}
	}
	end := strings.IndexByte(s, ';')
	if end < 0 {
		end = len(s)
	}
	return strings.TrimSpace(s[:end]), s[end:], false
}

// joinParams puts the pieces of RFC 2231 parameters together: name*0, name*1*, …
func joinParams(raw map[string]string) map[string]string {
	params := map[string]string{}
	type segment struct {
		index   int
		value   string
		encoded bool
	}
	split := map[string][]segment{}
	for name, value := range raw {
		base, section, starred := strings.Cut(name, "*")
		if !starred {
			params[name], _ = DecodeWords(value)
			continue
		}
		s := segment{value: value, encoded: strings.HasSuffix(name, "*")}
		if section = strings.TrimSuffix(section, "*"); section != "" {
			n, err := strconv.Atoi(section)
			if err != nil || n < 0 {
				continue
			}
			s.index = n
		}
		split[base] = append(split[base], s)
	}
	for base, segments := range split {
		sort.Slice(segments, func(i, j int) bool { return segments[i].index < segments[j].index })
		charset := ""
		var joined strings.Builder
		for i, s := range segments {
			if !s.encoded {
				joined.WriteString(s.value)
				continue
			}
			if i == 0 {
				if parts := strings.SplitN(s.value, "'", 3); len(parts) == 3 {
					charset, s.value = parts[0], parts[2]
				}
			}
			joined.WriteString(percentDecode(s.value))
		}
		text, _ := decodeCharset([]byte(joined.String()), charset)
		params[base] = text
	}
	return params
}

// percentDecode decodes %XX and leaves what isn't one.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := hexValue(s[i+1]), hexValue(s[i+2])
			if hi < 16 && lo < 16 {
				b = append(b, hi<<4|lo)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// hexValue is the value of a hexadecimal digit, 16 or more if c is none.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 16
}

// stripComments takes out comments (RFC 5322 section 3.2.2), which may be nested. A comment that doesn't end is none.
func stripComments(s string) string {
	if strings.IndexByte(s, '(') < 0 {
		return s
	}
	var b strings.Builder
	depth, start := 0, 0
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && (quoted || depth > 0):
			if depth == 0 {
				b.WriteByte(c)
				if i+1 < len(s) {
					b.WriteByte(s[i+1])
				}
			}
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
			b.WriteByte(c)
		case c == '(' && !quoted:
			if depth == 0 {
				start = i
			}
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	if depth > 0 {
		b.WriteString(s[start:])
	}
	return b.String()
}
