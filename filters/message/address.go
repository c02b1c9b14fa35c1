package message

import (
	"strings"
)

// Bounds of what is read of one value.
const (
	maxAddresses = 1000
	maxWords     = 1000 // in one mailbox
	maxLiteral   = 256  // octets of an address literal
)

// An Address is a mailbox of an address list (RFC 5322 section 3.4).
type Address struct {
	Name   string // display name, or the comment after an address without one; decoded, valid UTF-8
	Local  string // local part, unquoted
	Domain string // as written, without comments; an address literal keeps its brackets; empty if there was no "@"
	Raw    string // the mailbox as written
	Group  bool   // it is a member of a group
}

// String is the addr-spec, "local@domain", with the local part quoted where it must be. It is empty for a mailbox without
// address.
func (a Address) String() string {
	if a.Local == "" && a.Domain == "" {
		return ""
	}
	local := a.Local
	if !isDotAtom(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// isDotAtom reports whether s is a dot-atom-text of RFC 5322 section 3.2.3, or of RFC 6532 where it isn't ASCII.
func isDotAtom(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`()<>[]:;@\,"`, c) >= 0 {
			return false
		}
	}
	return true
}

// ParseAddresses reads the address list in a field's value: mailboxes and groups, with comments, quoted strings, obsolete
// routes and encoded names. It reads what it can of a malformed list, the first 1000 mailboxes at most; ok says whether the list
// was well formed and read whole. An empty group and an empty value are well formed and give no address.
func ParseAddresses(value string) (addrs []Address, ok bool) {
	p := addressParser{s: value, ok: true}
	p.list()
	return p.addrs, p.ok
}

// An addressParser cuts a value into mailboxes.
type addressParser struct {
	s  string
	i  int
	ok bool
	// unquoted is set once a quoted string had no end: that quote, and any after it, is passed over, so that what stands
	// behind it is not hidden in a name.
	unquoted bool
	group    bool
	addrs    []Address
	box      mailbox
}

// A mailbox is what was read of the current one.
type mailbox struct {
	start   int
	words   []addressWord // before an angle bracket: the display name, or the address itself
	comment string
	angle   []addressWord // within angle brackets
	inAngle bool
	closed  bool // the angle bracket is closed
}

// An addressWord is a token: an atom, a quoted string, an address literal, or one of "@" and ".".
type addressWord struct {
	text   string
	quoted bool
	space  bool // white space stood before it
}

func (p *addressParser) list() {
	p.box.start = p.i
	space := false
	for p.i < len(p.s) && len(p.addrs) < maxAddresses {
		c := p.s[p.i]
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			p.i++
			space = true
			continue
		}
		if !p.special(c) {
			p.add(p.word(space))
		}
		space = false
	}
	p.ok = p.ok && !p.group && p.i == len(p.s)
	p.end()
}

// special handles the characters that give a list its structure.
func (p *addressParser) special(c byte) bool {
	switch {
	case c == '(':
		p.comment()
		return true
	case c == ',' && (!p.box.inAngle || !p.route()):
		p.end()
	case c == ';':
		p.ok = p.ok && p.group
		p.end()
		p.group = false
	case c == ':' && p.box.inAngle:
		p.box.angle = p.box.angle[:0] // what stood before it is an obsolete route: RFC 5322 section 4.4
	case c == ':':
		p.ok = p.ok && !p.group && len(p.box.words) > 0
		p.group = true
		p.box = mailbox{start: p.i + 1}
	case c == '<':
		if p.box.inAngle || p.box.closed {
			p.ok = false
			p.end()
		}
		p.box.inAngle = true
	case c == '>':
		p.ok = p.ok && p.box.inAngle
		p.box.inAngle, p.box.closed = false, true
	case c == ',':
	default:
		return false
	}
	p.i++
	if c == ',' || c == ';' {
		p.box.start = p.i
	}
	return true
}

// route reports whether the comma in angle brackets belongs to an obsolete route: "<@a,@b:user@c>".
func (p *addressParser) route() bool {
	return len(p.box.angle) > 0 && p.box.angle[0].text == "@" && !p.box.angle[0].quoted
}

func (p *addressParser) add(w addressWord) {
	switch {
	case len(p.box.angle)+len(p.box.words) >= maxWords:
		p.ok = false
	case p.box.inAngle:
		p.box.angle = append(p.box.angle, w)
	case p.box.closed:
		p.ok = false // words after the address
	default:
		p.box.words = append(p.box.words, w)
	}
}

