package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"postern/rules"
)

// A treeWriter prints what the conditions of a rule saw, a line each: where the condition stands, its value, the
// condition and what it saw.
type treeWriter struct {
	w      io.Writer
	file   string // of the rule: conditions that stand there are told by line only
	indent string
	blamed map[*rules.Step]rules.Truth // conditions that were not as they had to be, and what they had to be
	marks  marks
}

// marks are how a match is set off from the words around it, and how the parts of a line are coloured.
type marks struct{ open, close, strong, dim, bad, off string }

var (
	plainMarks  = marks{open: "«", close: "»"}
	colourMarks = marks{open: "\x1b[1;33m", close: "\x1b[0m", strong: "\x1b[1m", dim: "\x1b[2m", bad: "\x1b[31m", off: "\x1b[0m"}
)

// marksFor gives colours for a terminal and none for anything else.
func marksFor(w io.Writer) marks {
	if isTerminal(w) {
		return colourMarks
	}
	return plainMarks
}

// lineWidth is beyond what a line of conditions is broken before what they saw.
const lineWidth = 110

func (t *treeWriter) write(s *rules.Step, depth int) {
	where := ""
	switch {
	case s.Pos.IsZero():
	case s.Pos.File == t.file:
		where = strconv.Itoa(s.Pos.Line)
	default:
		where = fmt.Sprintf("%s:%d", s.Pos.File, s.Pos.Line)
	}
	head := fmt.Sprintf("%s%5s  %-7s  %s%s", t.indent, where, s.Truth, strings.Repeat("  ", depth), printable(s.What))
	saw := t.saw(s)
	blame := ""
	if want, ok := t.blamed[s]; ok {
		blame = t.marks.bad + "  <- expected " + want.String() + t.marks.off
	}
	if saw != "" && len([]rune(head))+len([]rune(saw)) > lineWidth {
		fmt.Fprintf(t.w, "%s%s\n%s  %s%s\n", head, blame, t.indent+strings.Repeat(" ", 16+2*depth), saw, "")
	} else {
		if saw != "" {
			head += "  "
		}
		fmt.Fprintf(t.w, "%s%s%s\n", head, saw, blame)
	}
	for _, sub := range s.Steps {
		t.write(sub, depth+1)
	}
}

// saw tells what a condition saw: what matched, with the words around it, else the first of the values.
func (t *treeWriter) saw(s *rules.Step) string {
	if s.Op == rules.OpSymbol && len(s.Seen) > 0 {
		return "found " + times(s.Seen[0])
	}
	if s.Op != rules.OpTest && s.Op != rules.OpSymbol && s.Op != rules.OpItem && s.Op != rules.OpItems {
		return ""
	}
	var parts []string
	for _, p := range s.Found {
		parts = append(parts, t.piece(p))
	}
	if len(parts) == 0 {
		for _, v := range s.Seen {
			parts = append(parts, quoted(v))
		}
		if s.More > 0 && s.Op == rules.OpTest {
			parts = append(parts, fmt.Sprintf("%d more", s.More))
		}
	}
	for i, v := range s.Other {
		if i == 0 {
			parts = append(parts, "beside "+quoted(v))
		} else {
			parts = append(parts, quoted(v))
		}
	}
	if s.Chars > 0 && len(s.Found) == 0 {
		parts = append(parts, fmt.Sprintf("%d characters", s.Chars))
	}
	if s.Failed {
		parts = append(parts, "a check that could tell failed")
	}
	switch {
	case s.Op == rules.OpItem:
		return strings.Join(parts, ", ")
	case s.Op == rules.OpItems:
		return moreItems(s)
	case len(parts) == 0:
		return "saw nothing"
	}
	return "saw " + strings.Join(parts, ", ")
}

func times(count string) string {
	switch count {
	case "0":
		return "nowhere"
	case "1":
		return "once"
	}
	return count + " times"
}

// moreItems says how many links or attachments there are beside those that are told of below.
func moreItems(s *rules.Step) string {
	switch {
	case len(s.Steps) > 0 && s.More > 0:
		return fmt.Sprintf("and %d more", s.More)
	case len(s.Steps) > 0:
		return ""
	case s.More == 0:
		return "saw none"
	}
	return fmt.Sprintf("saw %d", s.More)
}

func (t *treeWriter) piece(p rules.Piece) string {
	text := escaped(p.Before) + t.marks.open + escaped(p.Text) + t.marks.close + escaped(p.After)
	if p.Entry != "" {
		text += " by the entry " + escaped(p.Entry)
	}
	if p.Note != "" {
		text += " (" + escaped(p.Note) + ")"
	}
	return text
}

// quoted is a text that a stranger wrote, between quotes.
func quoted(s string) string { return `"` + escaped(s) + `"` }

// escaped shows control characters and what can't be printed as \n, \x1b and so on, and everything else as it is.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != '\ufffd' && strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

// blame finds the innermost conditions that kept a rule from coming out as want.
func blame(s *rules.Step, want rules.Truth, blamed map[*rules.Step]rules.Truth) {
	if s == nil || s.Truth == want {
		return
	}
	switch s.Op {
	case rules.OpNot:
		blame(s.Steps[0], opposite(want), blamed)
		return
	case rules.OpIs, rules.OpItem:
		blame(s.Steps[0], want, blamed)
		return
	case rules.OpAll, rules.OpAny, rules.OpAtLeast:
		// One of many has to change where any was to be true, or all was to be false.
		if (s.Op == rules.OpAll) == (want == rules.True) {
			for _, sub := range s.Steps {
				blame(sub, want, blamed)
			}
			return
		}
	}
	blamed[s] = want
}

func opposite(t rules.Truth) rules.Truth {
	switch t {
	case rules.True:
		return rules.False
	case rules.False:
		return rules.True
	}
	return t
}

// A stepJSON is a condition as -json prints it.
type stepJSON struct {
	Condition string      `json:"condition"`
	File      string      `json:"file,omitempty"`
	Line      int         `json:"line,omitempty"`
	Value     string      `json:"value"` // true, false or unknown
	Saw       []string    `json:"saw,omitempty"`
	More      int         `json:"more,omitempty"`
	Chars     int         `json:"chars,omitempty"`  // of a body that is too long to be shown
	Beside    []string    `json:"beside,omitempty"` // what same_as compared with
	Failed    bool        `json:"failed,omitempty"`
	Matched   []pieceJSON `json:"matched,omitempty"`
	Within    []*stepJSON `json:"within,omitempty"`
}

type pieceJSON struct {
	Before string `json:"before"`
	Text   string `json:"text"`
	After  string `json:"after"`
	Entry  string `json:"entry,omitempty"`
	Note   string `json:"note,omitempty"`
}

func newStepJSON(s *rules.Step) *stepJSON {
	if s == nil {
		return nil
	}
	j := &stepJSON{
		Condition: s.What, File: s.Pos.File, Line: s.Pos.Line, Value: s.Truth.String(),
		Saw: s.Seen, More: s.More, Chars: s.Chars, Beside: s.Other, Failed: s.Failed,
	}
	for _, p := range s.Found {
		j.Matched = append(j.Matched, pieceJSON{Before: p.Before, Text: p.Text, After: p.After, Entry: p.Entry, Note: p.Note})
	}
	for _, sub := range s.Steps {
		j.Within = append(j.Within, newStepJSON(sub))
	}
	return j
}
