package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"postern/rules/strict"
)

// maxEntry bounds a line of a list file, in bytes.
const maxEntry = 1000

// A List is a named list: entries in place, or a file of them.
type List struct {
	Name    string
	Pos     Pos
	File    string // relative to the rule file; "" for entries in place
	Entries []Entry
}

// An Entry is one entry of a list. Its key is an exact text, ".example.org" for a domain and all below it,
// "@example.org" for all addresses at exactly that domain, or an IP address or network.
type Entry struct {
	Key    string
	Score  *int32 // in hundredths: stands in for the score of the rule that this entry makes hit
	Note   string
	Line   int
	Column int

	pos Pos // with the file, set when the list is made ready
}

// UnmarshalStrict reads a list: entries, or a mapping with the key file.
func (l *List) UnmarshalStrict(n *strict.Node) strict.Problems {
	l.Pos = n.Pos()
	var p strict.Problems
	switch n.Kind() {
	case strict.Sequence:
		for _, item := range n.Items() {
			if item.Kind() != strict.Scalar {
				p.Addf(item.Pos(), "expected a list entry such as example.org, got a %s", item.Kind())
				continue
			}
			e := Entry{Key: item.Text(), Line: item.Pos().Line, Column: item.Pos().Col}
			if what := e.check(); what != "" {
				p.Addf(item.Pos(), "%s", what)
				continue
			}
			l.Entries = append(l.Entries, e)
		}
	case strict.Mapping:
		var f struct {
			File string `yaml:"file"`
		}
		p = n.Decode(&f)
		if f.File == "" && len(p) == 0 {
			p.Addf(n.Pos(), "a list without entries, expected [...] or {file: NAME}")
		}
		l.File = f.File
	default:
		p.Addf(n.Pos(), "expected a list of entries or {file: NAME}, got %s", describe(n))
	}
	return p
}

// check says what is wrong with the entry's key.
func (e *Entry) check() string {
	switch {
	case e.Key == "":
		return "an empty list entry"
	case e.Key == "." || e.Key == "@":
		return fmt.Sprintf("the list entry %q, expected a domain after it", e.Key)
	case len(e.Key) > maxEntry:
		return fmt.Sprintf("a list entry of %d bytes, expected at most %d", len(e.Key), maxEntry)
	}
	if strings.Contains(e.Key, "/") && looksLikeNet(e.Key) {
		if _, err := strict.ParsePrefix(e.Key); err != nil {
			return err.Error()
		}
	}
	return ""
}

// looksLikeNet reports whether s can only be meant as a network: an address, a slash and a number.
func looksLikeNet(s string) bool {
	before, after, _ := strings.Cut(s, "/")
	_, err := strconv.Atoi(after)
	_, aerr := netip.ParseAddr(before)
	return err == nil && aerr == nil
}

// parseListFile reads the lines of a list file: "key", "key score", "key score # note". A key that holds spaces and ends
// in a number stands in double quotes.
func parseListFile(name string, src []byte) ([]Entry, strict.Problems) {
	var entries []Entry
	var p strict.Problems
	if !utf8.Valid(src) {
		p.Addf(Pos{File: name}, "not UTF-8 text")
		return nil, p
	}
	line := 0
	for text := range strings.Lines(strings.TrimPrefix(string(src), "\ufeff")) {
		line++
		body, note, _ := strings.Cut(text, "#")
		if strings.HasPrefix(strings.TrimSpace(body), `"`) {
			body, note = cutQuoted(text)
		}
		body = strings.TrimSpace(body)
		if body == "" {
			continue
		}
		e := Entry{Note: strings.TrimSpace(note), Line: line, Column: 1}
		what := e.parse(body)
		if what == "" {
			what = e.check()
		}
		if what != "" {
			p.Addf(Pos{File: name, Line: line, Col: 1}, "%s", what)
			continue
		}
		entries = append(entries, e)
	}
	return entries, p
}

