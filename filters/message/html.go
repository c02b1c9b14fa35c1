package message

import (
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxElements bounds the open elements that are followed. Deeper ones have the looks of the deepest that is followed.
const maxElements = 256

// An htmlReader renders HTML to text, in one pass over the tokens and with no tree: what people see and what is hidden
// from them apart, and the links.
type htmlReader struct {
	visible, hidden *textSink
	links           *linkSet
	source          string // of the links to follow: "html" or "attachment"
	active          *activeSet
	comments        []string
	conditional     bool   // what is read is a comment
	hiddenBy        hiding // the ways in which text was hidden

	stack  []element
	styles styleSheet
	base   string // of <base href>
	anchor *anchor
}

// An element is an open element with the looks that its text has.
type element struct {
	atom atom.Atom
	name string // if it has no atom
	look inherited
}

// An anchor is an open link, whose shown text is being gathered.
type anchor struct {
	href  string
	shown textSink
	alt   string // of an image in it
}

func (r *htmlReader) render(source string) {
	z := html.NewTokenizer(strings.NewReader(source))
	raw := atom.Atom(0) // the element whose raw text comes next
	for {
		switch z.Next() {
		case html.ErrorToken:
			r.endAnchor()
			r.renderComments()
			return
		case html.TextToken:
			r.text(z, raw)
			raw = 0
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			e := newElement(name)
			attrs := readAttrs(z, more)
			r.active.tag(e.atom, &attrs)
			r.start(e, attrs)
			raw = e.atom
			if e.atom == atom.Noscript || e.atom == atom.Noembed || e.atom == atom.Noframes {
				z.NextIsNotRawText() // mail clients run no scripts, and show it
			}
		case html.CommentToken:
			r.comment(string(z.Text()))
		case html.EndTagToken:
			name, _ := z.TagName()
			r.end(newElement(name))
			raw = 0
		}
	}
}

// comment keeps what is a comment to all but Outlook, which shows it: "[if mso]> ... <![endif]".
func (r *htmlReader) comment(text string) {
	condition, page, ok := strings.Cut(text, "]>")
	if ok && !r.conditional && strings.HasPrefix(strings.TrimSpace(condition), "[if ") {
		r.comments = append(r.comments, page)
	}
}

// renderComments looks for links in what is shown by Outlook. Its text is left out, as it mostly repeats what the others see.
func (r *htmlReader) renderComments() {
	if len(r.comments) == 0 {
		return
	}
	inner := htmlReader{links: r.links, source: r.source, active: r.active, base: r.base, visible: &textSink{}, hidden: &textSink{}, conditional: true}
	inner.render(strings.Join(r.comments, ""))
}

func newElement(name []byte) element {
	if a := atom.Lookup(name); a != 0 {
		return element{atom: a}
	}
	return element{name: cutUTF8(string(name), 64)}
}

func (r *htmlReader) text(z *html.Tokenizer, raw atom.Atom) {
	switch raw {
	case atom.Style:
		r.styles.parse(string(z.Text()))
		return
	case atom.Script:
		r.active.script(string(z.Text()))
		return
	case atom.Title, atom.Iframe, atom.Template:
		return
	}
	text := string(z.Text())
	if by := r.look().hides(); by != 0 {
		if strings.TrimSpace(text) != "" {
			r.hiddenBy |= by
		}
		r.hidden.words(text)
		return
	}
	r.visible.words(text)
	if r.anchor != nil {
		r.anchor.shown.words(text)
	}
}

func (r *htmlReader) look() inherited {
	if len(r.stack) == 0 {
		return inherited{bg: white, fg: colour{kind: colourUnknown}}
	}
	return r.stack[len(r.stack)-1].look
}

// attrs are the attributes of a tag that matter.
type attrs struct {
	style, class, id, color, bgcolor, background string
	href, src, action, alt, content, httpEquiv   string
	kind                                         string // of an input element
	hidden, handler, download                    bool
}

func readAttrs(z *html.Tokenizer, more bool) attrs {
	var a attrs
	for more {
		var key, val []byte
		key, val, more = z.TagAttr()
		var dst *string
		switch string(key) {
		case "style":
			dst = &a.style
		case "class":
			dst = &a.class
		case "id":
			dst = &a.id
		case "color", "text":
			dst = &a.color
		case "bgcolor":
			dst = &a.bgcolor
		case "background":
			dst = &a.background
		case "href":
			dst = &a.href
		case "src":
			dst = &a.src
		case "action", "formaction":
			dst = &a.action
		case "alt":
			dst = &a.alt
		case "content":
			dst = &a.content
		case "http-equiv":
			dst = &a.httpEquiv
		case "type":
			dst = &a.kind
		case "xlink:href":
			dst = &a.href // of a link in SVG
		case "hidden":
			a.hidden = true
			continue
		case "download":
			a.download = true
			continue
		default:
			a.handler = a.handler || len(key) > 4 && key[0] == 'o' && key[1] == 'n'
			continue
		}
		if *dst == "" { // of an attribute given twice, the first counts
			*dst = string(val)
		}
	}
	return a
}

func (r *htmlReader) start(e element, a attrs) {
	r.closeImplied(e.atom)
	if isBlock(e.atom) {
		r.newLine()
	}
	switch e.atom {
	case atom.Br:
		r.lineBreak()
	case atom.Td, atom.Th, atom.Img, atom.Input:
		r.gap()
	case atom.Base:
		if r.base == "" {
			r.base = a.href
		}
	}
	r.startLink(e.atom, a)
	if strings.HasPrefix(e.name, "v:") { // a shape in VML, as Outlook draws buttons
		r.add(a.href, a.alt, r.source)
	}
	if isVoid(e.atom) || len(r.stack) >= maxElements {
		return
	}
	own := r.styles.look(e, a)
	e.look = r.look().with(own)
	r.stack = append(r.stack, e)
}

// startLink notes the link that a tag makes.
func (r *htmlReader) startLink(tag atom.Atom, a attrs) {
	switch tag {
	case atom.A, atom.Area:
		if tag == atom.A {
			r.endAnchor()
		}
		if a.href == "" {
			return
		}
		if tag == atom.Area {
			r.add(a.href, a.alt, r.source)
			return
		}
		r.anchor = &anchor{href: a.href, shown: textSink{max: r.links.maxShown}}
	case atom.Form, atom.Button, atom.Input:
		r.add(a.action, "", r.source)
		if tag == atom.Input {
			r.add(a.src, a.alt, "resource")
		}
	case atom.Meta:
		if strings.EqualFold(a.httpEquiv, "refresh") {
			if _, target, ok := strings.Cut(a.content, "="); ok {
				r.add(strings.Trim(target, " \t'\""), "", r.source)
			}
		}
	case atom.Link:
		r.add(a.href, "", "resource")
	default:
		if tag == atom.Img && r.anchor != nil && r.anchor.alt == "" {
			r.anchor.alt = cutUTF8(a.alt, r.links.maxShown)
		}
		r.add(a.src, a.alt, "resource")
		r.add(a.background, "", "resource")
	}
}

func (r *htmlReader) add(href, shown, source string) {
	if href != "" && href[0] != '#' {
		r.links.add(r.base, href, shown, source)
	}
}

func (r *htmlReader) endAnchor() {
	a := r.anchor
	if a == nil {
		return
	}
	r.anchor = nil
	shown := a.shown.String()
	if shown == "" {
		shown = a.alt
	}
	r.add(a.href, shown, r.source)
}

func (r *htmlReader) end(e element) {
	switch e.atom {
	case atom.A:
		r.endAnchor()
	case atom.Br:
		r.lineBreak()
		return
	}
	r.pop(e, true)
	if isBlock(e.atom) {
		r.newLine()
	}
}

// pop closes the innermost open element e and all in it. What is open around the nearest table cell stays, unless a part of the
// table is closed.
func (r *htmlReader) pop(e element, whole bool) {
	for i := len(r.stack) - 1; i >= 0; i-- {
		s := r.stack[i]
		if s.atom == e.atom && s.name == e.name {
			r.stack = r.stack[:i]
			return
		}
		if isScope(s.atom) && !(whole && isTable(e.atom)) {
			return
		}
	}
}

// closeImplied closes the elements whose end tag may be left out, and is implied by the start of another.
func (r *htmlReader) closeImplied(next atom.Atom) {
	switch next {
	case atom.Li:
		r.popAbove(atom.Li, atom.Ul, atom.Ol)
	case atom.Dd, atom.Dt:
		r.popAbove(atom.Dd, atom.Dl, 0)
		r.popAbove(atom.Dt, atom.Dl, 0)
	case atom.Td, atom.Th:
		r.popAbove(atom.Td, atom.Tr, atom.Table)
		r.popAbove(atom.Th, atom.Tr, atom.Table)
	case atom.Tr:
		r.popAbove(atom.Tr, atom.Table, 0)
	case atom.Option:
		r.popAbove(atom.Option, atom.Select, 0)
	default:
		if isBlock(next) {
			r.popAbove(atom.P, atom.Td, atom.Th)
		}
	}
}

// popAbove closes the innermost open element a, if it is within the innermost stop.
func (r *htmlReader) popAbove(a, stop1, stop2 atom.Atom) {
	for i := len(r.stack) - 1; i >= 0; i-- {
		switch s := r.stack[i].atom; {
		case s == a:
			r.stack = r.stack[:i]
			return
		case s != 0 && (s == stop1 || s == stop2 || s == atom.Table):
			return
		}
	}
}

func (r *htmlReader) newLine() {
	r.visible.paragraph()
	r.hidden.paragraph()
	r.gap()
}

func (r *htmlReader) lineBreak() {
	if r.look().hides() != 0 {
		r.hidden.paragraph()
		return
	}
	if r.visible.b.Len() > 0 {
		r.visible.lines = min(r.visible.lines+1, 2)
	}
	r.gap()
}

// gap puts white space between words.
func (r *htmlReader) gap() {
	r.visible.words(" ")
	r.hidden.words(" ")
	if r.anchor != nil {
		r.anchor.shown.words(" ")
	}
}

func isVoid(a atom.Atom) bool {
	switch a {
	case atom.Area, atom.Base, atom.Br, atom.Col, atom.Embed, atom.Hr, atom.Img, atom.Input, atom.Link, atom.Meta, atom.Param,
		atom.Source, atom.Track, atom.Wbr, atom.Basefont, atom.Bgsound, atom.Frame, atom.Keygen:
		return true
	}
	return false
}

func isBlock(a atom.Atom) bool {
	switch a {
	case atom.Address, atom.Article, atom.Aside, atom.Blockquote, atom.Body, atom.Center, atom.Dd, atom.Div, atom.Dl, atom.Dt,
		atom.Fieldset, atom.Figcaption, atom.Figure, atom.Footer, atom.Form, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6,
		atom.Header, atom.Hr, atom.Li, atom.Main, atom.Nav, atom.Ol, atom.Option, atom.P, atom.Pre, atom.Section, atom.Table,
		atom.Tbody, atom.Tfoot, atom.Thead, atom.Tr, atom.Ul, atom.Title, atom.Caption:
		return true
	}
	return false
}

// isScope reports whether end tags don't reach out of the element.
func isScope(a atom.Atom) bool {
	switch a {
	case atom.Td, atom.Th, atom.Table, atom.Caption, atom.Template, atom.Marquee, atom.Object:
		return true
	}
	return false
}

func isTable(a atom.Atom) bool {
	switch a {
	case atom.Table, atom.Tbody, atom.Thead, atom.Tfoot, atom.Tr, atom.Td, atom.Th, atom.Body, atom.Html:
		return true
	}
	return false
}

// leadingNumber reads the number that s begins with, and gives what follows it.
func leadingNumber(s string) (n float64, unit string, ok bool) {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	return n, strings.TrimSpace(s[end:]), err == nil
}
