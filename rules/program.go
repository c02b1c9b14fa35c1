package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A node is a compiled condition. it is the link or attachment that is asked about, nil outside of such a condition.
type node interface {
	eval(st *state, it *itemState) Truth
	// evidence adds what made a true condition true.
	evidence(st *state, it *itemState, ev *evidence)
	// why names the innermost condition that keeps this one from being want.
	why(st *state, it *itemState, want Truth) reason
	cost() int
}

// evidence is why a rule hit.
type evidence struct {
	details []string
	score   *int32 // of the list entry with the greatest weight
	steps   int
}

// Limits of an explanation: pieces of evidence that are shown, and conditions that are looked at to find them.
const (
	maxDetails = 3
	maxSteps   = 1000
)

// more reports whether to look further.
func (ev *evidence) more() bool {
	ev.steps++
	return ev.steps <= maxSteps
}

func (ev *evidence) add(what, value, note string) {
	if len(ev.details) >= maxDetails {
		return
	}
	if value != "" {
		what += " " + strconv.Quote(short(value))
	}
	if note != "" {
		what += " (" + short(note) + ")"
	}
	if !slices.Contains(ev.details, what) {
		ev.details = append(ev.details, what)
	}
}

func (ev *evidence) addScore(score *int32) {
	if score != nil && (ev.score == nil || abs(*score) > abs(*ev.score)) {
		ev.score = score
	}
}

func abs(n int32) int32 { return max(n, -n) }

// A reason is a condition that was not as a rule needed it.
type reason struct {
	pos  Pos
	what string // the condition, with what it saw
	got  Truth
}

func (r reason) String() string {
	s := r.what + " was " + r.got.String()
	if r.pos.Line > 0 {
		s += " (line " + strconv.Itoa(r.pos.Line) + ")"
	}
	return s
}

// allNode and anyNode keep their conditions twice: in the order of the file, for people, and cheapest first, in which
// they are asked.
type allNode struct {
	written, cheap []node
	dear           int
}

func byCost(written []node) []node {
	cheap := slices.Clone(written)
	slices.SortStableFunc(cheap, func(a, b node) int { return cmp.Compare(a.cost(), b.cost()) })
	return cheap
}

func (n *allNode) eval(st *state, it *itemState) Truth {
	t := True
	for _, arg := range n.cheap {
		switch arg.eval(st, it) {
		case False:
			return False
		case Unknown:
			t = Unknown
		}
	}
	return t
}

func (n *allNode) evidence(st *state, it *itemState, ev *evidence) {
	for _, arg := range n.written {
		if ev.more() {
			arg.evidence(st, it, ev)
		}
	}
}

func (n *allNode) why(st *state, it *itemState, want Truth) reason {
	return whyAmong(st, it, n.written, want, False)
}

func (n *allNode) cost() int { return n.dear }

// whyAmong explains the outcome of a combinator that the value decisive settles: by that condition, or by the first
// that is not as wanted.
func whyAmong(st *state, it *itemState, args []node, want, decisive Truth) reason {
	for _, arg := range args {
		if t := arg.eval(st, it); t == decisive && t != want {
			return arg.why(st, it, want)
		}
	}
	for _, arg := range args {
		if arg.eval(st, it) != want {
			return arg.why(st, it, want)
		}
	}
	return args[0].why(st, it, want)
}

// sumCost is bounded, as conditions that name each other can add up without end.
func sumCost(args []node) int {
	const most = 1_000_000
	c := 0
	for _, a := range args {
		c = min(most, c+a.cost())
	}
	return c
}

type anyNode struct {
	written, cheap []node
	dear           int
}

func (n *anyNode) eval(st *state, it *itemState) Truth {
	t := False
	for _, arg := range n.cheap {
		switch arg.eval(st, it) {
		case True:
			return True
		case Unknown:
			t = Unknown
		}
	}
	return t
}

// evidence is what settled it: to look for the first in the file would be to ask what nobody needs to know.
func (n *anyNode) evidence(st *state, it *itemState, ev *evidence) {
	for _, arg := range n.cheap {
		if arg.eval(st, it) == True {
			arg.evidence(st, it, ev)
			return
		}
	}
}

func (n *anyNode) why(st *state, it *itemState, want Truth) reason {
	return whyAmong(st, it, n.written, want, True)
}

func (n *anyNode) cost() int { return n.dear }

type notNode struct{ arg node }

func (n *notNode) eval(st *state, it *itemState) Truth { return not(n.arg.eval(st, it)) }

func not(t Truth) Truth {
	switch t {
	case True:
		return False
	case False:
		return True
	}
	return Unknown
}

// evidence of what is not there is none.
func (n *notNode) evidence(*state, *itemState, *evidence) {}

func (n *notNode) why(st *state, it *itemState, want Truth) reason {
	return n.arg.why(st, it, not(want))
}

func (n *notNode) cost() int { return n.arg.cost() }

type atLeastNode struct {
	n              int
	written, cheap []node
	dear           int
	pos            Pos
}