// cutQuoted splits a line that begins with a quoted key before its note.
func cutQuoted(text string) (body, note string) {
	start := strings.IndexByte(text, '"') + 1
	end := strings.IndexByte(text[start:], '"')
	if end < 0 {
		return text, ""
	}
	end += start
	rest, note, _ := strings.Cut(text[end:], "#")
	return text[:end] + rest, note
}

func (e *Entry) parse(body string) string {
	if rest, ok := strings.CutPrefix(body, `"`); ok {
		key, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return "a quoted list entry without its closing quote"
		}
		e.Key = key
		if after = strings.TrimSpace(after); after == "" {
			return ""
		}
		return e.setScore(after)
	}
	e.Key = body
	if i := strings.LastIndexAny(body, " \t"); i >= 0 {
		if last := body[i+1:]; strings.Trim(last, "+-0123456789.") == "" {
			e.Key = strings.TrimSpace(body[:i])
			return e.setScore(last)
		}
	}
	return ""
}

func (e *Entry) setScore(s string) string {
	score, err := parsePoints(s)
	if err != nil {
		return err.Error()
	}
	n := int32(score)
	e.Score = &n
	return ""
}

// An index answers in constant time whether a value is in a list, as seen through a view.
type index struct {
	view   view
	exact  bool
	texts  map[string]*Entry
	suffix map[string]*Entry // by domain, for the entries with a dot before it
	nets   map[netip.Prefix]*Entry
	bits4  []int // prefix lengths that there are, longest first
	bits6  []int
}

func newIndex(entries []Entry, v view, exact bool) *index {
	x := &index{view: v, exact: exact, texts: make(map[string]*Entry, len(entries))}
	for i := range entries {
		e := &entries[i]
		if p, err := strict.ParsePrefix(e.Key); err == nil {
			x.addNet(p, e)
		}
		key := x.key(e.Key)
		if domain, ok := strings.CutPrefix(key, "."); ok && domain != "" {
			if x.suffix == nil {
				x.suffix = map[string]*Entry{}
			}
			x.suffix[domain] = e
			continue
		}
		x.texts[key] = e
	}
	return x
}

func (x *index) addNet(p netip.Prefix, e *Entry) {
	if x.nets == nil {
		x.nets = map[netip.Prefix]*Entry{}
	}
	x.nets[p] = e
	bits := &x.bits6
	if p.Addr().Is4() {
		bits = &x.bits4
	}
	for i, b := range *bits {
		if b == p.Bits() {
			return
		}
		if b < p.Bits() {
			*bits = append((*bits)[:i], append([]int{p.Bits()}, (*bits)[i:]...)...)
			return
		}
	}
	*bits = append(*bits, p.Bits())
}

// key makes an entry or value comparable.
func (x *index) key(s string) string {
	s = x.view.apply(s)
	if !x.exact {
		s = foldCase(s)
	}
	return s
}

// find returns the entry that holds value, which is as [index.key] makes it; nil for none.
func (x *index) find(value string) *Entry {
	if e := x.texts[value]; e != nil {
		return e
	}
	domain := value
	if at := strings.LastIndexByte(value, '@'); at >= 0 {
		if e := x.texts[value[at:]]; e != nil {
			return e
		}
		domain = value[at+1:]
	}
	if len(x.suffix) > 0 {
		// A DNS name has at most 127 labels; what has more is none.
		for range 128 {
			if e := x.suffix[domain]; e != nil {
				return e
			}
			_, rest, ok := strings.Cut(domain, ".")
			if !ok {
				break
			}
			domain = rest
		}
	}
	if x.nets != nil {
		if a, err := netip.ParseAddr(value); err == nil {
			return x.findAddr(a)
		}
	}
	return nil
}

// findAddr returns the entry of the longest network that holds a.
func (x *index) findAddr(a netip.Addr) *Entry {
	a = a.Unmap().WithZone("")
	bits := x.bits6
	if a.Is4() {
		bits = x.bits4
	}
	for _, b := range bits {
		if p, err := a.Prefix(b); err == nil {
			if e := x.nets[p]; e != nil {
				return e
			}
		}
	}
	return nil
}
