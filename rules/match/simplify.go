package match

import (
	"regexp/syntax"
	"slices"
)

// plain returns an expression without what only matters to who asks where the match is: captures. It is a copy.
func plain(re *syntax.Regexp) *syntax.Regexp {
	if re.Op == syntax.OpCapture {
		return plain(re.Sub[0])
	}
	out := &syntax.Regexp{Op: re.Op, Flags: re.Flags, Rune: slices.Clone(re.Rune), Min: re.Min, Max: re.Max}
	for _, sub := range re.Sub {
		s := plain(sub)
		if re.Op == syntax.OpConcat && s.Op == syntax.OpConcat {
			out.Sub = append(out.Sub, s.Sub...)
		} else {
			out.Sub = append(out.Sub, s)
		}
	}
	return out
}

// An edge is the end of an expression at which it is trimmed.
type edge bool

const (
	front edge = false
	back  edge = true
)

// trim drops what may but need not be at the edges of an expression. A text in which x+y is found is one in which xy is found,
// and the other way round; the automaton of the latter has fewer threads.
func trim(re *syntax.Regexp) *syntax.Regexp { return trimEdge(trimEdge(re, front), back) }

func trimEdge(re *syntax.Regexp, at edge) *syntax.Regexp {
	switch re.Op {
	case syntax.OpStar, syntax.OpQuest:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case syntax.OpPlus:
		return trimEdge(re.Sub[0], at)
	case syntax.OpRepeat:
		return trimRepeat(re, at)
	case syntax.OpAlternate:
		out := &syntax.Regexp{Op: re.Op, Flags: re.Flags}
		for _, sub := range re.Sub {
			out.Sub = append(out.Sub, trimEdge(sub, at))
		}
		return out
	case syntax.OpConcat:
		return trimConcat(re, at)
	}
	return re
}

func trimRepeat(re *syntax.Regexp, at edge) *syntax.Regexp {
	switch re.Min {
	case 0:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case 1:
		return trimEdge(re.Sub[0], at)
	}
	return &syntax.Regexp{Op: re.Op, Flags: re.Flags, Sub: re.Sub, Min: re.Min, Max: re.Min}
}

func trimConcat(re *syntax.Regexp, at edge) *syntax.Regexp {
	subs := slices.Clone(re.Sub)
	for len(subs) > 0 {
		i := 0
		if at == back {
			i = len(subs) - 1
		}
		subs[i] = trimEdge(subs[i], at)
		if subs[i].Op != syntax.OpEmptyMatch {
			break
		}
		subs = slices.Delete(subs, i, i+1)
	}
	return concat(subs)
}

// concat joins expressions to one.
func concat(subs []*syntax.Regexp) *syntax.Regexp {
	switch len(subs) {
	case 0:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case 1:
		return subs[0]
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: subs}
}
