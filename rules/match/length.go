package match

import (
	"regexp/syntax"
	"unicode/utf8"
)

// unbounded is the length of what has no bound.
const unbounded = 1 << 40

// longer, joined and times calculate with lengths that may have no bound.
func longer(a, b int) int { return max(a, b) }

func joined(a, b int) int { return min(unbounded, a+b) }

func times(a, n int) int {
	switch {
	case a == 0 || n == 0:
		return 0
	case n < 0 || a >= unbounded/n:
		return unbounded
	}
	return a * n
}

// bytes is how many bytes so many characters take at most.
func bytes(runes int) int { return times(runes, utf8.UTFMax) }

// longest returns how many characters an expression matches at most.
func longest(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpQuest:
		return longest(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		return times(longest(re.Sub[0]), -1)
	case syntax.OpRepeat:
		return times(longest(re.Sub[0]), re.Max)
	case syntax.OpConcat:
		return total(re.Sub, longest)
	case syntax.OpAlternate:
		n := 0
		for _, sub := range re.Sub {
			n = longer(n, longest(sub))
		}
		return n
	}
	return 0
}

// shortest returns how many characters an expression matches at least.
func shortest(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpPlus:
		return shortest(re.Sub[0])
	case syntax.OpRepeat:
		return times(shortest(re.Sub[0]), re.Min)
	case syntax.OpConcat:
		return total(re.Sub, shortest)
	case syntax.OpAlternate:
		n := unbounded
		for _, sub := range re.Sub {
			n = min(n, shortest(sub))
		}
		return n
	}
	return 0
}

// total adds up the lengths of parts that follow each other.
func total(parts []*syntax.Regexp, length func(*syntax.Regexp) int) int {
	n := 0
	for _, part := range parts {
		n = joined(n, length(part))
	}
	return n
}

// runeStart returns where the character begins of which the byte at i is a part. A byte that begins a character, or is
// part of none, is a character of its own, as everywhere in Go.
func runeStart(text string, i int) int {
	for back := range utf8.UTFMax {
		j := i - back
		if j < 0 {
			break
		}
		if utf8.RuneStart(text[j]) {
			if _, size := utf8.DecodeRuneInString(text[j:]); j+size > i {
				return j
			}
			break
		}
	}
	return i
}
