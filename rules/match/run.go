package match

import (
	"sync/atomic"
	"unicode/utf8"
)

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

// A reader is an automaton on its way through a text.
type reader struct {
	a    *automaton
	t    *table
	row  uint32
	left int // entries that it may still add
}

// reader begins where the character before is of a kind, with so many octets to be read.
func (a *automaton) reader(before kind, size int) reader {
	t := a.current.Load()
	return reader{a: a, t: t, row: t.bare[a.prog.none[before]], left: a.entries + size/allowancePart}
}

// run reads text[from:to], where before is the kind of the character before. If that is the end of the text, what ends there is
// reported too.
func (a *automaton) run(text string, from, to int, before kind, out listener) {
	r := a.reader(before, to-from)
	r.read(text, from, to, out)
}

// runPair reads a whole text with two automata. What a character costs is the wait for the entry of the table, which can't be looked up
// before that of the character before is there; side by side, both wait at once. Where both have something to tell of one place,
// x does so first.
func runPair(x, y *automaton, text string, out listener) {
	rx, ry := x.reader(kindBegin, len(text)), y.reader(kindBegin, len(text))
	i := 0
	for {
		i = readQuiet(&rx, &ry, text, i)
		if i == len(text) || rx.left == 0 || ry.left == 0 {
			rx.read(text, i, len(text), out)
			ry.read(text, i, len(text), out)
			return
		}
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		goOnX, goOnY := rx.step(r, i, out), ry.step(r, i, out)
		i += size
		if goOnX && goOnY {
			continue
		}
		if goOnX {
			rx.read(text, i, len(text), out)
		}
		if goOnY {
			ry.read(text, i, len(text), out)
		}
		return
	}
}

// readQuiet reads ASCII with two automata as far as the entries of both are known and need no attention. It returns where that is.
func readQuiet(x, y *reader, text string, i int) int {
	nextX, asciiX, rowX := x.t.next, &x.a.prog.classes.ascii, x.row
	nextY, asciiY, rowY := y.t.next, &y.a.prog.classes.ascii, y.row
	for ; i < len(text); i++ {
		c := text[i]
		if c >= utf8.RuneSelf {
			break
		}
		eX := atomic.LoadUint32(&nextX[rowX+uint32(asciiX[c])])
		eY := atomic.LoadUint32(&nextY[rowY+uint32(asciiY[c])])
		if eX-1 >= attention-1 || eY-1 >= attention-1 { // unknown, which is 0, or marked
			break
		}
		rowX, rowY = eX, eY
	}
	x.row, y.row = rowX, rowY
	return i
}

// step reads one character, and reports whether there is more to do. It needs something left.
func (r *reader) step(c rune, i int, out listener) bool {
	class := uint32(0)
	if c < utf8.RuneSelf {
		class = uint32(r.a.prog.classes.ascii[c])
	} else {
		class = r.a.prog.classes.of(c)
	}
	e := atomic.LoadUint32(&r.t.next[r.row+class])
	if e == 0 {
		r.left--
		r.t, e = r.a.follow(r.t, r.row, int(class))
	}
	r.row = e &^ attention
	return e&attention == 0 || r.attend(i, out)
}

// attend tells what is complete before the character at i, and reports whether there is more to do.
func (r *reader) attend(i int, out listener) bool {
	s := &r.t.states[r.row/r.a.width]
	return (len(s.reports) == 0 || r.a.tell(s.reports, i, out)) && !r.a.dead(s)
}

// read reads text[from:to], and what ends there if that is the end of the text.
func (r *reader) read(text string, from, to int, out listener) {
	a, t, row := r.a, r.t, r.row
	ascii := &a.prog.classes.ascii
	for i := from; i < to; {
		class, size := uint32(ascii[text[i]]), 1
		if class == notASCII {
			var c rune
			c, size = utf8.DecodeRuneInString(text[i:])
			class = a.prog.classes.of(c)
		}
		e := atomic.LoadUint32(&t.next[row+class])
		if e == 0 {
			if r.left == 0 {
				var ok bool
				i, t, row, ok = a.simulate(text, i, to, t, row, out)
				if !ok {
					return
				}
				continue
			}
			r.left--
			t, e = a.follow(t, row, int(class))
		}
		row = e
		if e&attention != 0 {
			row = e &^ attention
			if r.t, r.row = t, row; !r.attend(i, out) {
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

// simulate reads text from i as a reader does, without adding states for the threads that are alive, until there are none but
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
