package rules

import (
	"cmp"
	"math/bits"
	"slices"
)

// A plan says which rules need not be asked about a message at all: those that can't be other than false because nothing of
// what they look for is in the texts. Most rules look for some words, and most messages hold none of them, so what is
// done for each rule is what counts where there are very many.
//
// A condition is reached by a trigger, a pattern over a source, if it is false wherever none of its triggers is found and
// the source is known. That follows from what the condition is: an all has the triggers of one of the conditions in it,
// an any those of each, a not none. A plan looks only into sources that some rule asks for first, whatever the message
// is, so that nothing is decoded which would not be without it.
type plan struct {
	always  ruleSet // rules that nothing reaches: they are asked each time
	every   ruleSet
	watched []watched
}

// watched is a source with triggers.
type watched struct {
	sourceAt
	rules [][]int32 // by pattern of the source's matcher
	all   []int32   // all of them, for where the source is not known
}

// A sourceAt is where a source stands in a set.
type sourceAt struct {
	scope scope
	src   int
}

// A trigger is a pattern of a source's matcher.
type trigger struct {
	at     sourceAt
	number int
}

// maxTriggers bounds those of one condition. One with more is asked each time.
const maxTriggers = 256

// A ruleSet is rules by their index.
type ruleSet []uint64

func newRuleSet(n int) ruleSet { return make(ruleSet, (n+63)/64) }

func (s ruleSet) add(i int32) { s[i/64] |= 1 << (i % 64) }

