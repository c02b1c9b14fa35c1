package match

import (
	"math/bits"
	"regexp/syntax"
)

// What keeps a thread alive for long in a different state at each character, or whatever the characters are, does not
// go into the automaton of all. These are the limits, found by measuring.
const (
	maxCount     = 10 // repetitions of a class of few letters, such as \d or \s
	maxCountWord = 4  // of one of all letters, such as \w, or of more than one character
)

// loose reports whether an expression, or a part of it, is such a thing.
func loose(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpStar, syntax.OpPlus:
		return looseRepeat(re.Sub[0], -1)
	case syntax.OpRepeat:
		return looseRepeat(re.Sub[0], re.Max)
	}
	for _, sub := range re.Sub {
		if loose(sub) {
			return true
		}
	}
	return false
}

func looseRepeat(body *syntax.Regexp, most int) bool {
	if loose(body) {
		return true
	}
	switch w := widthOf(body); {
	case w == wideAny: // .* and the like
		return most < 0 || most > maxCountWord
	case w == wideWord:
		return most > maxCountWord
	case w == narrow:
		return most > maxCount
	}
	return most < 0 && longest(body) == unbounded || most > 1 && (longest(body) == unbounded || most*longest(body) > 4*maxCount)
}

// A width says how much a class of characters lets pass.
type width uint8

const (
	noClass  width = iota
	narrow         // neither most letters nor white space and letters
	wideWord       // most letters
	wideAny        // letters and white space
)

func widthOf(re *syntax.Regexp) width {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return wideAny
	case syntax.OpLiteral:
		if len(re.Rune) == 1 {
			return narrow
		}
		return noClass
	case syntax.OpCharClass:
	default:
		return noClass
	}
	letters := 0
	for r := 'a'; r <= 'z'; r++ {
		if holds(re.Rune, r) {
			letters++
		}
	}
	switch {
	case letters < 8:
		return narrow
	case holds(re.Rune, ' '):
		return wideAny
	}
	return wideWord
}

func holds(set []rune, r rune) bool {
	for i := 0; i+1 < len(set); i += 2 {
		if set[i] <= r && r <= set[i+1] {
			return true
		}
	}
	return false
}

// enough is how telling a segment must be to stand for its expression. A letter counts four, as one of about sixteen.
const enough = 9

// telling rates how seldom an expression is found by chance, in bits.
func telling(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		return 4 * len(re.Rune)
	case syntax.OpWordBoundary:
		return 1
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText:
		return 4
	case syntax.OpCharClass:
		return tellingClass(re)
	case syntax.OpPlus, syntax.OpCapture:
		return telling(re.Sub[0])
	case syntax.OpRepeat:
		return min(1000, telling(re.Sub[0])*re.Min)
	case syntax.OpConcat:
		n := 0
		for _, sub := range re.Sub {
			n = min(1000, n+telling(sub))
		}
		return n
	case syntax.OpAlternate:
		least := 1000
		for _, sub := range re.Sub {
			least = min(least, telling(sub))
		}
		return max(0, least-bits.Len(uint(len(re.Sub)-1)))
	}
	return 0
}

func tellingClass(re *syntax.Regexp) int {
	size := 0
	for i := 0; i+1 < len(re.Rune); i += 2 {
		size += int(re.Rune[i+1]-re.Rune[i]) + 1
	}
	switch widthOf(re) {
	case wideAny:
		return 0
	case wideWord:
		return 1
	}
	if holds(re.Rune, ' ') {
		return 2
	}
	return max(2, 5-bits.Len(uint(size/2)))
}

// A route is one way through an expression, as parts that follow each other.
type route []*syntax.Regexp

// maxRoutes bounds the routes of one expression.
const maxRoutes = 48

// routes takes an expression apart until each loose part stands by itself; nil if there are too many ways through it.
func routes(re *syntax.Regexp) []route {
	if !loose(re) {
		return []route{{re}}
	}
	switch re.Op {
	case syntax.OpConcat:
		all := []route{nil}
		for _, sub := range re.Sub {
			heads, tails := all, routes(sub)
			if len(heads)*len(tails) == 0 || len(heads)*len(tails) > maxRoutes {
				return nil
			}
			all = nil
			for _, h := range heads {
				for _, t := range tails {
					all = append(all, append(h[:len(h):len(h)], t...))
				}
			}
		}
		return all
	case syntax.OpAlternate:
		var all []route
		for _, sub := range re.Sub {
			tails := routes(sub)
			if tails == nil || len(all)+len(tails) > maxRoutes {
				return nil
			}
			all = append(all, tails...)
		}
		return all
	case syntax.OpQuest:
		if with := routes(re.Sub[0]); with != nil {
			return append(with, route{})
		}
		return nil
	}
	return []route{{re}}
}
