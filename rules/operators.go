package rules

import (
	"net/netip"
	"slices"
	"strconv"
	"unicode/utf8"
)

// A predicate is an operator with its argument, asked about value i of a set.
type predicate interface {
	match(st *state, it *itemState, s *valueSet, i int) Truth
	// find says what in the value made a true predicate true.
	find(s *valueSet, i int) found
}

// found is what an operator found in a value: the piece of text, and what a list's entry says about it.
type found struct {
	text     string
	from, to int // where it stands in the value; both zero where that is not known
	score    *int32
	note     string
	entry    *Entry // of a list
}

type inPred struct{ index *index }

func (p *inPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	return truth(p.index.find(s.value(i, p.index.exact)) != nil)
}

func (p *inPred) find(s *valueSet, i int) found {
	if e := p.index.find(s.value(i, p.index.exact)); e != nil {
		return found{score: e.Score, note: e.Note, entry: e}
	}
	return found{}
}

type netPred struct{ nets networks }

func (p *netPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	a, err := netip.ParseAddr(s.values[i])
	return truth(err == nil && p.nets.contains(a.Unmap().WithZone("")))
}

func (p *netPred) find(*valueSet, int) found { return found{} }

// samePred compares with the values of another source: one equal to any of them will do. Empty texts are equal to none.
type samePred struct {
	scope scope
	src   int
	exact bool
}

func (p *samePred) match(st *state, it *itemState, s *valueSet, i int) Truth {
	v := s.value(i, p.exact)
	other := st.values(p.scope, p.src, it)
	if v != "" {
		for j := range other.values {
			if other.value(j, p.exact) == v {
				return True
			}
		}
	}
	if other.unknown {
		return Unknown
	}
	return False
}

func (p *samePred) find(*valueSet, int) found { return found{} }

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

func (p *numberPred) find(*valueSet, int) found { return found{} }

// lengthPred asks how long a text is, in characters.
type lengthPred struct{ span span }

func (p *lengthPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	return truth(p.span.holds(int64(utf8.RuneCountInString(s.values[i]))))
}

func (p *lengthPred) find(*valueSet, int) found { return found{} }

// networks is a set of networks given in place; there are few.
type networks []netip.Prefix

func (ns networks) contains(a netip.Addr) bool {
	return slices.ContainsFunc(ns, func(p netip.Prefix) bool { return p.Contains(a) })
}