// each calls fn for the rules of the set in their order.
func (s ruleSet) each(fn func(i int)) {
	for w, word := range s {
		for ; word != 0; word &= word - 1 {
			fn(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// A planner finds the triggers of conditions.
type planner struct {
	set   *Set
	first map[sourceAt]bool // sources that are asked for whatever the message is
	found map[node]reach
}

// A reach is how a condition is reached; not known: it may hold whatever is in the texts.
type reach struct {
	known    bool
	triggers []trigger
}

func newPlan(set *Set) plan {
	p := planner{set: set, first: map[sourceAt]bool{}, found: map[node]reach{}}
	out := plan{always: newRuleSet(len(set.rules)), every: newRuleSet(len(set.rules))}
	for i := range set.rules {
		if when := set.rules[i].when; when != nil {
			p.askedFirst(when)
		}
	}
	byPattern := map[sourceAt]map[int][]int32{}
	for i := range set.rules {
		when := set.rules[i].when
		if when == nil {
			continue
		}
		out.every.add(int32(i))
		r := p.reach(when)
		if !r.known {
			out.always.add(int32(i))
			continue
		}
		for _, t := range r.triggers {
			if byPattern[t.at] == nil {
				byPattern[t.at] = map[int][]int32{}
			}
			byPattern[t.at][t.number] = append(byPattern[t.at][t.number], int32(i))
		}
	}
	for at, numbers := range byPattern {
		w := watched{sourceAt: at, rules: make([][]int32, set.sources[at.scope][at.src].matcher.set.Len())}
		for n, list := range numbers {
			w.rules[n] = list
			w.all = append(w.all, list...)
		}
		slices.Sort(w.all)
		w.all = slices.Compact(w.all)
		out.watched = append(out.watched, w)
	}
	slices.SortFunc(out.watched, func(a, b watched) int { return cmp.Or(cmp.Compare(a.scope, b.scope), cmp.Compare(a.src, b.src)) })
	return out
}

// askedFirst notes the source that a condition asks for before any other. Within a condition on links or attachments that is one of
// theirs only: where there are none, nothing else is asked for.
func (p *planner) askedFirst(n node) {
	ofItems := false
	for n != nil {
		switch at := n.(type) {
		case *allNode:
			n = at.cheap[0]
		case *anyNode:
			n = at.cheap[0]
		case *atLeastNode:
			n = at.cheap[0]
		case *notNode:
			n = at.arg
		case *isNode:
			n = p.set.conds[at.index]
		case *ruleNode:
			n = p.set.rules[at.index].when
		case *itemsNode:
			n, ofItems = at.when, true
		case *leafNode:
			if !ofItems || at.scope != ofMessage {
				p.first[sourceAt{scope: at.scope, src: at.src}] = true
			}
			return
		default:
			return
		}
	}
}

// reach finds the triggers of a condition, once, as conditions that name each other can be asked for without end.
func (p *planner) reach(n node) reach {
	r, ok := p.found[n]
	if !ok {
		if r = p.work(n); len(r.triggers) > maxTriggers {
			r = reach{}
		}
		p.found[n] = r
	}
	return r
}

func (p *planner) work(n node) reach {
	switch n := n.(type) {
	case *allNode:
		return p.fewest(n.cheap, 1)
	case *anyNode:
		return p.fewest(n.cheap, len(n.cheap))
	case *atLeastNode:
		return p.fewest(n.cheap, len(n.cheap)-n.n+1)
	case *isNode:
		return p.reach(p.set.conds[n.index])
	case *ruleNode:
		if when := p.set.rules[n.index].when; when != nil {
			return p.reach(when)
		}
	case *itemsNode:
		if n.when != nil && (n.count == nil || !n.count.holds(0)) {
			return p.reach(n.when)
		}
	case *leafNode:
		return p.leaf(n)
	case *neverNode:
		return reach{known: true}
	}
	return reach{}
}

// fewest joins the triggers of so many conditions of which at least one can't be false, if that is how many there are with triggers.
func (p *planner) fewest(args []node, n int) reach {
	var known []reach
	for _, arg := range args {
		if r := p.reach(arg); r.known {
			known = append(known, r)
		}
	}
	if n < 1 || len(known) < n {
		return reach{}
	}
	slices.SortStableFunc(known, func(a, b reach) int { return cmp.Compare(len(a.triggers), len(b.triggers)) })
	out := reach{known: true}
	for _, r := range known[:n] {
		for _, t := range r.triggers {
			if !slices.Contains(out.triggers, t) {
				out.triggers = append(out.triggers, t)
			}
		}
		if len(out.triggers) > maxTriggers {
			return reach{}
		}
	}
	return out
}

// leaf has the triggers of one of its operators, as all must hold for the same value.
func (p *planner) leaf(n *leafNode) reach {
	at := sourceAt{scope: n.scope, src: n.src}
	if !p.first[at] || n.exists != nil || n.count != nil {
		return reach{}
	}
	for _, pred := range n.preds {
		var numbers []int
		switch pred := pred.(type) {
		case *matchesPred:
			numbers = pred.numbers
		case *wordsPred:
			if pred.matcher == nil {
				continue
			}
			numbers = []int{pred.number}
		default:
			continue
		}
		r := reach{known: true}
		for _, number := range numbers {
			r.triggers = append(r.triggers, trigger{at: at, number: number})
		}
		return r
	}
	return reach{}
}

// toAsk returns the rules that can be other than false.
func (st *state) toAsk() ruleSet {
	p := &st.set.plan
	if st.preset != nil {
		return p.every
	}
	asked := append(st.asked[:0], p.always...)
	st.asked = asked
	for i := range p.watched {
		w := &p.watched[i]
		if st.ctx.Err() != nil {
			return p.every // out of time: they tell so
		}
		if w.scope == ofMessage {
			w.look(st, nil, asked)
			continue
		}
		for _, it := range st.items(w.scope) {
			w.look(st, it, asked)
		}
	}
	return asked
}

// look adds the rules that are reached from what a source holds.
func (w *watched) look(st *state, it *itemState, asked ruleSet) {
	s := st.values(w.scope, w.src, it)
	if s.unknown {
		for _, r := range w.all {
			asked.add(r)
		}
		return
	}
	m := st.set.sources[w.scope][w.src].matcher
	for i := range s.values {
		s.scan(m, i).Possible(func(n int) {
			for _, r := range w.rules[n] {
				asked.add(r)
			}
		})
	}
}
