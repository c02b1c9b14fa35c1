package message

import (
	"strings"

	"golang.org/x/net/html/atom"
)

// A rule of CSS says how elements look. What follows reads of it only what makes text invisible, in style attributes
// and in the rules of style elements whose selector is a tag, a class or an id.

// maxRules bounds the rules kept of a message's style elements.
const maxRules = 2000

// A tri is a property that may be unset.
type tri uint8

const (
	unset tri = iota
	no
	yes
)

// over is t unless it is unset.
func (t tri) over(below tri) tri {
	if t == unset {
		return below
	}
	return t
}

// A look is what the declarations for an element say.
type look struct {
	noDisplay, invisible, tiny, faint           tri
	noHeight, noWidth, clips, absolute, offside tri
	fg, bg                                      colour
}

// over is l with what it leaves unset taken from below.
func (l look) over(below look) look {
	return look{
		noDisplay: l.noDisplay.over(below.noDisplay), invisible: l.invisible.over(below.invisible),
		tiny: l.tiny.over(below.tiny), faint: l.faint.over(below.faint),
		noHeight: l.noHeight.over(below.noHeight), noWidth: l.noWidth.over(below.noWidth), clips: l.clips.over(below.clips),
		absolute: l.absolute.over(below.absolute), offside: l.offside.over(below.offside),
		fg: l.fg.over(below.fg), bg: l.bg.over(below.bg),
	}
}

// inherited is how the text in an element looks.
type inherited struct {
	gone      hiding // how nothing in the element can be seen, whatever its own look
	invisible bool   // these two can be undone by an element within
	tiny      bool
	fg, bg    colour
}

func (i inherited) with(l look) inherited {
	if l.noDisplay == yes {
		i.gone |= hiddenByDisplay
	}
	if l.faint == yes {
		i.gone |= hiddenByOpacity
	}
	if l.clips == yes && (l.noHeight == yes || l.noWidth == yes) {
		i.gone |= hiddenByClipping
	}
	if l.offside == yes && l.absolute == yes {
		i.gone |= hiddenByPlace
	}
	if l.invisible != unset {
		i.invisible = l.invisible == yes
	}
	if l.tiny != unset {
		i.tiny = l.tiny == yes
	}
	i.fg, i.bg = l.fg.over(i.fg), l.bg.over(i.bg)
	return i
}

// hides says how the text can't be seen; 0 where it can.
func (i inherited) hides() hiding {
	by := i.gone
	if i.invisible {
		by |= hiddenByVisibility
	}
	if i.tiny {
		by |= hiddenBySize
	}
	if i.fg.same(i.bg) {
		by |= hiddenByColour
	}
	return by
}

// A styleSheet holds the rules of style elements by selector: "tag", ".class", "#id", "tag.class", "tag#id".
type styleSheet struct {
	rules map[string]look
}

// look is how an element looks by the sheet and its own attributes, the more specific before the less.
func (s *styleSheet) look(e element, a attrs) look {
	var l look
	if a.color != "" && (e.atom == atom.Font || e.atom == atom.Body) {
		l.fg = parseColour(a.color)
	}
	if a.bgcolor != "" {
		l.bg = parseColour(a.bgcolor)
	}
	if a.background != "" {
		l.bg = colour{kind: colourUnknown}
	}
	if a.hidden {
		l.noDisplay = yes
	}
	tag := e.name
	if e.atom != 0 {
		tag = e.atom.String()
	}
	if len(s.rules) > 0 {
		l = s.rules[tag].over(l)
		for i, class := range strings.Fields(cutUTF8(a.class, 1000)) {
			if i == 50 {
				break
			}
			class = strings.ToLower(class)
			l = s.rules["."+class].over(l)
			l = s.rules[tag+"."+class].over(l)
		}
		if id := strings.ToLower(cutUTF8(a.id, 200)); id != "" {
			l = s.rules["#"+id].over(l)
			l = s.rules[tag+"#"+id].over(l)
		}
	}
	if a.style != "" {
		l = parseDeclarations(a.style).over(l)
	}
	return l
}

