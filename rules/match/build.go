package match

import (
	"regexp/syntax"
)

// Sizes, found by measuring.
const (
	groupNodes = 24000 // of one automaton, about: a larger one would need a larger table
	pieceNodes = 4000  // of one expression that shares an automaton
	looseNodes = 400   // of one that is loose and shares one with others of its kind
	loosePart  = 1500  // of such an automaton
	tableLimit = 24 << 20
	tableLeast = 1 << 20
	tableNode  = 2 << 10 // bytes of a table for each node
)

// limits are those of one set; tests have smaller ones.
type limits struct {
	table     int // bytes of a table; 0: by what is in it
	group     int // see groupNodes
	allowance int // see allowance
}

func (l limits) orDefault() limits {
	if l.group == 0 {
		l = limits{group: groupNodes, allowance: allowance}
	}
	return l
}

// A setBuilder divides patterns into groups and chains.
type setBuilder struct {
	set      *Set
	patterns []pattern
	limits   limits
	tight    pool
	loose    pool
	group    []int // by pattern: of its reports; noGroup, or severalGroups
}

const (
	noGroup       = -1
	severalGroups = -2
	chainGroups   = -3 // and below: each chain is a group of its own
)

// A pool is pieces that are going to share automata.
type pool struct {
	pieces  []*syntax.Regexp
	reports []uint32 // by piece
	sizes   []int    // by piece: nodes, about
	most    int      // nodes of one piece
	share   int      // nodes of one automaton
}

// Build makes the set.
func (b *Builder) Build() *Set {
	words := (len(b.patterns) + 63) / 64
	sb := setBuilder{
		patterns: b.patterns, limits: b.limits.orDefault(), set: &Set{always: make([]uint64, words)}, group: make([]int, len(b.patterns)),
		tight: pool{most: pieceNodes, share: b.limits.orDefault().group}, loose: pool{most: looseNodes, share: loosePart},
	}
	for n, p := range b.patterns {
		sb.group[n] = noGroup
		sb.set.patterns = append(sb.set.patterns, patternInfo{long: p.long})
		for _, way := range p.ways {
			sb.way(n, trim(way))
		}
	}
	sb.divide(&sb.tight)
	sb.divide(&sb.loose)
	for n := range sb.set.patterns {
		// What several groups or chains report need not come in the order of the text.
		sb.set.patterns[n].exact = sb.group[n] != severalGroups
	}
	return sb.set
}

// way adds one way of a pattern.
func (sb *setBuilder) way(n int, way *syntax.Regexp) {
	all := routes(way)
	if all == nil {
		all = []route{{way}}
	}
	for _, r := range all {
		tree := trim(concat(r))
		if rep := (report{pattern: int32(n), chain: -1}); loose(tree) || !sb.piece(&sb.tight, tree, rep) {
			sb.chain(n, r)
		}
	}
}

// piece adds an expression to those that share automata, unless it is too large.
func (sb *setBuilder) piece(p *pool, tree *syntax.Regexp, rep report) bool {
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > p.most {
		return false
	}
	p.pieces = append(p.pieces, tree)
	p.sizes = append(p.sizes, len(prog.Inst))
	p.reports = append(p.reports, uint32(len(sb.set.reports)))
	sb.set.reports = append(sb.set.reports, rep)
	return true
}

// chain adds a way through an expression with its segments. One without segments shares an automaton with others of its
// kind, or has to be tried by itself whenever somebody asks.
func (sb *setBuilder) chain(n int, r route) {
	c, segments := newChain(n, r)
	if len(segments) == 0 && sb.piece(&sb.loose, trim(c.tree), report{pattern: int32(n), chain: -1}) {
		return
	}
	c.expr, c.mark = sb.patterns[n].expr, sb.set.marks
	number := len(sb.set.chains)
	sb.set.marks += len(segments)
	sb.set.chains = append(sb.set.chains, c)
	sb.note(n, chainGroups-number)
	for k, tree := range segments {
		if !sb.piece(&sb.tight, tree, report{pattern: int32(n), chain: int32(number), segment: int32(k)}) {
			segments = nil
			break
		}
	}
	if len(segments) == 0 {
		sb.tryAlways(c)
	}
}

// tryAlways has a chain tried on all of each text. Reports of its segments, if there are any, say nothing then.
func (sb *setBuilder) tryAlways(c *chain) {
	c.within = nil
	sb.set.always[c.pattern/64] |= 1 << (c.pattern % 64)
}

// note says where the reports of a pattern come from.
func (sb *setBuilder) note(n, from int) {
	if g := sb.group[n]; g != noGroup && g != from {
		from = severalGroups
	}
	sb.group[n] = from
}

// divide makes automata of the pieces of a pool.
func (sb *setBuilder) divide(p *pool) {
	size, first := 0, 0
	for i, s := range p.sizes {
		if size+s > p.share && i > first {
			sb.automaton(p, first, i)
			size, first = 0, i
		}
		size += s
	}
	if first < len(p.pieces) {
		sb.automaton(p, first, len(p.pieces))
	}
}

// automaton makes one of the pieces from and up to to, or several if it would be too large.
func (sb *setBuilder) automaton(p *pool, from, to int) {
	prog, err := newProgram(p.pieces[from:to])
	switch {
	case err == nil:
		limit := sb.limits.table
		if limit == 0 {
			limit = min(tableLimit, max(tableLeast, tableNode*len(prog.nodes)))
		}
		for _, number := range p.reports[from:to] {
			if rep := sb.set.reports[number]; rep.chain < 0 {
				sb.note(int(rep.pattern), len(sb.set.groups))
			}
		}
		sb.set.groups = append(sb.set.groups, newAutomaton(prog, p.reports[from:to], limit, sb.limits.allowance))
	case to-from > 1:
		sb.automaton(p, from, (from+to)/2)
		sb.automaton(p, (from+to)/2, to)
	default:
		sb.whole(sb.set.reports[p.reports[from]])
	}
}

// whole has the pattern of a piece that fits in no automaton tried by itself.
func (sb *setBuilder) whole(rep report) {
	if rep.chain < 0 {
		n := int(rep.pattern)
		rep.chain = int32(len(sb.set.chains))
		sb.set.chains = append(sb.set.chains, &chain{pattern: n, tree: sb.patterns[n].tree(), expr: sb.patterns[n].expr})
		sb.note(n, chainGroups-int(rep.chain))
	}
	sb.tryAlways(sb.set.chains[rep.chain])
}
