package message

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// A Link is a link in a message's text or HTML.
type Link struct {
	URL       string   // as written, without white space and controls, and with a scheme; at most 2048 octets
	Scheme    string   // in lower case: "https", "mailto", "javascript", …
	Host      string   // host in lower case and A-labels, or an address in its usual form; empty if there is none
	OrgDomain string   // registrable domain of Host; empty for an address
	Path      string   // what follows the host, with the query, without the fragment
	User      string   // what stands before the host and an @, at most 200 octets; or empty
	Port      int      // if one is written that is not usual for the scheme
	Tricks    []string // how it hides where it leads: words of [LinkTricks]
	Shown     string   // the text that is shown for it, or the image's alternative text
	// Source is where it stands: "text"; "html" for one to be followed; "resource" for an image and the like that are loaded
	// when the message is shown; "attachment" for one in attached HTML; "calendar" and "pdf" for one in these.
	Source string
}

// maxURL bounds the length of a link that is kept.
const maxURL = 2048

// A linkSet gathers links, each once, up to a limit.
type linkSet struct {
	links    []Link
	seen     map[[3]string]bool
	orgs     map[string]string // registrable domains, by host
	max      int
	tried    int // links looked at, those that lead nowhere too
	maxShown int
	cut      bool
}

// maxTries is how many links are looked at for each that may be kept.
const maxTries = 10

// full reports whether no more links are taken, and notes that some were left out.
func (s *linkSet) full() bool {
	full := len(s.links) >= s.max || s.tried >= s.max*maxTries
	s.cut = s.cut || full
	return full
}

// add adds the link that raw is, seen from base.
func (s *linkSet) add(base, raw, shown, source string) {
	if s.full() {
		return
	}
	shown = strings.TrimSpace(cutUTF8(shown, s.maxShown))
	key := [3]string{cutUTF8(raw, 2*maxURL), shown, source}
	if s.seen[key] {
		return
	}
	if s.seen == nil {
		s.seen, s.orgs = map[[3]string]bool{}, map[string]string{}
	}
	s.seen[key] = true
	s.tried++
	link, ok := parseLink(resolve(base, raw))
	if !ok {
		return
	}
	org, known := s.orgs[link.Host]
	if !known {
		org = OrgDomain(link.Host)
		s.orgs[link.Host] = org
	}
	link.OrgDomain, link.Shown, link.Source = org, shown, source
	s.links = append(s.links, link)
}

// resolve makes href absolute if a base is given.
func resolve(base, href string) string {
	if base == "" || len(href) > maxURL || len(base) > maxURL || schemeOf(strings.TrimSpace(href)) != "" {
		return href
	}
	b, err := url.Parse(strings.TrimSpace(base))
	if err != nil || b.Host == "" {
		return href
	}
	h, err := url.Parse(strings.TrimSpace(href))
	if err != nil {
		return href
	}
	return b.ResolveReference(h).String()
}

// schemeOf is the scheme that a URL begins with, in lower case; empty if there is none (RFC 3986 section 3.1).
func schemeOf(s string) string {
	for i := 0; i < len(s) && i < 32; i++ {
		c := s[i] | 0x20
		switch {
		case s[i] == ':' && i > 0:
			return strings.ToLower(s[:i])
		case c >= 'a' && c <= 'z':
		case i > 0 && (s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'):
		default:
			return ""
		}
	}
	return ""
}

// parseLink reads a URL the way browsers do (the WHATWG URL standard), which is more tolerant than RFC 3986. ok is false for what
// leads nowhere outside of the message. The registrable domain is left to be found.
func parseLink(raw string) (l Link, ok bool) {
	raw = cleanURL(raw)
	scheme := schemeOf(raw)
	rest := raw
	switch {
	case scheme == "cid" || scheme == "mid" || scheme == "about":
		return Link{}, false
	case scheme != "" && !(strings.Contains(scheme, ".") && looksLikeHost(scheme)):
		rest = raw[len(scheme)+1:]
	case strings.HasPrefix(raw, "//"):
		scheme = "https"
		raw = scheme + ":" + raw
	case looksLikeHost(hostPart(raw)):
		scheme, rest = "http", "//"+raw
		raw = "http://" + raw
	default:
		return Link{}, false
	}
	l = Link{URL: raw, Scheme: scheme}
	switch scheme {
	case "http", "https", "ftp":
		a, path := splitAuthority(rest, scheme)
		l.Host, l.Path, l.User, l.Port, l.Tricks = a.host, path, a.user, a.port, a.tricks
		if l.Host == "" {
			return Link{}, false
		}
	case "mailto":
		addr, _, _ := strings.Cut(rest, "?")
		if at := strings.LastIndexByte(addr, '@'); at >= 0 {
			host, _, _ := strings.Cut(addr[at+1:], ",")
			l.Host = ASCIIDomain(percentDecode(host))
		}
		l.Path = rest
	case "data":
		l.URL, l.Path = cutUTF8(raw, 100), cutUTF8(rest, 100)
	default:
		l.Path = rest
	}
	return l, true
}

// cleanURL takes out what browsers pass over: controls and space at the ends, tabs and line ends within.
func cleanURL(raw string) string {
	raw = strings.Trim(raw, "\x00\x01\x02\x03\x04\x05\x06\x07\b\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	if strings.ContainsAny(raw, "\t\r\n") {
		raw = lineSpace.Replace(raw)
	}
	return cutUTF8(raw, maxURL)
}

// splitAuthority takes "//user@host:port/path" apart. Backslashes are slashes, and any number of them will do.
func splitAuthority(s, scheme string) (a authority, path string) {
	rest := strings.TrimLeft(s, `/\`)
	end := strings.IndexAny(rest, `/\?#`)
	if end < 0 {
		end = len(rest)
	}
	a = readAuthority(rest[:end], scheme)
	slashes := len(s) - len(rest)
	if strings.IndexByte(s[:slashes], '\\') >= 0 || end < len(rest) && rest[end] == '\\' {
		a.tricks = append(a.tricks, "backslash")
	}
	path, _, _ = strings.Cut(rest[end:], "#")
	return a, path
}

// lineSpace is what browsers leave out of a link.
var lineSpace = strings.NewReplacer("\t", "", "\r", "", "\n", "")

// The full stops of other scripts divide labels as well (RFC 3490 section 3.1).
var foreignStops = strings.NewReplacer("\u3002", ".", "\uFF0E", ".", "\uFF61", ".")

// cleanHost is a host in its usual form; empty if it is none.
func cleanHost(authority string) string {
	if inner, ok := strings.CutPrefix(authority, "["); ok {
		inner, _, _ = strings.Cut(inner, "]")
		if a, err := netip.ParseAddr(inner); err == nil {
			return a.String()
		}
		return ""
	}
	host, _, _ := strings.Cut(percentDecode(authority), ":")
	host = strings.Trim(foreignStops.Replace(host), ".")
	if a, ok := numericHost(host); ok {
		return a.String()
	}
	return ASCIIDomain(host)
}

// numericHost reads an IPv4 address as browsers do: of one to four numbers, decimal, octal or hexadecimal, of which the last
// fills the rest.
func numericHost(host string) (netip.Addr, bool) {
	if host == "" || len(host) > 60 || host[0] < '0' || host[0] > '9' {
		return netip.Addr{}, false
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var v uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(octal(p), 0, 64)
		if err != nil || strings.Contains(p, "_") {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false
			}
			v |= n << (24 - 8*i)
			continue
		}
		if n >= 1<<(8*(5-len(parts))) {
			return netip.Addr{}, false
		}
		v |= n
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), true
}

// octal writes an octal number, "017", as Go has it, "0o17".
func octal(s string) string {
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		return "0o" + s[1:]
	}
	return s
}

