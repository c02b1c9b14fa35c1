package rules

import (
	"context"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An Explained is a rule, what it says about a message, and why.
type Explained struct {
	Rule  *Rule
	Truth Truth
	Score int32 // what it adds where it hits: the rule's, or that of the list entry which made it hit
	When  *Step // nil for a rule that is off
}

// An Op says what a [Step] is.
type Op string

// The kinds of steps.
const (
	OpAll     Op = "all"
	OpAny     Op = "any"
	OpNot     Op = "not"
	OpAtLeast Op = "at_least"
	OpIs      Op = "is"     // a named condition
	OpRule    Op = "rule"   // the symbol of another rule
	OpItems   Op = "items"  // a condition on links or attachments
	OpItem    Op = "item"   // one of them
	OpTest    Op = "test"   // operators on what was seen
	OpSymbol  Op = "symbol" // how often a check's symbol was found
	OpMore    Op = "more"   // what is left out of a long explanation
)

// A Step is a condition of a rule, what it saw, and what came of it. The texts in it may be what a stranger wrote,
// control characters included: who shows them escapes them.
type Step struct {
	Op     Op
	What   string // the condition: `all`, `header Subject contains "invoice"`
	Pos    Pos    // zero where it is that of the conditions within
	Truth  Truth
	Seen   []string // the first values that there are
	More   int      // further ones
	Chars  int      // of a body, in place of one that is long
	Failed bool     // a check that could have told failed or timed out
	Other  []string // the values that same_as and holds compare with
	Found  []Piece  // what in the values made it true
	Steps  []*Step
}

// A Piece is a text that matched, and what stands around it.
type Piece struct {
	Before, Text, After string
	Entry               string // the key of the list entry that holds it
	Note                string // of that entry
}

// Limits of an explanation.
const (
	maxSeen       = 4   // values of a test
	maxSeenBytes  = 160 // of a value
	maxPieces     = 3   // matches of a test
	maxPieceBytes = 120 // of a match
	aroundBytes   = 48  // of the text before and after it
	maxItems      = 4   // links or attachments of a condition
)

// Explain puts the rules to a subject as [Set.Eval] does, and explains those that hit, those that stay unknown, and
// those that are named, in the order of the rules. It asks all their conditions, those too that can't change the outcome.
func (s *Set) Explain(ctx context.Context, subject Subject, named ...string) []Explained {
	st := newState(ctx, s, subject)
	also := map[string]bool{}
	for _, id := range named {
		also[id] = true
	}
	var all []Explained
	for i := range s.rules {
		r := &s.rules[i]
		t := st.rule(i)
		if t != False || also[r.rule.ID] {
			all = append(all, st.explainRule(r, t))
		}
	}
	return all
}

func (st *state) explainRule(r *compiledRule, t Truth) Explained {
	e := Explained{Rule: r.rule, Truth: t, Score: r.rule.Score}
	if r.when == nil {
		return e
	}
	if t == True {
		e.Score = st.match(r).Score
	}
	x := &explainer{st: st}
	e.When = x.node(r.when, nil)
	return e
}

// An explainer walks the conditions of one rule in the order of the file.
type explainer struct {
	st    *state
	steps int
}

func (x *explainer) node(n node, it *itemState) *Step {
	if x.steps++; x.steps > maxSteps {
		return &Step{Op: OpMore, What: "more conditions", Truth: n.eval(x.st, it)}
	}
	step := &Step{Truth: n.eval(x.st, it)}
	switch n := n.(type) {
	case *allNode:
		step.Op, step.What, step.Steps = OpAll, "all", x.nodes(n.written, it)
	case *anyNode:
		step.Op, step.What, step.Steps = OpAny, "any", x.nodes(n.written, it)
	case *atLeastNode:
		step.Op, step.What, step.Pos, step.Steps = OpAtLeast, "at_least "+strconv.Itoa(n.n), n.pos, x.nodes(n.written, it)
	case *notNode:
		step.Op, step.What, step.Steps = OpNot, "not", x.nodes([]node{n.arg}, it)
	case *isNode:
		step.Op, step.What, step.Pos = OpIs, "is "+n.name, n.pos
		step.Steps = x.nodes([]node{n.set.conds[n.index]}, nil)
	case *itemsNode:
		x.items(step, n)
	case *leafNode:
		x.test(step, n, it)
	case *ruleNode:
		step.Op, step.What, step.Pos = OpRule, "symbol "+n.set.rules[n.index].rule.ID, n.pos
	default:
		why := n.why(x.st, it, True)
		step.Op, step.What, step.Pos = OpTest, why.what, why.pos
	}
	return step
}

func (x *explainer) nodes(list []node, it *itemState) []*Step {
	steps := make([]*Step, 0, len(list))
	for _, n := range list {
		step := x.node(n, it)
		steps = append(steps, step)
		if step.Op == OpMore {
			break
		}
	}
	return steps
}

// items tells of each link or attachment what it is and how the condition came out; those for which it holds first.
func (x *explainer) items(step *Step, n *itemsNode) {
	step.Op, step.Pos, step.What = OpItems, n.pos, itemNames[n.scope]
	if n.which != whichAny {
		step.What += " " + n.which.String()
	}
	if n.count != nil {
		step.What += " count " + n.count.String()
	}
	all := x.st.items(n.scope)
	step.More = len(all)
	if n.when == nil {
		return
	}
	for _, wanted := range []Truth{True, Unknown, False} {
		for i, it := range all {
			if n.when.eval(x.st, it) != wanted {
				continue
			}
			if len(step.Steps) == maxItems {
				return
			}
			sub := x.node(n.when, it)
			step.Steps = append(step.Steps, &Step{
				Op: OpItem, What: itemNames[n.scope] + " " + strconv.Itoa(i+1) + " of " + strconv.Itoa(len(all)),
				Truth: sub.Truth, Seen: itemLabel(n.scope, it.item), Steps: []*Step{sub},
			})
			step.More--
		}
		if len(step.Steps) > 0 && n.which == whichAny && n.count == nil {
			return // what holds for one is told of that one
		}
	}
}

// itemLabel is by what people know a link or an attachment.
func itemLabel(s scope, item Item) []string {
	parts := []string{"url"}
	if s == ofAttachment {
		parts = []string{"name", "type"}
	}
	var label []string
	for _, part := range parts {
		for _, v := range item.Part(part) {
			label = append(label, cut(v, maxSeenBytes))
		}
	}
	return label
}

func (x *explainer) test(step *Step, n *leafNode, it *itemState) {
	step.Op, step.What, step.Pos = OpTest, n.what, n.pos
	src := &x.st.set.sources[n.scope][n.src]
	if src.subject == "symbol" && src.part == "count" {
		step.Op = OpSymbol
	}
	s := x.st.values(n.scope, n.src, it)
	step.Failed = s.unknown
	step.Seen = firstValues(s.values)
	step.More = len(s.values) - len(step.Seen)
	if src.subject == "body" && len(s.values) == 1 && len(s.values[0]) > maxSeenBytes {
		step.Seen, step.More, step.Chars = nil, 0, utf8.RuneCountInString(s.values[0])
	}
	for _, p := range n.preds {
		if same, ok := p.(*samePred); ok {
			other := x.st.values(same.scope, same.src, it)
			step.Other, step.Failed = append(step.Other, firstValues(other.values)...), step.Failed || other.unknown
		}
	}
	if n.exists != nil || n.count != nil {
		return
	}
	for i := range s.values {
		if n.holds(x.st, it, s, i) != True {
			continue
		}
		for _, p := range n.preds {
			if f := p.find(x.st, s, i); f.text != "" || f.entry != nil {
				step.Found = append(step.Found, piece(s.values[i], f))
			}
		}
		if len(step.Found) >= maxPieces {
			return
		}
	}
}

func firstValues(values []string) []string {
	var first []string
	for _, v := range values[:min(len(values), maxSeen)] {
		first = append(first, cut(v, maxSeenBytes))
	}
	return first
}

// piece cuts what was found, and the words around it, out of a value.
func piece(value string, f found) Piece {
	p := Piece{Note: cut(f.note, maxSeenBytes)}
	if f.entry != nil {
		p.Entry = cut(f.entry.Key, maxSeenBytes)
		p.Text = cut(value, maxPieceBytes)
	}
	from, to := f.from, f.to
	if from >= to || to > len(value) {
		if f.text != "" {
			p.Text = cut(f.text, maxPieceBytes)
		}
		return p
	}
	p.Text = cut(value[from:to], maxPieceBytes)
	p.Before, p.After = before(value[:from]), after(value[to:])
	return p
}

// before is the end of s, cut at a space where there is one.
func before(s string) string {
	if len(s) <= aroundBytes {
		return s
	}
	at := len(s) - aroundBytes
	for at < len(s) && !utf8.RuneStart(s[at]) {
		at++
	}
	s = s[at:]
	if i := strings.IndexFunc(s, unicode.IsSpace); i >= 0 && i < aroundBytes/2 {
		s = s[i+1:]
	}
	return "…" + s
}

// after is the beginning of s, as before is its end.
func after(s string) string {
	if len(s) <= aroundBytes {
		return s
	}
	s = s[:floor(s, aroundBytes)]
	if i := strings.LastIndexFunc(s, unicode.IsSpace); i > aroundBytes/2 {
		s = s[:i]
	}
	return s + "…"
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:floor(s, limit)] + "…"
}

// floor is the last place up to limit at which a character begins.
func floor(s string, limit int) int {
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return limit
}

// unfold gives the bytes of value that the bytes from and to of its folded form stand for: folding changes
// characters one by one.
func unfold(value, folded string, from, to int) (int, int) {
	start := utf8.RuneCountInString(folded[:from])
	end := start + utf8.RuneCountInString(folded[from:to])
	return runeOffset(value, start), runeOffset(value, end)
}

// runeOffset is where character n of s begins.
func runeOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}