func (n *atLeastNode) eval(st *state, it *itemState) Truth {
	yes, open := 0, len(n.cheap) // open: may still be or become true
	unknown := 0
	for _, arg := range n.cheap {
		switch arg.eval(st, it) {
		case True:
			yes++
		case False:
			open--
		case Unknown:
			unknown++
		}
		if yes >= n.n {
			return True
		}
		if open < n.n {
			return False
		}
	}
	if yes+unknown >= n.n {
		return Unknown
	}
	return False
}

func (n *atLeastNode) evidence(st *state, it *itemState, ev *evidence) {
	for _, arg := range n.written {
		if ev.more() && arg.eval(st, it) == True {
			arg.evidence(st, it, ev)
		}
	}
}

func (n *atLeastNode) why(st *state, it *itemState, want Truth) reason {
	yes := 0
	for _, arg := range n.written {
		if arg.eval(st, it) == True {
			yes++
		}
	}
	what := "at_least " + strconv.Itoa(n.n) + " of " + strconv.Itoa(len(n.written)) + " (" + strconv.Itoa(yes) + " hold)"
	return reason{pos: n.pos, what: what, got: n.eval(st, it)}
}

func (n *atLeastNode) cost() int { return n.dear }

// isNode is a named condition, asked once a message.
type isNode struct {
	set   *Set
	index int
	dear  int
}

func (n *isNode) eval(st *state, _ *itemState) Truth {
	if !st.condDone[n.index] {
		st.conds[n.index], st.condDone[n.index] = n.set.conds[n.index].eval(st, nil), true
	}
	return st.conds[n.index]
}

func (n *isNode) evidence(st *state, _ *itemState, ev *evidence) {
	n.set.conds[n.index].evidence(st, nil, ev)
}

func (n *isNode) why(st *state, _ *itemState, want Truth) reason {
	return n.set.conds[n.index].why(st, nil, want)
}

func (n *isNode) cost() int { return n.dear }

// ruleNode is the symbol of another rule.
type ruleNode struct {
	set   *Set
	index int
	dear  int
	pos   Pos
}

func (n *ruleNode) eval(st *state, _ *itemState) Truth { return st.rule(n.index) }

func (n *ruleNode) evidence(_ *state, _ *itemState, ev *evidence) {
	ev.add("symbol "+n.set.rules[n.index].rule.ID, "", "")
}

func (n *ruleNode) why(st *state, _ *itemState, _ Truth) reason {
	return reason{pos: n.pos, what: "symbol " + n.set.rules[n.index].rule.ID, got: st.rule(n.index)}
}

func (n *ruleNode) cost() int { return n.dear }

// neverNode is the symbol of a rule that this one does not see: a shadow rule's for an enforced rule, or one that is off.
type neverNode struct {
	pos  Pos
	what string
}

func (n *neverNode) eval(*state, *itemState) Truth          { return False }
func (n *neverNode) evidence(*state, *itemState, *evidence) {}
func (n *neverNode) why(*state, *itemState, Truth) reason {
	return reason{pos: n.pos, what: n.what, got: False}
}
func (n *neverNode) cost() int { return 0 }

// leafNode asks about the values of a source.
type leafNode struct {
	scope    scope
	src      int // among the sources of the scope
	which    which
	preds    []predicate
	exists   *bool
	count    *span
	nonEmpty bool // exists asks for a value that is not empty
	rising   bool // more values or counts can only make it true, never false
	what     string
	pos      Pos
	dear     int
}

func (n *leafNode) cost() int { return n.dear }

