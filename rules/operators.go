package rules

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A predicate is an operator with its argument, asked about value i of a set.
type predicate interface {
	match(st *state, it *itemState, s *valueSet, i int) Truth
	// find says what in the value made a true predicate true.
	find(st *state, s *valueSet, i int) found
}

// found is what an operator found in a value: the piece of text, and what a list's entry says about it.
type found struct {
	text     string
	from, to int // where it stands in the value; both zero where that is not known
	score    *int32
	note     string
	entry    *Entry // of a list
}

// inPred looks a value up in a list, by its number in the table of lists of the moment.
type inPred struct {
	index int
	exact bool
}

func (p *inPred) match(st *state, _ *itemState, s *valueSet, i int) Truth {
	return truth(st.tables.indexes[p.index].find(s.value(i, p.exact)) != nil)
}

func (p *inPred) find(st *state, s *valueSet, i int) found {
	if e := st.tables.indexes[p.index].find(s.value(i, p.exact)); e != nil {
		return found{score: e.Score, note: e.Note, entry: e}
	}
	return found{}
}

type netPred struct{ nets networks }

func (p *netPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	a, err := netip.ParseAddr(s.values[i])
	return truth(err == nil && p.nets.contains(a.Unmap().WithZone("")))
}

func (p *netPred) find(*state, *valueSet, int) found { return found{} }

// samePred compares with the values of another source: one equal to any of them will do, or, for `holds`, one in which any of them
// stands. Empty texts are equal to none.
type samePred struct {
	scope  scope
	src    int
	exact  bool
	within bool
}

// What stands in a text is looked for by its first values only, so that the cost is bounded, and not where it is so short that it stands
// in many texts by chance.
const (
	maxHeld = 8
	minHeld = 4
)

func (p *samePred) match(st *state, it *itemState, s *valueSet, i int) Truth {
	v := s.value(i, p.exact)
	other := st.values(p.scope, p.src, it)
	if v != "" {
		for j := range other.values {
			w := other.value(j, p.exact)
			if !p.within && w == v || p.within && j < maxHeld && len(w) >= minHeld && strings.Contains(v, w) {
				return True
			}
		}
	}
	if other.unknown {
		return Unknown
	}
	return False
}

func (p *samePred) find(*state, *valueSet, int) found { return found{} }

// numberPred is over, under, between and equals for numbers, and between for times of day.
type numberPred struct {
	span  span
	clock bool
}

func (p *numberPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	var n int64
	var err error
	if p.clock {
		n, err = parseClock(s.values[i])
	} else {
		n, err = strconv.ParseInt(s.values[i], 10, 64)
	}
	return truth(err == nil && p.span.holds(n))
}

func (p *numberPred) find(*state, *valueSet, int) found { return found{} }

// lengthPred asks how long a text is, in characters.
type lengthPred struct{ span span }

func (p *lengthPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	return truth(p.span.holds(int64(utf8.RuneCountInString(s.values[i]))))
}

func (p *lengthPred) find(*state, *valueSet, int) found { return found{} }

// networks is a set of networks given in place; there are few.
type networks []netip.Prefix

func (ns networks) contains(a netip.Addr) bool {
	return slices.ContainsFunc(ns, func(p netip.Prefix) bool { return p.Contains(a) })
}
