package match

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"unicode/utf8"
)

// An automaton answers for the pieces of one program. Its table grows as texts lead to new states, up to a limit.
type automaton struct {
	prog     *program
	width    uint32 // entries of a row: one for each class, and one for the end of the text
	limit    int    // bytes of a table
	entries  int    // see allowance
	reports  []uint32
	current  atomic.Pointer[table]
	mu       sync.Mutex // held by who adds to the table
	build    *stepper   // under mu
	steppers sync.Pool
}

// A table is the states that were built so far. Entries go from unknown to known and stay; who reads takes no lock. When a
// table has to grow, its copy takes its place: readers of the old one miss there what was added since, and look again.
type table struct {
	generation uint64
	next       []uint32 // by row and class: the row of the next state, marked if it needs attention; 0: unknown
	states     []state  // by row/width; the first is none
	used       int
	size       int // bytes
	number     map[string]uint32
	empty      [kindCount]uint32 // rows of the states without threads
}

// A state is the threads that are alive after a character, and what was complete before it.
type state struct {
	nodes   string // as the key has them
	reports []uint32
	before  kind // of the character
}

// attention marks an entry: the next state has reports, or nothing can follow it.
const attention = 1 << 31

// newAutomaton compiles pieces. What is complete is reported by the numbers in reports.
func newAutomaton(prog *program, reports []uint32, limit, entries int) *automaton {
	a := &automaton{prog: prog, width: uint32(prog.classes.count + 1), limit: limit, entries: entries, reports: reports, build: newStepper(prog)}
	a.steppers.New = func() any { return newStepper(prog) }
	a.current.Store(a.newTable(1))
	return a
}

const firstRows = 16

func (a *automaton) newTable(generation uint64) *table {
	t := &table{
		generation: generation, used: 1, number: map[string]uint32{},
		next: make([]uint32, firstRows*a.width), states: make([]state, firstRows),
	}
	t.size = 4 * len(t.next)
	for k := range kindCount {
		t, t.empty[k] = a.intern(t, nil, nil, a.prog.merged[k])
	}
	return t
}

// intern returns the row of a state, in the table, or in one that took its place because it had to grow.
func (a *automaton) intern(t *table, nodes, reports []uint32, before kind) (*table, uint32) {
	key := a.build.key[:0]
	slices.Sort(nodes)
	slices.Sort(reports)
	key = append(key, byte(before))
	key = binary.AppendUvarint(key, uint64(len(reports)))
	for _, n := range reports {
		key = binary.LittleEndian.AppendUint32(key, n)
	}
	head := len(key)
	for _, n := range nodes {
		key = binary.LittleEndian.AppendUint32(key, n)
	}
	a.build.key = key
	if row, ok := t.number[string(key)]; ok {
		return t, row
	}
	if t.used == len(t.states) {
		t = t.grown()
	}
	row := uint32(t.used) * a.width
	owned := string(key)
	t.number[owned] = row
	t.states[t.used] = state{nodes: owned[head:], reports: slices.Clone(reports), before: before}
	t.used++
	t.size += 4*int(a.width) + len(owned) + 4*len(reports) + 120
	return t, row
}

// grown returns a table with twice the room.
func (t *table) grown() *table {
	g := *t
	g.next = make([]uint32, 2*len(t.next))
	copy(g.next, t.next)
	g.states = make([]state, 2*len(t.states))
	copy(g.states, t.states)
	return &g
}

// unpack appends the nodes of a state to list.
func (s *state) unpack(list []uint32) []uint32 {
	for i := 0; i+4 <= len(s.nodes); i += 4 {
		list = append(list, uint32(s.nodes[i])|uint32(s.nodes[i+1])<<8|uint32(s.nodes[i+2])<<16|uint32(s.nodes[i+3])<<24)
	}
	return list
}

