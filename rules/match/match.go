// Package match says of many regular expressions at once which of them match a text.
//
// Go's regexp answers for one expression at a time and looks at each character of the text again for each of them, so
// a thousand rules cost a thousand times what one costs. Here all expressions are one automaton, and the text is read
// once, however many there are.
//
// # How it works
//
// An expression is a program for a machine with threads (package regexp/syntax compiles it): a thread stands at an
// instruction and, given the next character, dies or goes on to others. The set of threads that are alive is all that
// one has to know at any place of the text. So for each set that comes up, and for each class of characters that no
// expression tells apart, the set that follows is worked out once and written down in a table: a deterministic
// automaton, built lazily, of which only the part exists that real texts lead to (Cox, "Regular Expression Matching in
// the Wild", 2010). The assertions \b, ^ and $ depend on the characters on both sides of a place: a state therefore
// knows of what kind the previous character was, and they are decided when the next one comes. That a match can begin
// anywhere is not part of a state: what all expressions do at their first character is worked out beforehand for each
// class, and joined to what follows from the state.
//
// The table is bounded. When it is full it is thrown away and begun anew, and a text that would have to build too much
// of it is read by simulating the threads instead; that takes longer, and no more than a fixed time for each character.
//
// # What is not in the automaton
//
// An expression like invoice.{0,80}password stays alive for eighty characters after each "invoice", in a different state at each of them, and
// in combination with all others that do the same: the table would never be complete. Such an expression is taken apart at its wide gaps.
// What stands between them ("invoice", "password") goes into the automaton; only where these were seen in their order,
// and near enough to each other, the whole expression is put to the part of the text around them, by an automaton of its
// own, and only when somebody asks.
//
// # What it promises
//
// The answer for an expression is the one that regexp.MatchString gives, on any text, valid UTF-8 or not; the time is linear in the text
// whatever the text is. Tables are shared by all that use a Set: reading them takes no lock.
package match

import (
	"math/bits"
	"regexp"
	"regexp/syntax"
)

// A Builder collects what is to be matched.
type Builder struct {
	patterns []pattern
	limits   limits
}

// A pattern is what one number stands for: it matches where one of its ways does.
type pattern struct {
	expr string           // "" for words
	ways []*syntax.Regexp // without captures
	long int              // bytes of a match at most; unbounded where there is no bound
}

// tree is all ways in one.
func (p *pattern) tree() *syntax.Regexp {
	if len(p.ways) == 1 {
		return p.ways[0]
	}
	return &syntax.Regexp{Op: syntax.OpAlternate, Sub: p.ways}
}

// Regexp adds an expression as [regexp.Compile] reads it, and returns its number.
func (b *Builder) Regexp(expr string) (int, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return b.add(expr, plain(tree)), nil
}

func (b *Builder) add(expr string, ways ...*syntax.Regexp) int {
	p := pattern{expr: expr, ways: ways}
	for _, w := range ways {
		p.long = longer(p.long, bytes(longest(w)))
	}
	b.patterns = append(b.patterns, p)
	return len(b.patterns) - 1
}

// A Set is patterns ready to be matched. Any number of goroutines may use it.
type Set struct {
	patterns []patternInfo
	groups   []*automaton
	reports  []report // what the reports of the groups mean
	chains   []*chain
	marks    int      // segments of all chains
	always   []uint64 // patterns that have to be asked of each text
}

type patternInfo struct {
	long  int
	exact bool // the first report of it in a text is where its first match ends
}

// A report is what reaching the end of a piece means: that a pattern matches, or that a segment of a chain was seen.
type report struct {
	pattern int32
	chain   int32 // -1: the pattern matches
	segment int32
}

// Len returns how many patterns there are.
func (s *Set) Len() int { return len(s.patterns) }

// A Scan is what a Set found in a text. It is for one goroutine at a time.
type Scan struct {
	set     *Set
	text    string
	yes     []uint64 // patterns that match
	open    []uint64 // patterns that match if their chains do
	hits    []hit
	windows []window
}

// A hit is the place at which the first match of a pattern was complete.
type hit struct{ pattern, end int }

// Scan reads a text.
func (s *Set) Scan(text string) *Scan {
	r := new(Scan)
	s.ScanInto(r, text)
	return r
}

// ScanInto is Scan with memory that was used before, or with that of a zero Scan.
func (s *Set) ScanInto(r *Scan, text string) {
	words := (len(s.patterns) + 63) / 64
	if cap(r.yes) < words {
		both := make([]uint64, 2*words)
		r.yes, r.open = both[:words:words], both[words:]
	} else {
		r.yes, r.open = r.yes[:words], r.open[:words]
		clear(r.yes)
	}
	r.set, r.text, r.hits, r.windows = s, text, r.hits[:0], r.windows[:0]
	copy(r.open, s.always)
	if len(s.groups) == 0 {
		return
	}
	o := observers.Get().(*observer)
	o.begin(r)
	groups := s.groups
	for ; len(groups) > 1; groups = groups[2:] {
		runPair(groups[0], groups[1], text, o)
	}
	for _, a := range groups {
		a.run(text, 0, len(text), kindBegin, o)
	}
	o.end()
}

// Forget lets go of the text, and of memory beyond what most texts need. What is left is for ScanInto.
func (r *Scan) Forget() {
	*r = Scan{yes: r.yes, open: r.open, hits: r.hits, windows: r.windows}
	if cap(r.hits)+cap(r.windows) > keptHits {
		r.hits, r.windows = nil, nil
	}
}

const keptHits = 1_000

// Matched reports whether a pattern matches the text.
func (r *Scan) Matched(n int) bool {
	word, bit := n/64, uint64(1)<<(n%64)
	if r.yes[word]&bit != 0 {
		return true
	}
	if r.open[word]&bit == 0 {
		return false
	}
	r.open[word] &^= bit
	if !r.settle(n) {
		return false
	}
	r.yes[word] |= bit
	return true
}

// Possible calls fn for each pattern that matches, and for those of which only Matched can tell; all others don't match.
func (r *Scan) Possible(fn func(n int)) {
	for w, yes := range r.yes {
		for word := yes | r.open[w]; word != 0; word &= word - 1 {
			fn(w*64 + bits.TrailingZeros64(word))
		}
	}
}

// Find returns where the first match of a pattern is, as the FindStringIndex of re does, which is the same expression.
// Where it is known how far back that can begin, re does not read the text before.
func (r *Scan) Find(n int, re *regexp.Regexp) []int {
	if !r.Matched(n) {
		return nil
	}
	info := r.set.patterns[n]
	if info.exact && info.long != unbounded {
		for _, h := range r.hits {
			if h.pattern == n {
				return r.findFrom(h.end-info.long, re)
			}
		}
	}
	return re.FindStringIndex(r.text)
}

// findFrom looks for the first match, which begins at or after from. The character before is left in, so that
// what depends on it comes out as in the whole text; a match that begins with it is an artefact.
func (r *Scan) findFrom(from int, re *regexp.Regexp) []int {
	if from > 0 {
		from = runeStart(r.text, from-1)
	}
	if from > 0 {
		if loc := re.FindStringIndex(r.text[from:]); loc != nil && loc[0] > 0 {
			return []int{loc[0] + from, loc[1] + from}
		}
	}
	return re.FindStringIndex(r.text)
}
