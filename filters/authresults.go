package filters

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"postern/filters/message"
)

// AuthResults is the content of an Authentication-Results field (RFC 8601): whose word it is, and the results.
//
//	Authentication-Results: mx.example.org;
//		spf=pass smtp.mailfrom=bob@example.com;
//		dkim=pass header.d=example.com header.s=s1
//
// Everything behind a result may have been chosen by the sender: an address, a selector, a reason. So the writer
// quotes and escapes whatever is no plain token, and no octet of a value can end a line, a quoted string or a result.
type AuthResults struct {
	AuthservID string
	Version    int // 0 is "not written", which readers take for 1
	Results    []AuthResult
}

// Limits of the writer and the reader. With them no line of a written field comes near 998 octets.
const (
	maxAuthKeyword = 64
	maxAuthReason  = 200
	maxAuthValue   = 400
	maxAuthResults = 200 // the reader's, also of properties per result
	authLineWidth  = 78
)

const authResultsName = "Authentication-Results"

// Field writes the header field, folded. Values are cut at 400 octets, reasons at 200, control characters and what is
// no UTF-8 become "?". An AuthResults without results says "none".
func (a AuthResults) Field() message.Field {
	w := &foldingWriter{}
	w.text(authResultsName + ":")
	w.word(authToken(authClean(a.AuthservID, maxAuthValue)))
	if a.Version > 0 {
		w.word(strconv.Itoa(a.Version))
	}
	w.text(";")
	if len(a.Results) == 0 {
		w.word("none")
	}
	for i, r := range a.Results {
		if i > 0 {
			w.text(";")
		}
		w.line(authKeyword(r.Method) + "=" + authKeyword(r.Result))
		if r.Reason != "" {
			w.word("reason=" + authQuote(authClean(r.Reason, maxAuthReason)))
		}
		for _, p := range r.Props {
			w.word(authKeyword(p.Type) + "." + authKeyword(p.Name) + "=" + authValue(p.Value, maxAuthValue))
		}
	}
	return message.Field{Name: authResultsName, Raw: w.field()}
}

// foldingWriter writes a header field of words, each of which stays whole.
type foldingWriter struct {
	b     []byte
	width int // of the line so far
}

// text goes on without a space.
func (w *foldingWriter) text(s string) {
	w.b = append(w.b, s...)
	w.width += len(s)
}

// word goes on after a space, or on a new line where this one would become too long.
func (w *foldingWriter) word(s string) {
	if w.width+1+len(s)+len(";") > authLineWidth && w.width > 1 {
		w.line(s)
		return
	}
	w.text(" " + s)
}

// line begins a new line.
func (w *foldingWriter) line(s string) {
	w.b = append(w.b, "\r\n\t"...)
	w.width = 1
	w.text(s)
}

func (w *foldingWriter) field() []byte { return append(w.b, "\r\n"...) }

// authKeyword keeps of a method, result or property name what its grammar allows (RFC 8601 section 2.2, Keyword).
func authKeyword(s string) string {
	if len(s) <= maxAuthKeyword && s != "" && allBytes(s, isKeywordByte) {
		return s
	}
	kept := make([]byte, 0, len(s))
	for i := 0; i < len(s) && len(kept) < maxAuthKeyword; i++ {
		if isKeywordByte(s[i]) {
			kept = append(kept, s[i])
		}
	}
	if len(kept) == 0 {
		return "unknown"
	}
	return string(kept)
}

func isKeywordByte(c byte) bool { return isAlphanum(c) || c == '-' || c == '_' }

func allBytes(s string, good func(byte) bool) bool {
	for i := range len(s) {
		if !good(s[i]) {
			return false
		}
	}
	return true
}

