package rules

import (
	"time"

	"postern/rules/match"
	"postern/rules/strict"
)

// A Costly is an expression that can't be looked for by the letters in it, so that it is tried on all of each text.
type Costly struct {
	Pos    Pos
	Source string
	PerKB  time.Duration // measured: for each KB of text, by itself, on this machine
}

// Problem words it as a warning.
func (c Costly) Problem() strict.Problem {
	return strict.Problem{Pos: c.Pos, What: "the expression " + quoteShort(c.Source) + " holds no text to look for (a few letters outside of what may be anything): it is tried on all of each text, which costs " +
		c.PerKB.Round(100*time.Nanosecond).String() + " for each KB"}
}

// Costly measures the expressions over bodies that hold no text to look for. Over what is short, such as header fields, they
// cost next to nothing. It takes about a millisecond for each.
func (s *Set) Costly() []Costly {
	var all []Costly
	seen := map[Pos]bool{}
	for _, p := range s.overBodies {
		if unaided, err := match.Unaided(p.expr); err != nil || !unaided || seen[p.pos] {
			continue
		}
		seen[p.pos] = true
		if cost, err := match.PerKB(p.expr); err == nil {
			all = append(all, Costly{Pos: p.pos, Source: p.source, PerKB: cost})
		}
	}
	return all
}
