package rules

import "strconv"

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
