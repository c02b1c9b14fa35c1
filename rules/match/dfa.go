package match

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
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
	bare       []uint32 // by fresh: the row of the state without other threads
}

// A state is the threads that are alive after a character, and what was complete before it.
type state struct {
	fresh   uint32 // those that have just begun
	nodes   string // the others, as the key has them
	reports []uint32
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

// newTable returns a table with the states that have no threads but those that have just begun.
func (a *automaton) newTable(generation uint64) *table {
	rows := len(a.prog.fresh) + 2
	t := &table{
		generation: generation, used: 1, number: map[string]uint32{}, bare: make([]uint32, len(a.prog.fresh)),
		next: make([]uint32, rows*int(a.width)), states: make([]state, rows),
	}
	for f := range a.prog.fresh {
		t, t.bare[f] = a.intern(t, uint32(f), nil, nil)
	}
	t.size = 0 // a limit is for what comes on top of these
	return t
}

// intern returns the row of a state, in the table, or in one that took its place because it had to grow.
func (a *automaton) intern(t *table, fresh uint32, nodes, reports []uint32) (*table, uint32) {
	slices.Sort(nodes)
	slices.Sort(reports)
	key := binary.LittleEndian.AppendUint32(a.build.key[:0], fresh)
	key = binary.LittleEndian.AppendUint32(key, uint32(len(reports)))
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
	t.states[t.used] = state{fresh: fresh, nodes: owned[head:], reports: slices.Clone(reports)}
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

func nodeAt(nodes string, i int) uint32 {
	return uint32(nodes[i]) | uint32(nodes[i+1])<<8 | uint32(nodes[i+2])<<16 | uint32(nodes[i+3])<<24
}

// unpack appends the nodes of a state to list.
func (s *state) unpack(list []uint32) []uint32 {
	for i := 0; i+4 <= len(s.nodes); i += 4 {
		list = append(list, nodeAt(s.nodes, i))
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
	if now.generation != t.generation {
		now, row = a.intern(now, from.fresh, from.unpack(nil), slices.Clone(from.reports))
	}
	now, e := a.enter(now, row, class)
	a.current.Store(now)
	return now, e
}

// enter works out an entry, under the lock. The threads that have just begun go where they go in a state that has no others, so
// that their step, which is the long one, is taken once.
func (a *automaton) enter(t *table, row uint32, class int) (*table, uint32) {
	from := t.states[row/a.width]
	begun := a.prog.fresh[from.fresh]
	begin := a.prog.begin[begun.before][class]
	s := a.build
	if bare := t.bare[from.fresh]; row != bare {
		e := t.next[bare+uint32(class)]
		if e == 0 {
			t, e = a.enter(t, bare, class)
		}
		s.nodes = from.unpack(s.nodes[:0])
		s.step(s.nodes, begun.before, class)
		s.join(&t.states[e&^attention/a.width])
	} else {
		s.step(begun.nodes, begun.before, class)
		s.joinReports(begin.reports)
	}
	t, to := a.intern(t, begin.fresh, s.next, s.reports)
	e := to
	if next := &t.states[to/a.width]; len(next.reports) > 0 || a.dead(next) {
		e |= attention
	}
	atomic.StoreUint32(&t.next[row+uint32(class)], e)
	return t, e
}

// dead reports whether nothing can follow a state.
func (a *automaton) dead(s *state) bool {
	return a.prog.anchored && len(s.nodes) == 0 && len(a.prog.fresh[s.fresh].nodes) == 0
}