// follow works out the entry for a row and class that is unknown in t, writes it down, and returns it with the table
// in which it stands.
func (a *automaton) follow(t *table, row uint32, class int) (*table, uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := t.states[row/a.width]
	now := a.current.Load()
	if now.generation == t.generation {
		if e := now.next[row+uint32(class)]; e != 0 {
			return now, e
		}
	}
	if now.size > a.limit {
		now = a.newTable(now.generation + 1)
	}
	nodes := from.unpack(nil)
	if now.generation != t.generation {
		now, row = a.intern(now, nodes, slices.Clone(from.reports), from.before)
	}
	a.build.step(nodes, from.before, class)
	grown, to := a.intern(now, a.build.next, a.build.reports, a.prog.merged[a.prog.kinds[class]])
	e := to
	if next := &grown.states[to/a.width]; len(next.reports) > 0 || a.prog.anchored && len(next.nodes) == 0 {
		e |= attention
	}
	atomic.StoreUint32(&grown.next[row+uint32(class)], e)
	a.current.Store(grown)
	return grown, e
}

// A listener hears what is complete, and where that ends.
type listener interface {
	// complete returns false to stop the run.
	complete(report uint32, end int) bool
}

// allowance is how many entries one run may add, beside one for so many bytes of text. What a text needs beyond that is
// found by simulation, as most of it will never be needed again.
const (
	allowance     = 128
	allowancePart = 32
)

// run reads text[from:to], where before is the kind of the character before. If that is the end of the text, what ends there is
// reported too.
func (a *automaton) run(text string, from, to int, before kind, out listener) {
	t := a.current.Load()
	row := t.empty[before]
	left := a.entries + (to-from)/allowancePart
	ascii := &a.prog.classes.ascii
	for i := from; i < to; {
		class, size := uint32(ascii[text[i]]), 1
		if class == notASCII {
			var r rune
			r, size = utf8.DecodeRuneInString(text[i:])
			class = a.prog.classes.of(r)
		}
		e := atomic.LoadUint32(&t.next[row+class])
		if e == 0 {
			if left == 0 {
				var ok bool
				i, t, row, ok = a.simulate(text, i, to, &t.states[row/a.width], out)
				if !ok {
					return
				}
				continue
			}
			left--
			t, e = a.follow(t, row, int(class))
		}
		row = e
		if e&attention != 0 {
			row = e &^ attention
			s := &t.states[row/a.width]
			if len(s.reports) > 0 && !a.tell(s.reports, i, out) || a.prog.anchored && len(s.nodes) == 0 {
				return
			}
		}
		i += size
	}
	if to < len(text) {
		return
	}
	end := a.prog.classes.count
	e := atomic.LoadUint32(&t.next[row+uint32(end)])
	if e == 0 {
		t, e = a.follow(t, row, end)
	}
	a.tell(t.states[e&^attention/a.width].reports, to, out)
}

// tell passes on reports, by their numbers.
func (a *automaton) tell(pieces []uint32, end int, out listener) bool {
	for _, n := range pieces {
		if !out.complete(a.reports[n], end) {
			return false
		}
	}
	return true
}

// simulate reads text from i as run does, without a table, until no thread is alive or the text ends. It returns where that is, and
// the state there.
func (a *automaton) simulate(text string, i, to int, from *state, out listener) (int, *table, uint32, bool) {
	s := a.steppers.Get().(*stepper)
	defer a.steppers.Put(s)
	nodes, before := from.unpack(s.nodes[:0]), from.before
	for i < to {
		r, size := utf8.DecodeRuneInString(text[i:])
		class := int(a.prog.classes.of(r))
		s.step(nodes, before, class)
		if !a.tell(s.reports, i, out) {
			return i, nil, 0, false
		}
		nodes, s.next = s.next, nodes
		before = a.prog.merged[a.prog.kinds[class]]
		i += size
		if len(nodes) == 0 {
			break
		}
	}
	s.nodes = nodes
	if len(nodes) > 0 && i == len(text) {
		s.step(nodes, before, a.prog.classes.count)
		if !a.tell(s.reports, i, out) {
			return i, nil, 0, false
		}
		return i, nil, 0, false
	}
	t := a.current.Load()
	return i, t, t.empty[before], true
}
