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
	row := t.bare[a.prog.none[before]]
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
				i, t, row, ok = a.simulate(text, i, to, t, row, out)
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
			if len(s.reports) > 0 && !a.tell(s.reports, i, out) || a.dead(s) {
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

// simulate reads text from i as run does, without adding states for the threads that are alive, until there are none but
// those that have just begun, or the text ends. It returns where that is, and the state there; false if there is no more to do.
func (a *automaton) simulate(text string, i, to int, t *table, row uint32, out listener) (int, *table, uint32, bool) {
	s := a.steppers.Get().(*stepper)
	defer a.steppers.Put(s)
	from := &t.states[row/a.width]
	s.nodes = from.unpack(s.nodes[:0])
	begun := from.fresh
	for i <= to {
		class, size := a.prog.classes.count, 0
		if i < len(text) {
			var r rune
			r, size = utf8.DecodeRuneInString(text[i:])
			class = int(a.prog.classes.of(r))
		}
		if i == to && i < len(text) {
			return i, nil, 0, false
		}
		bare := t.bare[begun]
		e := atomic.LoadUint32(&t.next[bare+uint32(class)])
		if e == 0 {
			t, e = a.follow(t, bare, class)
		}
		s.step(s.nodes, a.prog.fresh[begun].before, class)
		next := &t.states[e&^attention/a.width]
		s.join(next)
		if !a.tell(s.reports, i, out) || i == len(text) {
			return i, nil, 0, false
		}
		s.nodes, s.next = s.next, s.nodes
		begun = next.fresh
		i += size
		if len(s.nodes) == 0 {
			break
		}
	}
	return i, t, t.bare[begun], i < to || i == len(text)
}