// hostPart is what stands before the first slash, query, fragment or port.
func hostPart(s string) string {
	if i := strings.IndexAny(s, `/\?#:`); i >= 0 {
		return s[:i]
	}
	return s
}

// looksLikeHost reports whether s is a name under a top-level domain that exists.
func looksLikeHost(s string) bool {
	if len(s) > 253 || strings.IndexByte(s, '.') <= 0 {
		return false
	}
	ascii := ASCIIDomain(s)
	if ascii == "" {
		return false
	}
	suffix, icann := publicsuffix.PublicSuffix(ascii)
	return len(suffix) < len(ascii) && (icann || strings.IndexByte(suffix, '.') >= 0)
}

// scan adds the links in plain text that stands in a source: URLs of the web, names that begin with "www.", and host names with a path.
func (s *linkSet) scan(text, source string) {
	done := 0 // all before it has been looked at
	for i := 0; i < len(text); i++ {
		var start int
		switch c := text[i]; {
		case c == ':' && strings.HasPrefix(text[i:], "://"):
			start = schemeStart(text, i, done)
		case (c == 'w' || c == 'W') && len(text) > i+4 && strings.EqualFold(text[i:i+4], "www.") && (i == 0 || !isWordByte(text[i-1])):
			start = i
		case c == '/' && i > done:
			start = bareHostStart(text, i, done)
		default:
			continue
		}
		if start < 0 {
			continue
		}
		end := urlEnd(text, start)
		u := text[start:end]
		s.add("", u, u, source)
		done = max(end, i+1)
		i = done - 1
	}
}

// schemeStart is where the scheme begins that ends at the colon; -1 if it is none of the web.
func schemeStart(text string, colon, done int) int {
	start := colon
	for start > done && colon-start < 5 && text[start-1]|0x20 >= 'a' && text[start-1]|0x20 <= 'z' {
		start--
	}
	scheme := strings.ToLower(text[start:colon])
	for _, known := range []string{"https", "http", "ftp"} {
		if strings.HasSuffix(scheme, known) {
			return colon - len(known)
		}
	}
	return -1
}

// bareHostStart is where the host name begins that ends at the slash; -1 if there is none.
func bareHostStart(text string, slash, done int) int {
	start := slash
	for start > done && slash-start < 100 && (isWordByte(text[start-1]) || text[start-1] == '.') {
		start--
	}
	if start > 0 && start < slash && strings.IndexByte("/\\@:=~", text[start-1]) >= 0 || slash-start < 4 {
		return -1
	}
	if !looksLikeHost(text[start:slash]) {
		return -1
	}
	return start
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c >= 0x80
}

// urlEnd is where a URL in text ends: before white space, brackets and quotes, and without the punctuation of the sentence.
func urlEnd(text string, start int) int {
	end := start
	open := 0
	for end < len(text) && end-start < maxURL {
		r, n := utf8.DecodeRuneInString(text[end:])
		if r <= ' ' || r == 0x7f || strings.ContainsRune("<>\"`{}|^", r) || strings.ContainsRune("\u00a0\u3000\u2028\u2029，。；：！？、（）「」『』【】《》“”‘’«»…", r) {
			break
		}
		if r == '(' || r == '[' {
			open++
		}
		if r == ')' || r == ']' {
			if open--; open < 0 {
				break
			}
		}
		end += n
	}
	return start + len(strings.TrimRight(text[start:end], ".,;:!?'*_~"))
}
