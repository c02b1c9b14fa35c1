package match

import (
	"regexp"
	"regexp/syntax"
	"sync"
)

// A chain is one way through an expression that is not in the automaton of all. Its segments are; where they were seen
// one after the other and near enough, the whole is tried on the text around them.
type chain struct {
	pattern int
	mark    int   // number of its first segment among all
	within  []int // by segment: bytes at most between what is reported of the one before and of it
	before  int   // bytes of the text to be looked at before the report of the last segment
	after   int   // and after it
	tree    *syntax.Regexp
	expr    string // of the pattern
	once    sync.Once
	whole   *automaton     // of the tree, made when it is needed first
	slow    *regexp.Regexp // of the pattern, where the tree is too large
}

// wholeLimit is how large the table of one chain may grow.
const wholeLimit = 256 << 10

// prepare makes what finds the whole way.
func (c *chain) prepare() {
	prog, err := newProgram([]*syntax.Regexp{trim(c.tree)})
	if err != nil {
		expr := c.expr
		if expr == "" {
			expr = c.tree.String()
		}
		c.slow = regexp.MustCompile(expr)
		return
	}
	c.whole = newAutomaton(prog, []uint32{0}, wholeLimit, allowance)
}

// A part is a stretch of a route: a segment, or what is between two.
type part struct {
	tree    *syntax.Regexp
	segment bool
}

// newChain divides a route. It returns the segments to be looked for; none where the way through has none that would be telling.
func newChain(pattern int, r route) (*chain, []*syntax.Regexp) {
	c := &chain{pattern: pattern, tree: concat(r)}
	var segments []*syntax.Regexp
	between, before := 0, 0 // bytes since the end of the last segment, and since the beginning
	last := 0               // bytes of the last segment
	for _, p := range divide(r) {
		n := bytes(longest(p.tree))
		before = joined(before, n)
		if !p.segment {
			between = joined(between, n)
			continue
		}
		c.within = append(c.within, joined(last, joined(between, n)))
		segments = append(segments, trim(p.tree))
		c.before = before
		last, between = n, 0
	}
	c.after = joined(last, between)
	if len(segments) > 0 {
		return c, segments
	}
	c.before, c.after = unbounded, unbounded
	if lit := literals(c.tree); lit != nil {
		c.within = []int{unbounded}
		return c, []*syntax.Regexp{anyOf(lit)}
	}
	return c, nil
}

// divide joins the parts of a route that are not loose to segments, as far as these are telling.
func divide(r route) []part {
	var parts []part
	var run []*syntax.Regexp
	flush := func() {
		if len(run) > 0 {
			tree := concat(run)
			parts = append(parts, part{tree: tree, segment: shortest(tree) > 0 && telling(trim(tree)) >= enough})
			run = nil
		}
	}
	for _, re := range r {
		if !loose(re) {
			run = append(run, re)
			continue
		}
		flush()
		parts = append(parts, part{tree: re})
	}
	flush()
	return parts
}

// A window is a part of the text that a chain has to be tried on.
type window struct {
	chain    int32
	from, to int
}

// maxWindows bounds the windows of one chain in one text; what comes after is looked at in one piece.
const maxWindows = 8

// settle tries the chains of a pattern on their windows.
func (r *Scan) settle(n int) bool {
	word, bit := n/64, uint64(1)<<(n%64)
	if r.set.always[word]&bit != 0 {
		for i := range r.set.chains {
			if c := r.set.chains[i]; c.pattern == n && len(c.within) == 0 && r.try(c, 0, len(r.text)) {
				return true
			}
		}
	}
	for _, w := range r.windows {
		if c := r.set.chains[w.chain]; c.pattern == n && r.try(c, w.from, w.to) {
			return true
		}
	}
	return false
}

// try reports whether a chain matches within a window.
func (r *Scan) try(c *chain, from, to int) bool {
	c.once.Do(c.prepare)
	if c.slow != nil {
		return c.slow.MatchString(r.text)
	}
	f := first{end: -1}
	c.whole.run(r.text, from, to, kindBefore(r.text, from), &f)
	if f.end < 0 {
		return false
	}
	r.hits = append(r.hits, hit{pattern: c.pattern, end: f.end})
	return true
}

// first is a listener that is content with one report.
type first struct{ end int }

func (f *first) complete(_ uint32, end int) bool {
	f.end = end
	return false
}
