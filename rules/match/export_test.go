package match

import (
	"regexp/syntax"
	"slices"
)

// Small has a builder make tables of so few bytes, and of so few entries a text, that they are thrown away all the time,
// and automata of few expressions each.
func Small(b *Builder, table, allowance, group int) {
	b.limits = limits{table: table, allowance: allowance, group: group}
}

// Literals returns texts of which one stands, in any case, in each text that an expression matches.
func Literals(expr string) ([]string, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return literals(plain(tree)), nil
}

// Unfolded returns the characters of which FoldRune makes r.
func Unfolded(r rune) []rune { return slices.Compact(unfolded(r)) }

// Shape says how many automata, and chains of segments, a set consists of, and which chains have none.
func Shape(s *Set) (groups, chains, always int) {
	for _, c := range s.chains {
		if len(c.within) == 0 {
			always++
		}
	}
	return len(s.groups), len(s.chains), always
}

// Generations returns how often the tables of a set were begun.
func Generations(s *Set) (n uint64) {
	for _, a := range s.groups {
		n += a.current.Load().generation
	}
	return n
}

// TableBytes is how much memory the tables of a set take.
func TableBytes(s *Set) (n int) {
	for _, a := range s.groups {
		n += a.current.Load().size
	}
	for _, c := range s.chains {
		if c.whole != nil {
			n += c.whole.current.Load().size
		}
	}
	return n
}