// parse adds the rules of a style element.
func (s *styleSheet) parse(css string) {
	if s.rules == nil {
		s.rules = map[string]look{}
	}
	css = stripCSSComments(css)
	if strings.Contains(css, "<!--") {
		css = strings.ReplaceAll(strings.ReplaceAll(css, "<!--", ""), "-->", "")
	}
	for css != "" && len(s.rules) < maxRules {
		brace := strings.IndexAny(css, "{};")
		if brace < 0 {
			return
		}
		prelude := strings.TrimSpace(css[:brace])
		stop := css[brace]
		css = css[brace+1:]
		if stop != '{' {
			continue // the end of an @import, or of a block whose rules were taken in
		}
		if strings.HasPrefix(prelude, "@") {
			if !alwaysApplies(prelude) {
				css = skipBlock(css)
			}
			continue
		}
		body, rest, _ := strings.Cut(css, "}")
		css = rest
		s.add(prelude, body)
	}
}

func (s *styleSheet) add(selectors, body string) {
	l := parseDeclarations(body)
	if l == (look{}) {
		return
	}
	for selector := range strings.SplitSeq(selectors, ",") {
		selector = strings.ToLower(strings.TrimSpace(selector))
		if selector == "" || len(selector) > 200 || strings.ContainsAny(selector, " >+~[:*") || len(s.rules) >= maxRules {
			continue
		}
		s.rules[selector] = l.over(s.rules[selector])
	}
}

// alwaysApplies reports whether a media block is for every screen. Others, such as those for small screens and for print,
// hide things with good reason.
func alwaysApplies(prelude string) bool {
	switch strings.Join(strings.Fields(strings.ToLower(prelude)), " ") {
	case "@media all", "@media screen", "@media only screen":
		return true
	}
	return false
}

// skipBlock skips to the end of a block whose opening brace is gone already.
func skipBlock(css string) string {
	depth := 1
	for i := 0; i < len(css); i++ {
		switch css[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return css[i+1:]
			}
		}
	}
	return ""
}

func stripCSSComments(css string) string {
	if !strings.Contains(css, "/*") {
		return css
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(css, "/*")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, css, _ = strings.Cut(rest, "*/")
	}
}

// parseDeclarations reads "property: value; …".
func parseDeclarations(css string) look {
	var l look
	for declaration := range strings.SplitSeq(stripCSSComments(css), ";") {
		property, value, ok := strings.Cut(declaration, ":")
		if !ok {
			continue
		}
		value, _, _ = strings.Cut(strings.ToLower(value), "!")
		l.declare(strings.ToLower(strings.TrimSpace(property)), strings.TrimSpace(value))
	}
	return l
}

func (l *look) declare(property, value string) {
	switch property {
	case "display":
		l.noDisplay = when(value == "none")
	case "mso-hide":
		if value == "all" && l.noDisplay == unset {
			l.noDisplay = yes
		}
	case "visibility":
		l.invisible = when(value == "hidden" || value == "collapse")
	case "opacity":
		n, _, ok := leadingNumber(value)
		l.faint = when(ok && n < 0.05)
	case "font-size":
		l.tiny = when(isTinyFont(value))
	case "font":
		for word := range strings.FieldsSeq(value) {
			size, _, _ := strings.Cut(word, "/")
			if _, unit, ok := leadingNumber(size); ok && unit != "" {
				l.tiny = when(isTinyFont(size))
			}
		}
	case "height", "max-height":
		l.noHeight = l.noHeight.or(isZero(value))
	case "width", "max-width":
		l.noWidth = l.noWidth.or(isZero(value))
	case "overflow":
		l.clips = when(value == "hidden")
	case "position":
		l.absolute = when(value == "absolute" || value == "fixed")
	case "left", "top", "right", "margin-left", "text-indent":
		n, unit, ok := leadingNumber(value)
		if far := ok && n <= -500 && unit != "%"; far {
			l.offside = yes
			if property == "text-indent" || property == "margin-left" {
				l.absolute = yes
			}
		}
	case "color":
		l.fg = parseColour(value)
	case "background-color":
		if l.bg = parseColour(value); l.bg.kind == colourClear {
			l.bg = colour{} // what is below shows
		}
	case "background", "background-image":
		l.bg = parseBackground(value).over(l.bg)
	}
}

func when(b bool) tri {
	if b {
		return yes
	}
	return no
}

func (t tri) or(b bool) tri {
	if b || t == yes {
		return yes
	}
	return no
}

func isZero(value string) bool {
	n, _, ok := leadingNumber(value)
	return ok && n == 0
}

// isTinyFont reports whether a font size is 0, or so small that it can't be read.
func isTinyFont(value string) bool {
	n, unit, ok := leadingNumber(value)
	return ok && (n == 0 || n <= 1 && (unit == "px" || unit == "pt"))
}
