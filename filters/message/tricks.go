package message

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// An authority is what stands between the slashes of a URL and its path: "user@host:port".
type authority struct {
	host   string
	user   string
	port   int // 0 where none is written
	tricks []string
}

// LinkTricks are the ways in which a link can hide where it leads, each with its meaning.
func LinkTricks() map[string]string {
	return map[string]string{
		"ip":           "the host is an address",
		"odd_ip":       "the host is an address written in a way that people don't read, such as a hexadecimal number",
		"user":         "something stands before the host, with an @ between: https://bank.example@evil.example/",
		"port":         "the port is none of the usual",
		"punycode":     "the host has an internationalised label",
		"mixed_script": "a label of the host mixes Latin letters with those of another alphabet that look alike",
		"encoded_host": "characters of the host are written with %",
		"backslash":    "a backslash stands for a slash",
	}
}

// readAuthority takes an authority apart as browsers do, and notes what it hides behind.
func readAuthority(raw, scheme string) authority {
	var a authority
	rest := raw
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		a.user, rest = cutUTF8(rest[:at], 200), rest[at+1:]
		a.tricks = append(a.tricks, "user")
	}
	a.host = cleanHost(rest)
	if a.host == "" {
		return a
	}
	if _, port, ok := cutPort(rest); ok {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil && !usualPort(scheme, int(n)) {
			a.port = int(n)
			a.tricks = append(a.tricks, "port")
		}
	}
	if strings.Contains(rest, "%") {
		a.tricks = append(a.tricks, "encoded_host")
	}
	if _, err := netip.ParseAddr(a.host); err == nil {
		a.tricks = append(a.tricks, "ip")
		if written, _, _ := cutPort(rest); !strings.HasPrefix(written, "[") && strings.Trim(written, ".") != a.host {
			a.tricks = append(a.tricks, "odd_ip")
		}
		return a
	}
	if strings.Contains(a.host, "xn--") {
		a.tricks = append(a.tricks, "punycode")
		for label := range strings.SplitSeq(UnicodeDomain(a.host), ".") {
			if mixesScripts(label) {
				a.tricks = append(a.tricks, "mixed_script")
				break
			}
		}
	}
	return a
}

// cutPort divides "host:port" and "[address]:port".
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.IndexByte(s[i:], ']') >= 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func usualPort(scheme string, port int) bool {
	switch scheme {
	case "ftp":
		return port == 21
	case "http", "https":
		return port == 80 || port == 443
	}
	return false
}

// UnicodeDomain is a domain in A-labels as a reader sees it: each label that can be decoded in U-labels (RFC 5890).
func UnicodeDomain(ascii string) string {
	if !strings.Contains(ascii, "xn--") {
		return ascii
	}
	u, _ := idna.Punycode.ToUnicode(ascii)
	return u
}

// mixesScripts reports whether a word has Latin letters and letters of an alphabet that can be taken for them.
func mixesScripts(word string) bool {
	latin, other := false, false
	for _, r := range word {
		switch {
		case r < 0x80:
			latin = latin || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		case unicode.Is(unicode.Latin, r):
			latin = true
		case unicode.In(r, unicode.Cyrillic, unicode.Greek, unicode.Armenian, unicode.Cherokee, unicode.Coptic, unicode.Lisu):
			other = true
		}
		if latin && other {
			return true
		}
	}
	return false
}

// Disguise says how the letters of a text were changed so that people read it and programs do not.
type Disguise struct {
	Invisible int // characters without width between two letters of one word
	Mixed     int // words that mix Latin letters with those of an alphabet that looks alike
}

// Disguise looks at the subject and the text that a reader sees.
func (m *Message) Disguise() Disguise {
	subject, _ := m.Header.First("Subject")
	d := disguise(subject.Decoded())
	text := disguise(m.Text())
	return Disguise{Invisible: d.Invisible + text.Invisible, Mixed: d.Mixed + text.Mixed}
}

func disguise(text string) Disguise {
	var d Disguise
	start, special := -1, false // of the word, and whether it has characters beyond ASCII
	flush := func(end int) {
		if start >= 0 && special {
			word := text[start:end]
			d.Invisible += invisibleBetween(word)
			if mixesScripts(word) {
				d.Mixed++
			}
		}
		start, special = -1, false
	}
	for i, r := range text {
		if r < 0x80 {
			if r|0x20 < 'a' || r|0x20 > 'z' {
				flush(i)
			} else if start < 0 {
				start = i
			}
			continue
		}
		if !unicode.IsLetter(r) && !unicode.Is(unicode.Mn, r) && !widthless(r) {
			flush(i)
			continue
		}
		if start < 0 {
			start = i
		}
		special = true
	}
	flush(len(text))
	return d
}

// invisibleBetween counts the characters without width that stand between two letters of an alphabet which has no use for them:
// scripts of India and Arabic do.
func invisibleBetween(word string) int {
	n, pending := 0, 0
	before := false
	for _, r := range word {
		if widthless(r) {
			pending++
			continue
		}
		plain := unicode.In(r, unicode.Latin, unicode.Cyrillic, unicode.Greek)
		if pending > 0 && before && plain {
			n += pending
		}
		before, pending = plain, 0
	}
	return n
}

// widthless reports whether a character shows as nothing. The soft hyphen does not count: it is put into words by honest hands.
func widthless(r rune) bool {
	return r >= 0x200B && r <= 0x200F || r >= 0x2060 && r <= 0x2064 || r == 0xFEFF || r == 0x034F || r == 0x180E
}
