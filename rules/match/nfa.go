package match

import (
	"encoding/binary"
	"fmt"
	"regexp/syntax"
	"slices"
	"unicode"
)

// A node is an instruction at which a thread can wait: for a character, or for an assertion to hold.
type node struct {
	op    nodeOp
	arg   uint32 // a set of characters, assertions, or the piece that is complete
	piece uint32
	next  uint32 // index of the list of nodes that follow
}

type nodeOp uint8

const (
	opRune nodeOp = iota
	opAssert
	opReport
)

// A program is the nodes of many expressions, its pieces.
type program struct {
	nodes   []node
	lists   [][]uint32 // of nodes
	start   []uint32   // where the pieces begin
	sets    []ranges   // until classes are made of them
	setOf   map[string]uint32
	members []bitset // by set: its classes
	classes *classes
	kinds   []kind          // by class; that after the last is of the end of the text
	merged  [kindCount]kind // see merge
	used    syntax.EmptyOp
	begin   [kindCount][]beginning // by the kind of the character before and the class of the one after
	fresh   []fresh
	none    [kindCount]uint32 // those without threads
	// anchored: nothing can begin after the first character.
	anchored bool
}

// A beginning is what comes of all pieces together that begin at a place before a character.
type beginning struct {
	fresh   uint32   // the threads after the character
	reports []uint32 // pieces that match an empty text
}

// A fresh is the threads that have just begun, with one character behind them. There are few different ones, and each
// holds threads of very many pieces, so states refer to them.
type fresh struct {
	nodes  []uint32
	before kind // of the character
}

// Limits of one piece; a rule file can hold worse.
const (
	maxNodes = 20_000
	maxLists = 1_000_000 // entries of the lists
)

// newProgram compiles pieces.
func newProgram(pieces []*syntax.Regexp) (*program, error) {
	p := &program{setOf: map[string]uint32{}}
	for i, tree := range pieces {
		if err := p.compile(uint32(i), tree); err != nil {
			return nil, err
		}
	}
	sets := p.sets
	p.merged = merge(p.used)
	if p.used != 0 {
		sets = append(slices.Clone(sets), newlineSet, wordSet)
	}
	p.classes, p.members = newClasses(sets)
	if p.classes.count > maxClasses {
		return nil, fmt.Errorf("%d classes of characters, at most %d can be handled", p.classes.count, maxClasses)
	}
	p.kinds = make([]kind, p.classes.count+1)
	for c := range p.kinds {
		k := kindOther
		if p.used != 0 {
			switch {
			case c == p.classes.count:
				k = kindEnd
			case p.members[len(sets)-2].has(c):
				k = kindNewline
			case p.members[len(sets)-1].has(c):
				k = kindWord
			}
		}
		p.kinds[c] = k
	}
	p.prepare()
	return p, nil
}

// compile adds the nodes of a piece.
func (p *program) compile(number uint32, tree *syntax.Regexp) error {
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return err
	}
	if len(prog.Inst) > maxNodes {
		return fmt.Errorf("%d instructions, at most %d can be handled", len(prog.Inst), maxNodes)
	}
	c := pieceCompiler{program: p, prog: prog, piece: number, nodeOf: map[uint32]uint32{}, listOf: map[uint32]uint32{}}
	first, err := c.list(uint32(prog.Start))
	if err != nil {
		return err
	}
	for len(c.todo) > 0 {
		pc := c.todo[0]
		c.todo = c.todo[1:]
		next, err := c.list(prog.Inst[pc].Out)
		if err != nil {
			return err
		}
		p.nodes[c.nodeOf[pc]].next = next
	}
	p.start = append(p.start, p.lists[first]...)
	return nil
}

type pieceCompiler struct {
	*program
	prog    *syntax.Prog
	piece   uint32
	nodeOf  map[uint32]uint32 // by instruction
	listOf  map[uint32]uint32 // by instruction at which the list begins
	todo    []uint32          // instructions whose nodes have no list yet
	entries int
}

// list returns the list of the nodes that can be reached from an instruction without a character or an assertion.
func (c *pieceCompiler) list(from uint32) (uint32, error) {
	if n, ok := c.listOf[from]; ok {
		return n, nil
	}
	var list []uint32
	seen := map[uint32]bool{from: true}
	stack := []uint32{from}
	push := func(pc uint32) {
		if !seen[pc] {
			seen[pc] = true
			stack = append(stack, pc)
		}
	}
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		inst := &c.prog.Inst[pc]
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			push(inst.Arg)
			push(inst.Out)
		case syntax.InstNop, syntax.InstCapture:
			push(inst.Out)
		case syntax.InstFail:
		default:
			list = append(list, c.node(pc, inst))
		}
	}
	if c.entries += len(list); c.entries > maxLists {
		return 0, fmt.Errorf("an expression with more than %d ways through it can't be handled", maxLists)
	}
	slices.Sort(list)
	n := uint32(len(c.lists))
	c.lists = append(c.lists, list)
	c.listOf[from] = n
	return n, nil
}

