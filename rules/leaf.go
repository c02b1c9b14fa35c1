package rules

import (
	"slices"
	"strconv"
	"strings"
)

// leafNode asks about the values of a source.
type leafNode struct {
	scope    scope
	src      int // among the sources of the scope
	which    which
	preds    []predicate
	exists   *bool
	count    *span
	nonEmpty bool // exists asks for a value that is not empty
	listed   bool // values are looked up in a list, which may have scores of its own
	rising   bool // more values or counts can only make it true, never false
	what     string
	pos      Pos
	dear     int
}

func (n *leafNode) cost() int { return n.dear }

func (n *leafNode) eval(st *state, it *itemState) Truth {
	if n.dear >= costBody && st.ctx.Err() != nil {
		return Unknown // out of time
	}
	s := st.values(n.scope, n.src, it)
	switch {
	case n.exists != nil:
		t := truth(s.exists(n.nonEmpty))
		if t == False && s.unknown {
			t = Unknown
		}
		if !*n.exists {
			t = not(t)
		}
		return t
	case n.count != nil:
		if s.unknown && !(n.rising && n.count.holds(int64(len(s.values)))) {
			return Unknown
		}
		return truth(n.count.holds(int64(len(s.values))))
	}
	return n.choose(st, it, s)
}

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// choose applies which. What an unknown check might have said is open: it can't take away what is known to be so.
func (n *leafNode) choose(st *state, it *itemState, s *valueSet) Truth {
	last := len(s.values) - 1
	if s.unknown && !n.rising {
		return Unknown
	}
	switch n.which {
	case whichFirst, whichLast:
		switch {
		case s.unknown:
			return Unknown
		case last < 0:
			return False
		case n.which == whichFirst:
			return n.holds(st, it, s, 0)
		}
		return n.holds(st, it, s, last)
	case whichEvery:
		if last < 0 && !s.unknown {
			return False // every of none is no reason to act
		}
		t := True
		for i := range s.values {
			switch n.holds(st, it, s, i) {
			case False:
				return False
			case Unknown:
				t = Unknown
			}
		}
		if s.unknown {
			return Unknown
		}
		return t
	}
	t := False
	for i := range s.values {
		switch n.holds(st, it, s, i) {
		case True:
			return True
		case Unknown:
			t = Unknown
		}
	}
	if s.unknown {
		return Unknown
	}
	return t
}

// holds reports whether all operators hold for one value.
func (n *leafNode) holds(st *state, it *itemState, s *valueSet, i int) Truth {
	t := True
	for _, p := range n.preds {
		switch p.match(st, it, s, i) {
		case False:
			return False
		case Unknown:
			t = Unknown
		}
	}
	return t
}

func (n *leafNode) evidence(st *state, it *itemState, ev *evidence) {
	if ev.brief && !n.listed {
		return
	}
	s := st.values(n.scope, n.src, it)
	source := &st.set.sources[n.scope][n.src].source
	if n.exists != nil || n.count != nil {
		value := ""
		if n.count != nil {
			value = strconv.Itoa(len(s.values))
		} else if *n.exists && len(s.values) > 0 && source.subject != "body" {
			value = s.values[0]
		}
		ev.add(source.String(), value, "")
		return
	}
	order := make([]int, len(s.values))
	for i := range order {
		order[i] = i
	}
	if n.which == whichLast {
		slices.Reverse(order)
	}
	for _, i := range order {
		if n.holds(st, it, s, i) != True {
			continue
		}
		shown, note := s.values[i], ""
		for _, p := range n.preds {
			found := p.find(st, s, i)
			if found.text != "" {
				shown = found.text
			}
			ev.addScore(found)
			if found.note != "" {
				note = found.note
			}
		}
		ev.add(source.String(), shown, note)
		return
	}
}

func (n *leafNode) why(st *state, it *itemState, _ Truth) reason {
	s := st.values(n.scope, n.src, it)
	var saw []string
	for i, v := range s.values {
		if i == 3 {
			saw = append(saw, "…")
			break
		}
		saw = append(saw, strconv.Quote(short(v)))
	}
	switch {
	case len(saw) > 0:
		return reason{pos: n.pos, what: n.what + " [saw " + strings.Join(saw, ", ") + "]", got: n.eval(st, it)}
	case s.unknown:
		return reason{pos: n.pos, what: n.what + " [its check failed]", got: n.eval(st, it)}
	}
	return reason{pos: n.pos, what: n.what + " [saw nothing]", got: n.eval(st, it)}
}
