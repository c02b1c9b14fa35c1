package filters

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// tagList is a list of "name=value; name=value" as DKIM signatures, DKIM keys and DMARC records have it
// (RFC 6376 section 3.2). Names keep their case; values are trimmed, but white space within them stays.
type tagList []tag

type tag struct{ name, value string }

// maxTags bounds a list; signatures have about a dozen.
const maxTags = 100

// parseTagList reads a whole list or fails: a name that stands there twice, a control character or something that is
// no tag makes it invalid. UTF-8 is let through in values (RFC 8616).
func parseTagList(s string) (tagList, error) {
	var list tagList
	for spec := range strings.SplitSeq(s, ";") {
		spec = strings.Trim(spec, " \t\r\n")
		if spec == "" {
			if len(list) == 0 {
				return nil, errors.New("a tag is missing")
			}
			continue // a semicolon at the end is allowed; more of them are harmless
		}
		name, value, ok := strings.Cut(spec, "=")
		name = strings.TrimRight(name, " \t\r\n")
		switch {
		case !ok || !isTagName(name):
			return nil, fmt.Errorf("%q is no tag", cutText(spec))
		case !isTagValue(value):
			return nil, fmt.Errorf("tag %s has a character that is not allowed", name)
		case list.has(name):
			return nil, fmt.Errorf("tag %s stands there twice", name)
		case len(list) == maxTags:
			return nil, fmt.Errorf("more than %d tags", maxTags)
		}
		list = append(list, tag{name: name, value: strings.TrimLeft(value, " \t\r\n")})
	}
	return list, nil
}

func isTagName(s string) bool {
	for i := range len(s) {
		if !isAlphanum(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != "" && isAlpha(s[0])
}

// isTagValue reports whether a value is printable, apart from white space.
func isTagValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

func (l tagList) get(name string) (value string, ok bool) {
	for _, t := range l {
		if t.name == name {
			return t.value, true
		}
	}
	return "", false
}

func (l tagList) has(name string) bool {
	_, ok := l.get(name)
	return ok
}

// text gives a value, "" where there is none.
func (l tagList) text(name string) string {
	value, _ := l.get(name)
	return value
}

// dense gives a value without any white space, as base64 and lists with colons may have it anywhere.
func (l tagList) dense(name string) string {
	value, _ := l.get(name)
	return withoutSpace(value)
}

func withoutSpace(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, s)
}

// cutText shortens what is quoted in a message.
func cutText(s string) string {
	const enough = 60
	if len(s) <= enough {
		return s
	}
	return strings.ToValidUTF8(s[:enough], "") + "…"
}