// comment skips a comment; the first one of a mailbox may be its name. One that doesn't end takes all the rest.
func (p *addressParser) comment() {
	var b strings.Builder
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		c := p.s[p.i]
		switch {
		case c == '\\' && p.i+1 < len(p.s):
			p.i++
			b.WriteByte(p.s[p.i])
			continue
		case c == '(':
			depth++
			if depth == 1 {
				continue
			}
		case c == ')':
			depth--
		}
		if depth == 0 {
			p.i++
			break
		}
		b.WriteByte(c)
	}
	p.ok = p.ok && depth == 0
	if p.box.comment == "" {
		p.box.comment = b.String()
	}
}

// word reads an atom, a quoted string or an address literal.
func (p *addressParser) word(space bool) addressWord {
	switch c := p.s[p.i]; c {
	case '"':
		text, quoted := p.quoted()
		return addressWord{text: text, quoted: quoted, space: space}
	case '[':
		if n := strings.IndexAny(p.s[p.i:min(len(p.s), p.i+maxLiteral)], "],<>\""); n > 0 && p.s[p.i+n] == ']' {
			w := addressWord{text: p.s[p.i : p.i+n+1], space: space}
			p.i += n + 1
			return w
		}
		p.ok = false
		p.i++
		return addressWord{text: "[", space: space}
	case '@', '.', ']', ')', '\\':
		p.ok = p.ok && c != ')'
		p.i++
		return addressWord{text: p.s[p.i-1 : p.i], space: space}
	}
	n := strings.IndexAny(p.s[p.i:], " \t\r\n()<>[]:;@\\,.\"")
	if n < 0 {
		n = len(p.s) - p.i
	}
	w := addressWord{text: p.s[p.i : p.i+n], space: space}
	p.i += n
	return w
}

// quoted reads a quoted string. ok is false if it doesn't end: then just the quote is passed over.
func (p *addressParser) quoted() (text string, ok bool) {
	p.i++
	if p.unquoted {
		return "", false
	}
	var b strings.Builder
	for i := p.i; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.i = i + 1
			return b.String(), true
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	p.ok, p.unquoted = false, true
	return "", false
}

// end makes an Address of the mailbox read.
func (p *addressParser) end() {
	box := p.box
	p.box = mailbox{start: p.i}
	if len(box.words) == 0 && len(box.angle) == 0 && !box.closed && !box.inAngle {
		return // obsolete empty element, or nothing
	}
	if len(p.addrs) >= maxAddresses {
		return
	}
	p.ok = p.ok && !box.inAngle
	a := Address{Group: p.group, Raw: strings.TrimSpace(p.s[box.start:p.i])}
	if box.closed || box.inAngle {
		a.Name = phrase(box.words)
		p.ok = p.ok && !bareAt(box.words)
		p.spec(&a, box.angle)
	} else if bareAt(box.words) {
		p.spec(&a, box.words)
	} else {
		p.ok = false
		if len(box.words) == 1 {
			a.Local = box.words[0].text
		} else {
			a.Name = phrase(box.words)
		}
	}
	if a.Name == "" && box.comment != "" {
		a.Name = box.comment
	}
	a.Name, _ = DecodeWords(a.Name)
	a.Name = strings.TrimSpace(a.Name)
	p.addrs = append(p.addrs, a)
}

// bareAt reports whether there is an "@" outside of quotes.
func bareAt(words []addressWord) bool {
	for _, w := range words {
		if w.text == "@" && !w.quoted {
			return true
		}
	}
	return false
}

// phrase is a display name: words with single spaces where there was white space.
func phrase(words []addressWord) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && (w.space || w.quoted) {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

// spec reads an addr-spec. Of several "@" the last divides. Where words stand before the local part, as in "Bob bob@example.org",
// they are taken for the name.
func (p *addressParser) spec(a *Address, words []addressWord) {
	at := -1
	for i, w := range words {
		if w.text == "@" && !w.quoted {
			p.ok = p.ok && at < 0
			at = i
		}
	}
	if at < 0 {
		p.ok = false
		a.Local = joined(words)
		return
	}
	local, domain := words[:at], words[at+1:]
	for i := len(local) - 1; i > 0; i-- {
		if local[i].space && local[i].text != "." && local[i-1].text != "." {
			p.ok = false
			if a.Name == "" {
				a.Name = phrase(local[:i])
			}
			local = local[i:]
			break
		}
	}
	for i := 1; i < len(domain); i++ {
		if domain[i].space && domain[i].text != "." && domain[i-1].text != "." {
			p.ok = false
			domain = domain[:i]
			break
		}
	}
	a.Local, a.Domain = joined(local), joined(domain)
	quotedLocal := len(local) == 1 && local[0].quoted
	p.ok = p.ok && (quotedLocal || isDotAtom(a.Local)) && isDomain(a.Domain)
}

func joined(words []addressWord) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}

// isDomain reports whether s has the form of a domain or an address literal.
func isDomain(s string) bool {
	if strings.HasPrefix(s, "[") {
		return strings.HasSuffix(s, "]")
	}
	return isDotAtom(s)
}