func (c *pieceCompiler) node(pc uint32, inst *syntax.Inst) uint32 {
	if n, ok := c.nodeOf[pc]; ok {
		return n
	}
	nd := node{piece: c.piece}
	switch inst.Op {
	case syntax.InstMatch:
		nd.op, nd.arg = opReport, c.piece
	case syntax.InstEmptyWidth:
		nd.op, nd.arg = opAssert, inst.Arg
		c.used |= syntax.EmptyOp(inst.Arg)
	default:
		nd.op, nd.arg = opRune, c.set(runesOf(inst))
	}
	n := uint32(len(c.nodes))
	c.nodes = append(c.nodes, nd)
	c.nodeOf[pc] = n
	if nd.op != opReport {
		c.todo = append(c.todo, pc)
	}
	return n
}

// set returns the number of a set of characters.
func (p *program) set(set ranges) uint32 {
	key := make([]byte, 0, 4*len(set))
	for _, r := range set {
		key = binary.LittleEndian.AppendUint32(key, uint32(r))
	}
	n, ok := p.setOf[string(key)]
	if !ok {
		n = uint32(len(p.sets))
		p.sets = append(p.sets, set)
		p.setOf[string(key)] = n
	}
	return n
}

// runesOf returns the characters that an instruction takes.
func runesOf(inst *syntax.Inst) ranges {
	switch inst.Op {
	case syntax.InstRuneAny:
		return ranges{0, unicode.MaxRune}
	case syntax.InstRuneAnyNotNL:
		return ranges{0, '\n' - 1, '\n' + 1, unicode.MaxRune}
	}
	if len(inst.Rune) != 1 {
		return inst.Rune
	}
	r := inst.Rune[0]
	if inst.Op == syntax.InstRune1 || syntax.Flags(inst.Arg)&syntax.FoldCase == 0 {
		return ranges{r, r}
	}
	return orbit(r)
}

// orbit returns a character and all that differ from it in case only.
func orbit(r rune) ranges {
	all := []rune{r}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		all = append(all, f)
	}
	slices.Sort(all)
	var set ranges
	for _, r := range all {
		set = append(set, r, r)
	}
	return set
}

// prepare works out what begins at each place, by the kind of the character before and the class of the one after.
func (p *program) prepare() {
	width := p.classes.count + 1
	known := map[string]uint32{}
	for k := range kindCount {
		p.none[k] = p.addFresh(fresh{before: p.merged[k]}, known)
	}
	for before := range kindCount {
		if p.merged[before] != before {
			continue
		}
		var ready [kindCount][]uint32
		for after := range kindCount {
			ready[after] = p.resolve(p.start, holding[before][after])
		}
		p.begin[before] = make([]beginning, width)
		for class := range width {
			p.begin[before][class] = p.beginAt(ready[p.kinds[class]], class, known)
		}
	}
	p.anchored = true
	for before := range kindCount {
		if p.merged[before] != before {
			p.begin[before] = p.begin[p.merged[before]]
		}
		for _, b := range p.begin[before] {
			begins := len(p.fresh[b.fresh].nodes) > 0 || len(b.reports) > 0
			p.anchored = p.anchored && (before == kindBegin || !begins)
		}
	}
}

// beginAt works out one beginning; known are those that there are already, by their threads.
func (p *program) beginAt(ready []uint32, class int, known map[string]uint32) beginning {
	var b beginning
	var nodes []uint32
	for _, n := range ready {
		nd := &p.nodes[n]
		switch {
		case nd.op == opReport:
			b.reports = append(b.reports, nd.arg)
		case class < p.classes.count && p.members[nd.arg].has(class):
			nodes = append(nodes, p.lists[nd.next]...)
		}
	}
	slices.Sort(b.reports)
	b.reports = slices.Compact(b.reports)
	slices.Sort(nodes)
	b.fresh = p.addFresh(fresh{nodes: slices.Clip(slices.Compact(nodes)), before: p.merged[p.kinds[class]]}, known)
	return b
}

func (p *program) addFresh(f fresh, known map[string]uint32) uint32 {
	key := []byte{byte(f.before)}
	for _, n := range f.nodes {
		key = binary.LittleEndian.AppendUint32(key, n)
	}
	n, ok := known[string(key)]
	if !ok {
		n = uint32(len(p.fresh))
		p.fresh = append(p.fresh, f)
		known[string(key)] = n
	}
	return n
}

// resolve returns the nodes that wait for a character, and the reports, that can be reached where the given assertions hold.
func (p *program) resolve(from []uint32, hold syntax.EmptyOp) []uint32 {
	var ready []uint32
	seen := map[uint32]bool{}
	stack := slices.Clone(from)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[n] {
			continue
		}
		seen[n] = true
		nd := &p.nodes[n]
		if nd.op != opAssert {
			ready = append(ready, n)
		} else if syntax.EmptyOp(nd.arg)&^hold == 0 {
			stack = append(stack, p.lists[nd.next]...)
		}
	}
	slices.Sort(ready)
	return ready
}
