package rules

import (
	"math"
)

// buildRule builds a rule's condition, once. One that is off is built too, so that its mistakes are found, and dropped.
func (c *compiler) buildRule(i int) {
	r := &c.set.rules[i]
	if r.built {
		return
	}
	r.built = true
	if r.rule.when == nil {
		return
	}
	when := c.build(r.file, r.rule.Mode == Shadow, r.rule.when)
	if r.rule.Mode != Off || r.rule.PerDomain {
		c.set.rules[i].when = when
	}
}

// build makes a node of a condition. shadow says that the symbols of shadow rules are visible.
func (c *compiler) build(f *File, shadow bool, e *expr) node {
	switch e.op {
	case opAll, opAny, opAtLeast:
		var args []node
		for _, a := range e.args {
			args = append(args, c.build(f, shadow, a))
		}
		dear := sumCost(args)
		switch e.op {
		case opAll:
			return &allNode{written: args, cheap: byCost(args), dear: dear}
		case opAny:
			return &anyNode{written: args, cheap: byCost(args), dear: dear}
		}
		return &atLeastNode{n: e.n, written: args, cheap: byCost(args), dear: dear, pos: e.pos}
	case opNot:
		return &notNode{arg: c.build(f, shadow, e.args[0])}
	case opIs:
		return c.buildIs(f, shadow, e)
	case opItems:
		n := &itemsNode{scope: e.items.scope, which: e.items.which, count: e.items.count, pos: e.pos}
		if e.items.when != nil {
			n.when = c.build(f, shadow, e.items.when)
		}
		return n
	}
	if i, ok := c.byID[e.test.src.name]; ok && e.test.src.subject == "symbol" {
		return c.buildSymbol(i, shadow, e)
	}
	return c.buildLeaf(f, e)
}

func (c *compiler) buildIs(f *File, shadow bool, e *expr) node {
	cond, in := c.condition(f, e.name)
	if cond == nil || cond.when == nil {
		return &neverNode{pos: e.pos, what: e.name} // complained about already
	}
	key := condKey{cond: cond, shadow: shadow}
	i, ok := c.conds[key]
	if !ok {
		n := c.build(in, shadow, cond.when)
		i = len(c.set.conds)
		c.conds[key] = i
		c.set.conds = append(c.set.conds, n)
	}
	return &isNode{set: c.set, index: i, dear: c.set.conds[i].cost(), name: e.name, pos: e.pos}
}

// buildSymbol makes a node of another rule's symbol.
func (c *compiler) buildSymbol(i int, shadow bool, e *expr) node {
	c.buildRule(i)
	r, t := &c.set.rules[i], e.test
	var n node
	switch {
	case t.exists == nil || t.src.part != "count":
		c.Addf(e.pos, "%s is a rule, which hits or does not, expected no operator or exists", t.src)
		return &neverNode{pos: e.pos, what: t.src.String()}
	case r.rule.Mode == Off:
		c.warnf(e.pos, "the rule %s is off, so its symbol is never found", r.rule.ID)
		n = &neverNode{pos: e.pos, what: t.src.String() + " [off]"}
	case r.rule.Mode == Shadow && !shadow:
		c.warnf(e.pos, "the rule %s is in shadow mode, so its symbol is never found here: only shadow rules see it", r.rule.ID)
		n = &neverNode{pos: e.pos, what: t.src.String() + " [shadow]"}
	default:
		rn := &ruleNode{set: c.set, index: i, pos: e.pos}
		if r.when != nil {
			rn.dear = r.when.cost()
		}
		n = rn
	}
	if !*t.exists {
		return &notNode{arg: n}
	}
	return n
}

// source returns the index of a source, asked once a message however many conditions ask for it.
func (c *compiler) source(src source) int {
	if i, ok := c.sources[src.scope][src]; ok {
		return i
	}
	plain := -1
	if src.view != asIs {
		under := src
		under.view = asIs
		plain = c.source(under)
	}
	i := len(c.set.sources[src.scope])
	c.sources[src.scope][src] = i
	c.set.sources[src.scope] = append(c.set.sources[src.scope], sourceDef{source: src, plain: plain, matcher: new(matcher)})
	return i
}

