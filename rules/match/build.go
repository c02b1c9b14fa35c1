package match

import (
	"regexp/syntax"
)

// Sizes, found by measuring.
const (
	groupNodes = 8000 // of one automaton, about: a larger one would need a larger table
	pieceNodes = 4000 // of one expression that shares an automaton
	tableLimit = 16 << 20
	tableLeast = 256 << 10
	tableNode  = 4 << 10 // bytes of a table for each node
)

// A setBuilder divides patterns into groups and chains.
type setBuilder struct {
	set      *Set
	patterns []pattern
	pieces   []*syntax.Regexp
	reports  []uint32 // by piece
	sizes    []int    // by piece: nodes, about
	group    []int    // by pattern: of its reports; -1: none, -2: of several
}

// Build makes the set.
func (b *Builder) Build() *Set {
	words := (len(b.patterns) + 63) / 64
	sb := setBuilder{patterns: b.patterns, set: &Set{always: make([]uint64, words)}, group: make([]int, len(b.patterns))}
	for n, p := range b.patterns {
		sb.group[n] = -1
		sb.set.patterns = append(sb.set.patterns, patternInfo{long: p.long})
		for _, way := range p.ways {
			sb.way(n, way)
		}
	}
	sb.divide()
	for n := range sb.set.patterns {
		// What several groups or chains report need not come in the order of the text.
		sb.set.patterns[n].exact = sb.group[n] != -2
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
		if !looseRoute(r) {
			if tree := trim(concat(r)); sb.piece(tree, report{pattern: int32(n), chain: -1}) {
				continue
			}
		}
		sb.chain(n, r)
	}
}

func looseRoute(r route) bool {
	for _, re := range r {
		if loose(re) {
			return true
		}
	}
	return false
}

// piece adds an expression to those that share automata, unless it is too large.
func (sb *setBuilder) piece(tree *syntax.Regexp, rep report) bool {
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > pieceNodes {
		return false
	}
	sb.pieces = append(sb.pieces, tree)
	sb.sizes = append(sb.sizes, len(prog.Inst))
	sb.reports = append(sb.reports, uint32(len(sb.set.reports)))
	sb.set.reports = append(sb.set.reports, rep)
	return true
}

// chain adds a way through an expression with its segments.
func (sb *setBuilder) chain(n int, r route) {
	c, segments := newChain(n, r)
	c.expr = sb.patterns[n].expr
	number := int32(len(sb.set.chains))
	c.mark = sb.set.marks
	for k, tree := range segments {
		if !sb.piece(tree, report{pattern: int32(n), chain: number, segment: int32(k)}) {
			// Too large: what was added of this chain stays without effect, as its last segment is never reported.
			c.within, segments = nil, nil
			c.before, c.after = unbounded, unbounded
			break
		}
	}
	if len(segments) == 0 {
		sb.set.always[n/64] |= 1 << (n % 64)
	}
	sb.set.marks += max(1, len(segments))
	sb.set.chains = append(sb.set.chains, c)
	sb.note(n, -3-int(number))
}

// note says where the reports of a pattern come from.
func (sb *setBuilder) note(n, from int) {
	if g := sb.group[n]; g != -1 && g != from {
		from = -2
	}
	sb.group[n] = from
}

// divide makes automata of the pieces.
func (sb *setBuilder) divide() {
	size, first := 0, 0
	for i, s := range sb.sizes {
		if size+s > groupNodes && i > first {
			sb.automaton(first, i)
			size, first = 0, i
		}
		size += s
	}
	if first < len(sb.pieces) {
		sb.automaton(first, len(sb.pieces))
	}
}

// automaton makes one of the pieces from and up to to, or several if it would be too large.
func (sb *setBuilder) automaton(from, to int) {
	prog, err := newProgram(sb.pieces[from:to])
	switch {
	case err == nil:
		limit := min(tableLimit, max(tableLeast, tableNode*len(prog.nodes)))
		for _, number := range sb.reports[from:to] {
			if rep := sb.set.reports[number]; rep.chain < 0 {
				sb.note(int(rep.pattern), len(sb.set.groups))
			}
		}
		sb.set.groups = append(sb.set.groups, newAutomaton(prog, sb.reports[from:to], limit))
	case to-from > 1:
		sb.automaton(from, (from+to)/2)
		sb.automaton((from+to)/2, to)
	default:
		sb.whole(sb.set.reports[sb.reports[from]])
	}
}

// whole has a piece that can't be in an automaton looked for by what its pattern falls back on, in each text.
func (sb *setBuilder) whole(rep report) {
	n := int(rep.pattern)
	if rep.chain < 0 {
		rep.chain = int32(len(sb.set.chains))
		sb.set.chains = append(sb.set.chains, &chain{pattern: n, mark: sb.set.marks, tree: sb.patterns[n].tree(), expr: sb.patterns[n].expr})
		sb.set.marks++
		sb.note(n, -3-int(rep.chain))
	}
	c := sb.set.chains[rep.chain]
	c.within, c.before, c.after = nil, unbounded, unbounded
	sb.set.always[n/64] |= 1 << (n % 64)
}
