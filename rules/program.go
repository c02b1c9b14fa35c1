package rules

import (
	"cmp"
	"slices"
	"strconv"
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
	details  []string
	score    *int32 // of the list entry with the greatest weight
	scorePos Pos    // where that entry stands
	brief    bool   // only the score is looked for
	steps    int
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
	if ev.brief || len(ev.details) >= maxDetails {
		return
	}
	if value != "" {
		what += ` "` + short(value) + `"`
	}
	if note != "" {
		what += " (" + short(note) + ")"
	}
	if !slices.Contains(ev.details, what) {
		ev.details = append(ev.details, what)
	}
}

func (ev *evidence) addScore(f found) {
	if f.score != nil && (ev.score == nil || abs(*f.score) > abs(*ev.score)) {
		ev.score, ev.scorePos = f.score, f.entry.pos
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
	name  string
	pos   Pos
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