func (n *leafNode) eval(st *state, it *itemState) Truth {
	s := st.values(n.scope, n.src, it)
	switch {
	case n.exists != nil:
		t := truth(s.exists(n.nonEmpty))
		if t == False && s.unknown {
			t = Unknown
		}
		if !*n.exists {
			t = not(t)
		}
		return t
	case n.count != nil:
		if s.unknown && !(n.rising && n.count.holds(int64(len(s.values)))) {
			return Unknown
		}
		return truth(n.count.holds(int64(len(s.values))))
	}
	return n.choose(st, it, s)
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// choose applies which. What an unknown check might have said is open: it can't take away what is known to be so.
func (n *leafNode) choose(st *state, it *itemState, s *valueSet) Truth {
	last := len(s.values) - 1
	if s.unknown && !n.rising {
		return Unknown
	}
	switch n.which {
	case whichFirst, whichLast:
		switch {
		case s.unknown:
			return Unknown
		case last < 0:
			return False
		case n.which == whichFirst:
			return n.holds(st, it, s, 0)
		}
		return n.holds(st, it, s, last)
	case whichEvery:
		if last < 0 && !s.unknown {
			return False // every of none is no reason to act
		}
		t := True
		for i := range s.values {
			switch n.holds(st, it, s, i) {
			case False:
				return False
			case Unknown:
				t = Unknown
			}
		}
		if s.unknown {
			return Unknown
		}
		return t
	}
	t := truth(false)
	for i := range s.values {
		switch n.holds(st, it, s, i) {
		case True:
			return True
		case Unknown:
			t = Unknown
		}
	}
	if s.unknown {
		return Unknown
	}
	return t
}

// holds reports whether all operators hold for one value.
func (n *leafNode) holds(st *state, it *itemState, s *valueSet, i int) Truth {
	t := True
	for _, p := range n.preds {
		switch p.match(st, it, s, i) {
		case False:
			return False
		case Unknown:
			t = Unknown
		}
	}
	return t
}

func (n *leafNode) evidence(st *state, it *itemState, ev *evidence) {
	s := st.values(n.scope, n.src, it)
	source := &st.set.sources[n.scope][n.src].source
	if n.exists != nil || n.count != nil {
		value := ""
		if n.count != nil {
			value = strconv.Itoa(len(s.values))
		} else if *n.exists && len(s.values) > 0 && source.subject != "body" {
			value = s.values[0]
		}
		ev.add(source.String(), value, "")
		return
	}
	order := make([]int, len(s.values))
	for i := range order {
		order[i] = i
	}
	if n.which == whichLast {
		slices.Reverse(order)
	}
	for _, i := range order {
		if n.holds(st, it, s, i) != True {
			continue
		}
		shown, note := s.values[i], ""
		for _, p := range n.preds {
			found := p.find(s, i)
			if found.text != "" {
				shown = found.text
			}
			ev.addScore(found.score)
			if found.note != "" {
				note = found.note
			}
		}
		ev.add(source.String(), shown, note)
		return
	}
}

func (n *leafNode) why(st *state, it *itemState, _ Truth) reason {
	s := st.values(n.scope, n.src, it)
	var saw []string
	for i, v := range s.values {
		if i == 3 {
			saw = append(saw, "…")
			break
		}
		saw = append(saw, strconv.Quote(short(v)))
	}
	switch {
	case len(saw) > 0:
		return reason{pos: n.pos, what: n.what + " [saw " + strings.Join(saw, ", ") + "]", got: n.eval(st, it)}
	case s.unknown:
		return reason{pos: n.pos, what: n.what + " [its check failed]", got: n.eval(st, it)}
	}
	return reason{pos: n.pos, what: n.what + " [saw nothing]", got: n.eval(st, it)}
}

// itemsNode asks for links or attachments for which a condition holds.
type itemsNode struct {
	scope scope
	which which
	when  node // nil: any at all
	count *span
	pos   Pos
}

func (n *itemsNode) eval(st *state, _ *itemState) Truth {
	items := st.items(n.scope)
	if n.count != nil {
		return n.countEval(st, items)
	}
	if len(items) == 0 {
		return False
	}
	switch {
	case n.when == nil:
		return True
	case n.which == whichFirst:
		return n.when.eval(st, items[0])
	case n.which == whichLast:
		return n.when.eval(st, items[len(items)-1])
	}
	settled, open := True, False
	if n.which == whichEvery {
		settled, open = False, True
	}
	for _, it := range items {
		switch n.when.eval(st, it) {
		case settled:
			return settled
		case Unknown:
			open = Unknown
		}
	}
	return open
}

// countEval counts the items for which the condition holds; those of which it is unknown may count or not.
func (n *itemsNode) countEval(st *state, items []*itemState) Truth {
	yes, unknown := int64(0), int64(0)
	for _, it := range items {
		t := True
		if n.when != nil {
			t = n.when.eval(st, it)
		}
		switch t {
		case True:
			yes++
		case Unknown:
			unknown++
		}
	}
	first := n.count.holds(yes)
	for more := yes + 1; more <= yes+unknown; more++ {
		if n.count.holds(more) != first {
			return Unknown
		}
	}
	return truth(first)
}

func (n *itemsNode) evidence(st *state, _ *itemState, ev *evidence) {
	for _, it := range st.items(n.scope) {
		if n.when == nil {
			ev.add(itemNames[n.scope], "", "")
			return
		}
		if n.when.eval(st, it) == True {
			n.when.evidence(st, it, ev)
			return
		}
	}
}

func (n *itemsNode) why(st *state, _ *itemState, want Truth) reason {
	items := st.items(n.scope)
	if len(items) == 1 && n.when != nil && n.count == nil {
		return n.when.why(st, items[0], want)
	}
	return reason{pos: n.pos, what: itemNames[n.scope] + " [saw " + strconv.Itoa(len(items)) + "]", got: n.eval(st, nil)}
}

func (n *itemsNode) cost() int {
	c := costBody
	if n.scope == ofAttachment {
		c = costParts
	}
	if n.when != nil {
		c = max(c, n.when.cost()) + 1
	}
	return c
}

// networks is a set of networks given in place; there are few.
type networks []netip.Prefix

func (ns networks) contains(a netip.Addr) bool {
	return slices.ContainsFunc(ns, func(p netip.Prefix) bool { return p.Contains(a) })
}
