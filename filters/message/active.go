package message

import (
	"slices"
	"strings"

	"golang.org/x/net/html/atom"
)

// ActiveWords are the things in a page, a picture or a document that do more than show text, each with its meaning.
func ActiveWords() map[string]string {
	return map[string]string{
		"script":      "it holds a script",
		"handler":     "a script stands in an attribute, such as onload",
		"unpack":      "a script decodes text: atob, unescape, fromCharCode, eval",
		"download":    "a script makes a file: Blob with createObjectURL or msSaveBlob, or a link with the attribute download",
		"form":        "it holds a form",
		"password":    "a field of a form asks for a password",
		"redirect":    "it leads on to another page by itself",
		"frame":       "it shows another page or object within it",
		"data_uri":    "a link, form or frame leads to a data: URI, whose page is in the link itself",
		"open_action": "a PDF has something done when it or a page is opened, such as going to a page, or with \"script\" or \"launch\" more than that",
		"launch":      "a PDF starts a program or opens a file",
		"embedded":    "a PDF has files in it",
	}
}

// An activeSet gathers words of [ActiveWords].
type activeSet struct{ words []string }

func (s *activeSet) add(word string) {
	if s != nil && !slices.Contains(s.words, word) {
		s.words = append(s.words, word)
	}
}

// tag notes what a tag makes active.
func (s *activeSet) tag(tag atom.Atom, a *attrs) {
	if a.handler {
		s.add("handler")
	}
	for _, target := range []string{a.href, a.action} {
		switch schemeOf(cleanURL(target)) {
		case "javascript", "vbscript":
			s.add("script")
		case "data":
			s.add("data_uri")
		}
	}
	if a.download {
		s.add("download")
	}
	switch tag {
	case atom.Script:
		s.add("script")
	case atom.Form:
		s.add("form")
	case atom.Input:
		if strings.EqualFold(strings.TrimSpace(a.kind), "password") {
			s.add("password")
		}
	case atom.Iframe, atom.Frame, atom.Object, atom.Embed, atom.Applet:
		s.add("frame")
		if schemeOf(cleanURL(a.src)) == "data" {
			s.add("data_uri")
		}
	case atom.Meta:
		if strings.EqualFold(a.httpEquiv, "refresh") && strings.Contains(a.content, "=") {
			s.add("redirect")
		}
	}
}

// scriptSigns are what scripts call, in lower case, and what it is a sign of.
var scriptSigns = []struct{ call, word string }{
	{call: "atob(", word: "unpack"}, {call: "unescape(", word: "unpack"}, {call: "fromcharcode", word: "unpack"},
	{call: "eval(", word: "unpack"}, {call: "decodeuricomponent(", word: "unpack"},
	{call: "createobjecturl", word: "download"}, {call: "mssaveblob", word: "download"}, {call: "mssaveoropenblob", word: "download"},
	{call: "location.href", word: "redirect"}, {call: "location.replace", word: "redirect"}, {call: "window.location", word: "redirect"},
	{call: "location.assign", word: "redirect"}, {call: "document.location", word: "redirect"},
}

// script notes what the text of a script does.
func (s *activeSet) script(text string) {
	text = strings.ToLower(text)
	for _, sign := range scriptSigns {
		if strings.Contains(text, sign.call) {
			s.add(sign.word)
		}
	}
}

// Active says what in the HTML that is shown does more than show: words of [ActiveWords].
func (m *Message) Active() []string {
	m.loadContent()
	return m.content.active.words
}

// ActiveIn says what in an attached page, picture or document does more than show: words of [ActiveWords]. partID is that of
// the [Attachment].
func (m *Message) ActiveIn(partID string) []string {
	m.loadContent()
	if set := m.content.activeIn[partID]; set != nil {
		return set.words
	}
	return nil
}

// The ways of hiding text.
type hiding uint8

const (
	hiddenByDisplay hiding = 1 << iota
	hiddenByVisibility
	hiddenByOpacity
	hiddenBySize
	hiddenByColour
	hiddenByPlace
	hiddenByClipping
)

// hidingWords name the ways of hiding text.
var hidingWords = []struct {
	by   hiding
	word string
}{
	{by: hiddenByDisplay, word: "display"}, {by: hiddenByVisibility, word: "visibility"}, {by: hiddenByOpacity, word: "opacity"},
	{by: hiddenBySize, word: "size"}, {by: hiddenByColour, word: "colour"}, {by: hiddenByPlace, word: "off_screen"},
	{by: hiddenByClipping, word: "clipped"},
}

// HidingWords are the words that [Message.HiddenBy] gives.
func HidingWords() []string {
	var words []string
	for _, h := range hidingWords {
		words = append(words, h.word)
	}
	return words
}

// HiddenBy says in what ways the text of [Message.Hidden] is hidden.
func (m *Message) HiddenBy() []string {
	m.loadContent()
	var words []string
	for _, h := range hidingWords {
		if m.content.hiddenBy&h.by != 0 {
			words = append(words, h.word)
		}
	}
	return words
}
