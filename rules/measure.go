package rules

import (
	"context"
	"time"
)

// Costs adds up what rules cost over many messages.
type Costs struct {
	Messages int
	Together time.Duration           // of all rules, from the decoded message on
	Own      map[*Rule]time.Duration // of each rule, once views and matches are at hand that several rules share
}

// Add adds the costs of other messages.
func (c *Costs) Add(other Costs) {
	c.Messages += other.Messages
	c.Together += other.Together
	if c.Own == nil {
		c.Own = map[*Rule]time.Duration{}
	}
	for r, d := range other.Own {
		c.Own[r] += d
	}
}

// Measure puts all rules to a subject and adds to costs how long that took.
//
// What several rules share, a view of the text or one pass of all expressions over it, is done by whichever asks first.
// So the rules are asked twice: for the first time together, then each by itself, with what they share at hand.
func (s *Set) Measure(ctx context.Context, subject Subject, costs *Costs) {
	st := newState(ctx, s, subject)
	began := time.Now()
	st.toAsk().each(func(i int) { st.rule(i) })
	if costs.Own == nil {
		costs.Own = map[*Rule]time.Duration{}
	}
	costs.Messages++
	costs.Together += time.Since(began)
	clear(st.ruleDone)
	clear(st.condDone)
	for i := range s.rules {
		if s.rules[i].when == nil {
			continue
		}
		began = time.Now()
		st.rule(i)
		costs.Own[s.rules[i].rule] += time.Since(began)
	}
}