// Costs of operators beside that of their source.
const (
	costMatch = 40
	costBoth  = 5
)

func (c *compiler) buildLeaf(f *File, e *expr) node {
	t := e.test
	n := &leafNode{
		scope: t.src.scope, src: c.source(t.src), which: t.which, exists: t.exists, count: t.count, rising: true,
		nonEmpty: t.src.subject != "header", what: describeTest(t), pos: e.pos, dear: t.src.definition().cost,
	}
	if t.count != nil {
		n.rising = t.count.hi == math.MaxInt64
	}
	if t.src.subject == "symbol" {
		return c.buildCount(n, t)
	}
	for i := range t.preds {
		p := &t.preds[i]
		n.preds = append(n.preds, c.predicate(f, t, p))
		n.listed = n.listed || p.op == "in"
		n.dear++
		if p.op == "matches" {
			n.dear += costMatch * n.dear / costBody // together with all others over this source
		}
		if p.other != nil {
			n.dear += costBoth + p.other.definition().cost
		}
	}
	return n
}

// buildCount makes a leaf of a check's symbol, which has a number: that it exists is a count of at least one. What an
// unknown count may still become matters only to conditions that more of it could undo.
func (c *compiler) buildCount(n *leafNode, t *testExpr) node {
	n.exists = nil
	if t.exists != nil {
		n.preds = []predicate{&numberPred{span: span{lo: 1, hi: math.MaxInt64}}}
		if !*t.exists {
			return &notNode{arg: n}
		}
		return n
	}
	for i := range t.preds {
		n.preds = append(n.preds, &numberPred{span: t.preds[i].span})
		n.rising = n.rising && t.src.part == "count" && t.preds[i].span.hi == math.MaxInt64
	}
	return n
}

func (c *compiler) predicate(f *File, t *testExpr, p *predExpr) predicate {
	switch p.op {
	case "matches":
		if t.src.subject == "body" {
			c.set.overBodies = append(c.set.overBodies, p.patterns...)
		}
		return newMatches(c.matcher(t.src), p.patterns)
	case "in":
		return &inPred{index: c.index(f, t, p.list), exact: t.exact}
	case "in_net":
		return &netPred{nets: p.nets}
	case "length":
		return &lengthPred{span: p.span}
	case "same_as":
		return &samePred{scope: p.other.scope, src: c.source(*p.other), exact: t.exact}
	case "holds":
		return &samePred{scope: p.other.scope, src: c.source(*p.other), exact: t.exact, within: true}
	}
	if test := wordTests[p.op]; test != nil && !t.src.kind.numeric() {
		w := &wordsPred{words: p.strings, exact: t.exact, op: p.op, test: test}
		if manyOrLong(t.src, p.op, p.strings) {
			w.matcher = c.matcher(t.src)
			w.number = w.matcher.words(p.strings, places[p.op], t.exact)
		}
		return w
	}
	return &numberPred{span: p.span, clock: t.src.kind == clock}
}

// describeTest names a test for explanations: `header Reply-To domain in freemail`.
func describeTest(t *testExpr) string {
	s := t.src.String()
	if t.which != whichAny {
		s += " " + t.which.String()
	}
	switch {
	case t.exists != nil && *t.exists:
		return s + " exists"
	case t.exists != nil:
		return s + " is absent"
	case t.count != nil:
		return s + " count " + t.count.String()
	}
	for i, p := range t.preds {
		if i > 0 {
			s += " and"
		}
		arg := p.arg
		if p.list != nil {
			if arg = p.list.name; arg == "" {
				arg = "its list"
			}
		}
		s += " " + p.op + " " + arg
	}
	return s
}
