package match

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// Limits of the literals of one expression.
const (
	maxExact    = 32  // texts that a part of an expression may stand for, spelled out
	maxLiterals = 128 // literals of an expression
	maxClass    = 8   // characters of a class that are spelled out
)

// literals returns texts, folded as [FoldCase] folds, of which at least one stands in every text that the expression
// matches, once that is folded too. It returns nil where no such texts are known that would be worth looking for.
func literals(tree *syntax.Regexp) []string {
	found := literalsOf(tree).best()
	if found == nil || worth(found) < 2 {
		return nil
	}
	return found
}

// A spelling is what is known of the texts that a part of an expression matches.
type spelling struct {
	exact []string // all of them; nil when they are too many
	need  []string // where exact is nil: one of these is in each; nil when not known
}

func (s spelling) best() []string {
	if s.exact != nil {
		return s.exact
	}
	return s.need
}

// worth rates texts by the one that is found most easily by chance: signs and letters beyond ASCII are rarer than a letter.
func worth(texts []string) int {
	least := 1 << 20
	for _, t := range texts {
		w := len(t)
		if strings.ContainsFunc(t, func(r rune) bool { return r > ' ' && r < '0' || r > 'z' || r == '@' }) {
			w++
		}
		least = min(least, w)
	}
	return least
}

// better returns the texts that are worth more; nil is worth nothing.
func better(a, b []string) []string {
	switch {
	case a == nil:
		return b
	case b == nil || worth(a) >= worth(b):
		return a
	}
	return b
}

func literalsOf(re *syntax.Regexp) spelling {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return spelling{exact: []string{""}}
	case syntax.OpLiteral:
		return spelling{exact: []string{strings.Map(FoldRune, string(re.Rune))}}
	case syntax.OpCharClass:
		return classLiterals(re.Rune)
	case syntax.OpCapture:
		return literalsOf(re.Sub[0])
	case syntax.OpConcat:
		return concatLiterals(re.Sub)
	case syntax.OpAlternate:
		return alternateLiterals(re.Sub)
	case syntax.OpQuest:
		if s := literalsOf(re.Sub[0]); s.exact != nil && len(s.exact) < maxExact {
			return spelling{exact: append(slices.Clone(s.exact), "")}
		}
	case syntax.OpPlus:
		return spelling{need: literalsOf(re.Sub[0]).best()}
	case syntax.OpRepeat:
		if re.Min > 0 {
			return spelling{need: literalsOf(re.Sub[0]).best()}
		}
	}
	return spelling{}
}

func classLiterals(ranges []rune) spelling {
	var exact []string
	for i := 0; i+1 < len(ranges); i += 2 {
		if ranges[i+1]-ranges[i] >= 2*maxClass {
			return spelling{}
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if s := string(FoldRune(r)); !slices.Contains(exact, s) {
				exact = append(exact, s)
			}
		}
		if len(exact) > maxClass {
			return spelling{}
		}
	}
	return spelling{exact: exact}
}

// concatLiterals spells out neighbours together as long as that is few texts, and keeps the best of the runs.
func concatLiterals(subs []*syntax.Regexp) spelling {
	var need []string
	run, whole := []string{""}, true
	for _, sub := range subs {
		s := literalsOf(sub)
		if s.exact != nil && len(run)*len(s.exact) <= maxExact {
			run = product(run, s.exact)
			continue
		}
		whole = false
		need = better(need, run)
		run = []string{""}
		if s.exact != nil {
			run = s.exact
		} else {
			need = better(need, s.need)
		}
	}
	if whole {
		return spelling{exact: run}
	}
	return spelling{need: better(need, run)}
}

func product(heads, tails []string) []string {
	var out []string
	for _, h := range heads {
		for _, t := range tails {
			out = append(out, h+t)
		}
	}
	return out
}

func alternateLiterals(subs []*syntax.Regexp) spelling {
	var all []string
	exact := true
	for _, sub := range subs {
		s := literalsOf(sub)
		if s.exact == nil {
			exact = false
		}
		texts := s.best()
		if texts == nil || len(all)+len(texts) > maxLiterals {
			return spelling{}
		}
		all = append(all, texts...)
	}
	if exact && len(all) <= maxExact {
		return spelling{exact: all}
	}
	return spelling{need: all}
}