// authClean makes UTF-8 without control characters of s, of at most limit octets.
func authClean(s string, limit int) string {
	if len(s) <= limit && allBytes(s, func(c byte) bool { return c >= ' ' && c < 0x7f }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// authValue writes a pvalue: a token or an address as it is, anything else as a quoted string.
func authValue(s string, limit int) string {
	if s = authClean(s, limit); isPlainAddress(s) {
		return s
	}
	return authToken(s)
}

// authToken writes a value: a token as it is, anything else as a quoted string.
func authToken(s string) string {
	if isMIMEToken(s) {
		return s
	}
	return authQuote(s)
}

// quotedPair is made once: its tables are built at its first use, and are larger than what it is used on.
var quotedPair = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func authQuote(s string) string {
	return `"` + quotedPair.Replace(s) + `"`
}

// isMIMEToken reports whether s is a token of RFC 2045 section 5.1.
func isMIMEToken(s string) bool {
	return s != "" && allBytes(s, isTokenByte)
}

func isTokenByte(c byte) bool {
	return c > ' ' && c < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?=`, rune(c))
}

// isPlainAddress reports whether s is [local-part] "@" domain-name that needs no quoting.
func isPlainAddress(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || !isHostName(domain) {
		return false
	}
	return local == "" || isDotString(local)
}

// isHostName reports whether s is a domain of RFC 5321 section 4.1.2: labels of letters, digits and hyphens.
func isHostName(s string) bool {
	if s == "" || len(s) > maxDomainName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) || strings.Contains(label, "_") {
			return false
		}
	}
	return true
}

// AuthservID reads only whose word an Authentication-Results field claims to be, whatever its folding, comments and
// quoting, and however broken the rest of it is. ok is false where there is no authserv-id. The id is given as
// written; ids are compared without case.
func AuthservID(value string) (id string, ok bool) {
	r := &authReader{s: value}
	r.space()
	id, ok = r.loose()
	if r.space(); r.peek() == '=' { // the field begins with a result: "dkim=pass …"
		return "", false
	}
	return id, ok
}

// ClaimsAuthservID reports whether a field claims to be the word of own. What decides whether a field is removed must
// be at least as generous as the most generous reader behind us: case, a final dot, spaces around the dots (an
// obsolete spelling of one name), a version or other punctuation behind the id, control characters (which some take for
// white space), encoded words and a comment that never ends make no difference.
func ClaimsAuthservID(value, own string) bool {
	own = strings.TrimSuffix(own, ".")
	if claimsID(value, own) {
		return true
	}
	spaced := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, value)
	if spaced != value && claimsID(spaced, own) {
		return true
	}
	if strings.Contains(value, "=?") {
		decoded, _ := message.DecodeWords(value)
		return decoded != value && claimsID(decoded, own)
	}
	return false
}

// claimsID reads the value as it stands.
func claimsID(value, own string) bool {
	same := func(id string) bool { return strings.EqualFold(strings.TrimSpace(strings.TrimSuffix(id, ".")), own) }
	if r := (&authReader{s: value}); r.endless() {
		value = strings.NewReplacer("(", " ", ")", " ").Replace(value)
	}
	id, ok := AuthservID(value)
	if !ok {
		return false
	}
	if same(id) || same(hostPrefix(id)) {
		return true
	}
	r := &authReader{s: value}
	joined := ""
	for len(joined) <= len(own) {
		r.space()
		part, ok := r.loose()
		if !ok {
			break
		}
		joined += part
		if same(joined) {
			return true
		}
	}
	return false
}

// hostPrefix is what a value begins with that can be a host name. Octets beyond ASCII belong to a name, and make it
// another one.
func hostPrefix(s string) string {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool {
		return r < 0x80 && !isAlphanum(byte(r)) && r != '-' && r != '.' && r != '_'
	})
	if end < 0 {
		return s
	}
	return s[:end]
}

var errAuthTooMany = errors.New("too many results or properties")

// ParseAuthResults reads the value of an Authentication-Results field by the grammar of RFC 8601 section 2.2.
// Comments mean nothing. Unknown methods, results and properties are kept. The error says at which octet what was expected.
func ParseAuthResults(value string) (AuthResults, error) {
	r := &authReader{s: value}
	a := AuthResults{AuthservID: r.value("an authserv-id"), Version: 1}
	r.space()
	if isDigit(r.peek()) {
		a.Version = r.version()
	}
	for r.err == nil && !r.end() {
		r.expect(';')
		if r.space(); r.end() && len(a.Results) > 0 {
			break // a semicolon too many at the end is harmless
		}
		method := r.keyword("a method")
		if method == "none" && len(a.Results) == 0 && r.end() {
			return a, r.err
		}
		a.Results = append(a.Results, r.result(method))
		if len(a.Results) > maxAuthResults {
			return AuthResults{}, errAuthTooMany
		}
	}
	if r.err == nil && len(a.Results) == 0 {
		r.fail("a result or \"none\"")
	}
	if r.err != nil {
		return AuthResults{}, r.err
	}
	return a, nil
}

// authReader goes through a field's value. After the first error it stands still.
type authReader struct {
	s   string
	at  int
	err error
}

func (r *authReader) fail(expected string) {
	if r.err == nil {
		r.err = fmt.Errorf("octet %d: expected %s", r.at+1, expected)
	}
	r.at = len(r.s)
}

// peek gives the next octet, 0 at the end.
func (r *authReader) peek() byte {
	if r.at < len(r.s) {
		return r.s[r.at]
	}
	return 0
}

// end reports whether only white space and comments are left.
func (r *authReader) end() bool {
	r.space()
	return r.at >= len(r.s)
}

// space skips white space and comments, nested ones too (CFWS of RFC 5322 section 3.2.2).
func (r *authReader) space() {
	depth := 0
	for ; r.at < len(r.s); r.at++ {
		switch c := r.s[r.at]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			r.at++
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || depth > 0:
		default:
			return
		}
	}
	r.at = min(r.at, len(r.s))
}

// endless reports whether the value begins with a comment that does not end.
func (r *authReader) endless() bool {
	r.space()
	return r.at >= len(r.s) && strings.Contains(r.s, "(")
}

func (r *authReader) expect(c byte) {
	r.space()
	if r.peek() != c {
		r.fail(strconv.QuoteRune(rune(c)))
		return
	}
	r.at++
}

func (r *authReader) take(accept func(byte) bool) string {
	start := r.at
	for r.at < len(r.s) && accept(r.s[r.at]) {
		r.at++
	}
	return r.s[start:r.at]
}

func (r *authReader) keyword(what string) string {
	r.space()
	word := r.take(func(c byte) bool { return isAlphanum(c) || c == '-' || c == '_' })
	if word == "" {
		r.fail(what)
	}
	return word
}

func (r *authReader) version() int {
	r.space()
	n, err := strconv.Atoi(r.take(isDigit))
	if err != nil {
		r.fail("a version number")
	}
	return n
}

// result reads what follows a method's name.
func (r *authReader) result(method string) AuthResult {
	res := AuthResult{Method: strings.ToLower(method)}
	if r.space(); r.peek() == '/' {
		r.at++
		r.version()
	}
	r.expect('=')
	res.Result = strings.ToLower(r.keyword("a result"))
	for r.err == nil && !r.end() && r.peek() != ';' {
		ptype := r.keyword("a property")
		if r.space(); strings.EqualFold(ptype, "reason") && r.peek() == '=' {
			r.at++
			res.Reason = r.value("a reason")
			continue
		}
		if r.peek() == '=' { // "action=none", as Microsoft writes beside the properties
			r.at++
			r.pvalue()
			continue
		}
		r.expect('.')
		name := r.keyword("a property")
		r.expect('=')
		res.Props = append(res.Props, Prop{Type: ptype, Name: name, Value: r.pvalue()})
		if len(res.Props) > maxAuthResults {
			r.err = errAuthTooMany
		}
	}
	return res
}

// value reads a token or a quoted string (RFC 8601 section 2.2, value).
func (r *authReader) value(what string) string {
	r.space()
	if r.peek() == '"' {
		return r.quoted()
	}
	token := r.take(isTokenByte)
	if token == "" {
		r.fail(what)
	}
	return token
}

// pvalue reads a value, or [local-part] "@" domain-name.
func (r *authReader) pvalue() string {
	r.space()
	if r.peek() == '"' {
		local := r.quoted()
		if r.peek() != '@' {
			return local
		}
		r.at++
		return local + "@" + r.domain()
	}
	word := r.take(func(c byte) bool { return c > ' ' && c != 0x7f && !strings.ContainsRune(`()<>,;:\"[]`, rune(c)) })
	if !isMIMEToken(word) && !isPlainAddress(word) {
		r.at -= len(word)
		r.fail("a token, an address or a quoted string")
	}
	return word
}

func (r *authReader) domain() string {
	domain := r.take(func(c byte) bool { return isAlphanum(c) || c == '-' || c == '.' })
	if !isHostName(domain) {
		r.fail("a domain")
	}
	return domain
}

// quoted reads a quoted string; folding inside it is taken out.
func (r *authReader) quoted() string {
	var b strings.Builder
	for r.at++; r.at < len(r.s); r.at++ {
		switch c := r.s[r.at]; c {
		case '"':
			r.at++
			return b.String()
		case '\\':
			if r.at++; r.at < len(r.s) {
				b.WriteByte(r.s[r.at])
			}
		case '\r', '\n':
		default:
			b.WriteByte(c)
		}
	}
	r.fail("a closing quotation mark")
	return b.String()
}

// loose reads a quoted string or everything up to white space, a comment, ";", "=" or a quotation mark. ok is false
// where there is neither.
func (r *authReader) loose() (part string, ok bool) {
	if r.peek() == '"' {
		return r.quoted(), true
	}
	part = r.take(func(c byte) bool { return c > ' ' && !strings.ContainsRune(`();="`, rune(c)) })
	return part, part != ""
}
