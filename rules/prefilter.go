package rules

// A prefilter says which of the expressions over a source can match a text at all, by looking for the literals of all of
// them in one pass (Aho and Corasick, "Efficient string matching", 1975). An expression that can't match is not run.
type prefilter struct {
	literals [][]string // by expression
	class    [256]uint8 // bytes that no literal holds are of class 0
	classes  int
	next     []int32 // state*classes + class
	found    [][]int32
}

// add registers an expression and returns its number; -1 for one without literals, which always has to be run.
func (f *prefilter) add(literals []string) int {
	if len(literals) == 0 {
		return -1
	}
	f.literals = append(f.literals, literals)
	return len(f.literals) - 1
}

// build makes the automaton, after the last add.
func (f *prefilter) build() {
	f.classes = 1
	for _, texts := range f.literals {
		for _, t := range texts {
			for i := range len(t) {
				// Folded text in UTF-8 holds fewer than 255 different bytes, so a class fits.
				if f.class[t[i]] == 0 {
					f.class[t[i]] = uint8(f.classes)
					f.classes++
				}
			}
		}
	}
	f.next = make([]int32, f.classes)
	f.found = make([][]int32, 1)
	for id, texts := range f.literals {
		for _, t := range texts {
			f.insert(t, int32(id))
		}
	}
	f.link()
}

func (f *prefilter) insert(text string, id int32) {
	state := int32(0)
	for i := range len(text) {
		at := int(state)*f.classes + int(f.class[text[i]])
		if f.next[at] == 0 {
			f.next[at] = int32(len(f.found))
			f.next = append(f.next, make([]int32, f.classes)...)
			f.found = append(f.found, nil)
		}
		state = f.next[at]
	}
	f.found[state] = append(f.found[state], id)
}

// link turns the tree of literals into an automaton: where the tree has no way on, the state goes where the longest
// suffix that begins a literal would go.
func (f *prefilter) link() {
	fail := make([]int32, len(f.found))
	var queue []int32
	for c := range f.classes {
		if s := f.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		f.found[state] = append(f.found[state], f.found[fail[state]]...)
		for c := range f.classes {
			at := int(state)*f.classes + c
			back := f.next[int(fail[state])*f.classes+c]
			if s := f.next[at]; s != 0 {
				fail[s] = back
				queue = append(queue, s)
			} else {
				f.next[at] = back
			}
		}
	}
}

// scan returns a set of the expressions that can match text, which is folded.
func (f *prefilter) scan(text string) bits {
	seen := make(bits, (len(f.literals)+63)/64)
	state := int32(0)
	for i := range len(text) {
		state = f.next[int(state)*f.classes+int(f.class[text[i]])]
		for _, id := range f.found[state] {
			seen[id/64] |= 1 << (id % 64)
		}
	}
	return seen
}

// bits is a set of small numbers.
type bits []uint64

func (b bits) has(n int) bool { return b[n/64]&(1<<(n%64)) != 0 }
