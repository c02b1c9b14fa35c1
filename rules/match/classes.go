package match

import (
	"slices"
	"unicode"
	"unicode/utf8"
)

// Characters are of the same class where no expression of an automaton tells them apart.
//
// ranges are pairs of the first and last characters of a set, as in package regexp/syntax.
type ranges []rune

// classes knows the class of each character.
type classes struct {
	count int
	ascii [256]uint16 // bytes below 0x80 are characters; the others hold notASCII
	// The other characters, in pages of 256, of which the same are kept once.
	page  []uint16
	pages [][256]uint16
}

const notASCII = 1<<16 - 1

// frequent are the characters of which most texts consist, the most frequent first.
const frequent = " etaoinsrhldcumfpgwybvk.,\n-x0123456789jqzTAISE"

// maxClasses bounds the width of a table.
const maxClasses = 1024

func (c *classes) of(r rune) uint32 {
	return uint32(c.pages[c.page[r>>8]][r&0xff])
}

// newClasses divides all characters by the sets, and returns for each set the classes of which it consists.
func newClasses(sets []ranges) (*classes, []bitset) {
	starts := []rune{0, utf8.RuneSelf}
	for _, set := range sets {
		for i := 0; i+1 < len(set); i += 2 {
			starts = append(starts, set[i])
			if set[i+1] < unicode.MaxRune {
				starts = append(starts, set[i+1]+1)
			}
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	// Every set splits the classes that it holds only a part of.
	class := make([]int, len(starts))
	count := 1
	for _, set := range sets {
		split := map[int]int{}
		for i := 0; i+1 < len(set); i += 2 {
			at, _ := slices.BinarySearch(starts, set[i])
			for ; at < len(starts) && starts[at] <= set[i+1]; at++ {
				to, ok := split[class[at]]
				if !ok {
					to = count
					count++
					split[class[at]] = to
				}
				class[at] = to
			}
		}
	}
	// Numbers that are no longer in use are closed up. What is frequent comes first, as neighbours in a row of a table
	// share lines of the processor's cache.
	number := map[int]int{}
	renumber := func(old int) int {
		if _, ok := number[old]; !ok {
			number[old] = len(number)
		}
		return number[old]
	}
	for _, r := range frequent {
		at, found := slices.BinarySearch(starts, r)
		if !found {
			at--
		}
		renumber(class[at])
	}
	for i, old := range class {
		class[i] = renumber(old)
	}
	c := &classes{count: len(number)}
	c.lookup(starts, class)
	members := make([]bitset, len(sets))
	for s, set := range sets {
		members[s] = newBitset(c.count)
		for i := 0; i+1 < len(set); i += 2 {
			at, _ := slices.BinarySearch(starts, set[i])
			for ; at < len(starts) && starts[at] <= set[i+1]; at++ {
				members[s].add(class[at])
			}
		}
	}
	return c, members
}

// lookup fills the tables: class[i] is that of the characters from starts[i] to the next.
func (c *classes) lookup(starts []rune, class []int) {
	c.page = make([]uint16, unicode.MaxRune>>8+1)
	known := map[[256]uint16]uint16{}
	alike := map[int]uint16{} // pages of one class only, by that class
	at := 0
	for p := range c.page {
		first := rune(p << 8)
		for at+1 < len(starts) && starts[at+1] <= first {
			at++
		}
		one := at+1 == len(starts) || starts[at+1] > first+0xff
		if n, ok := alike[class[at]]; one && ok {
			c.page[p] = n
			continue
		}
		var page [256]uint16
		for i := range page {
			for at+1 < len(starts) && starts[at+1] <= first+rune(i) {
				at++
			}
			page[i] = uint16(class[at])
		}
		n, ok := known[page]
		if !ok {
			n = uint16(len(c.pages))
			known[page] = n
			c.pages = append(c.pages, page)
		}
		c.page[p] = n
		if one {
			alike[class[at]] = n
		}
	}
	for b := range c.ascii {
		if c.ascii[b] = notASCII; b < utf8.RuneSelf {
			c.ascii[b] = c.pages[c.page[0]][b]
		}
	}
}

// A bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (b bitset) add(n int) { b[n/64] |= 1 << (n % 64) }

func (b bitset) has(n int) bool { return b[n/64]&(1<<(n%64)) != 0 }
