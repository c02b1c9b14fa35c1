// Package tune proposes scores for rules, from mail that is known to be spam or ham.
//
// The scores are the weights of a logistic regression whose decision stands at the threshold at which mail is tagged: a message
// a point above it is taken for spam with 73 %, five points below it with less than 1 %. What is sought is the weights with
// which spam and ham are least surprising, with four restraints:
//
//   - a score keeps its sign and stays within reach of the present one and of what one rule may weigh alone;
//   - each point away from the present score has a price, so that a rule that hits little moves little;
//   - ham weighs more than spam, the more until what is flagged of it stays under the bound;
//   - whether it does is seen by cross-validation: each part of the mail is scored by what the other parts propose.
//
// The same mail makes the same proposal.
package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Rule is a rule whose score may change.
type Rule struct {
	ID    string
	Score float64 // in points, as it is now
}

// A Mail is a message, and what the rules say of it.
type Mail struct {
	Spam bool
	Base float64 // points of all that does not change
	Hits []int   // the rules that hit, by number
	Part int     // of the cross-validation, 0 and up
}

// Options are what a proposal must keep to.
type Options struct {
	Tag   float64 // points from which mail is tagged
	Ham   float64 // the largest part of the ham that may be tagged, 0 to 1
	Reach float64 // the furthest that a score may move, in points
	Times float64 // no score becomes more than so many times what it is, or less than one part in so many; 0 is no bound
	Most  float64 // the largest score, either way; a score that is larger already may stay
}

// A Proposal is a set of scores.
type Proposal struct {
	Scores  []float64 // by rule
	Before  []float64 // each message's points with the present scores
	HeldOut []float64 // each message's points with what the other parts propose
	Weight  float64   // of ham against spam
	Met     bool      // the bound on ham is kept where it was tried, by held-out mail
}

const (
	price    = 4.0  // of a point away from the present score, squared
	steep    = 1.5  // how fast a message that is on the wrong side begins to cost
	hamRoom  = 1.1  // points: how far below the threshold ham is to stay
	spamRoom = 0.3  // and how far above it spam is to come: mail to come is never quite like mail that was
	sweeps   = 60   // at most
	still    = 0.01 // points; sweeps end when no score moves further
	flattest = 0.02 // keeps a step from leaping where all mail is far from the threshold
	tenth    = 0.1  // to what scores are rounded
	heaviest = 1024 // of the weights of ham that are tried
)

// Propose finds scores. progress, which may be nil, is told of each step that is done.
func Propose(ctx context.Context, rules []Rule, mail []Mail, opt Options, progress func()) (Proposal, error) {
	if err := check(mail); err != nil {
		return Proposal{}, err
	}
	present := make([]float64, len(rules))
	for i, r := range rules {
		present[i] = r.Score
	}
	p := Proposal{Scores: present, Before: points(mail, present)}
	parts := make([]int, len(mail))
	for j, m := range mail {
		parts[j] = m.Part
	}
	fewest := math.MaxInt
	for weight := 1.0; weight <= heaviest; weight *= 2 {
		held, err := HeldOut(ctx, rules, mail, parts, opt, weight, progress)
		if err != nil {
			return Proposal{}, err
		}
		flagged, allowed := tagged(mail, held, opt)
		if flagged < fewest {
			fewest = flagged
			p.HeldOut, p.Weight = held, weight
		}
		if flagged <= allowed {
			p.Met = true
			break
		}
	}
	p.Scores = fit(rules, mail, opt, p.Weight, nil)
	for i, s := range p.Scores {
		p.Scores[i] = round(s, present[i])
	}
	return p, nil
}

func check(mail []Mail) error {
	parts := map[int]bool{}
	var spam, ham int
	for _, m := range mail {
		parts[m.Part] = true
		if m.Spam {
			spam++
		} else {
			ham++
		}
	}
	switch {
	case spam == 0 || ham == 0:
		return fmt.Errorf("%d spam and %d ham, expected both", spam, ham)
	case len(parts) < 2:
		return errors.New("all mail is in one part, expected at least two to validate one by the other")
	}
	return nil
}

// HeldOut gives each message's points with the scores that the other parts propose, where ham weighs weight times what spam
// does. parts are by message. progress, which may be nil, is told of each part.
func HeldOut(ctx context.Context, rules []Rule, mail []Mail, parts []int, opt Options, weight float64, progress func()) ([]float64, error) {
	held := make([]float64, len(mail))
	for _, part := range slices.Compact(slices.Sorted(slices.Values(parts))) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		scores := fit(rules, mail, opt, weight, func(j int) bool { return parts[j] != part })
		for i := range scores {
			scores[i] = round(scores[i], rules[i].Score)
		}
		for j, m := range mail {
			if parts[j] == part {
				held[j] = sum(m, scores)
			}
		}
		if progress != nil {
			progress()
		}
	}
	return held, nil
}

// tagged counts the ham that reaches the threshold, and how much of it may.
func tagged(mail []Mail, points []float64, opt Options) (flagged, allowed int) {
	ham := 0
	for j, m := range mail {
		if m.Spam {
			continue
		}
		ham++
		if points[j] >= opt.Tag-1e-9 {
			flagged++
		}
	}
	return flagged, int(opt.Ham*float64(ham) + 1e-9)
}

func points(mail []Mail, scores []float64) []float64 {
	list := make([]float64, len(mail))
	for j, m := range mail {
		list[j] = sum(m, scores)
	}
	return list
}

// sum adds up in hundredths, as the policy does.
func sum(m Mail, scores []float64) float64 {
	total := math.Round(m.Base * 100)
	for _, i := range m.Hits {
		total += math.Round(scores[i] * 100)
	}
	return total / 100
}

// fit finds the scores for the mail that is in, by Newton's method in one score after the other.
func fit(rules []Rule, mail []Mail, opt Options, weight float64, in func(j int) bool) []float64 {
	f := newFitting(rules, mail, opt, weight, in)
	for range sweeps {
		furthest := 0.0
		for i := range rules {
			furthest = max(furthest, f.move(i))
		}
		if furthest < still {
			break
		}
	}
	return f.scores
}

// A fitting is a fit under way.
type fitting struct {
	rules  []Rule
	opt    Options
	scores []float64
	hits   [][]int   // messages by rule
	spam   []bool    // by message
	weight []float64 // by message
	above  []float64 // points above where the message begins to cost, or to be safe
}

func newFitting(rules []Rule, mail []Mail, opt Options, weight float64, in func(j int) bool) *fitting {
	f := &fitting{rules: rules, opt: opt, scores: make([]float64, len(rules)), hits: make([][]int, len(rules))}
	for i, r := range rules {
		f.scores[i] = r.Score
	}
	var spam, ham float64
	for n, m := range mail {
		if in != nil && !in(n) {
			continue
		}
		if m.Spam {
			spam++
		} else {
			ham++
		}
		j := len(f.above)
		for _, i := range m.Hits {
			f.hits[i] = append(f.hits[i], j)
		}
		edge := opt.Tag - hamRoom
		if m.Spam {
			edge = opt.Tag + spamRoom
		}
		f.spam, f.above = append(f.spam, m.Spam), append(f.above, sum(m, f.scores)-edge)
	}
	f.weight = make([]float64, len(f.above))
	for j, isSpam := range f.spam {
		f.weight[j] = 1
		if !isSpam && ham > 0 {
			f.weight[j] = weight * spam / ham
		}
	}
	return f
}

// move takes one step with one score, and tells how far it went.
func (f *fitting) move(i int) float64 {
	if len(f.hits[i]) == 0 {
		return 0
	}
	present := f.rules[i].Score
	slope, bend := price*(f.scores[i]-present), price
	for _, j := range f.hits[i] {
		p := 1 / (1 + math.Exp(-steep*f.above[j]))
		wrong := p
		if f.spam[j] {
			wrong = p - 1
		}
		slope += f.weight[j] * steep * wrong
		bend += f.weight[j] * steep * steep * max(p*(1-p), flattest)
	}
	low, high := f.opt.bounds(present)
	to := min(high, max(low, f.scores[i]-min(1, max(-1, slope/bend))))
	step := to - f.scores[i]
	f.scores[i] = to
	for _, j := range f.hits[i] {
		f.above[j] += step
	}
	return math.Abs(step)
}

// bounds are the lowest and the highest that a score may become.
func (o Options) bounds(present float64) (low, high float64) {
	most := max(o.Most, math.Abs(present))
	low, high = max(-most, present-o.Reach), min(most, present+o.Reach)
	if o.Times > 0 {
		near, far := present/o.Times, present*o.Times
		low, high = max(low, min(near, far)), min(high, max(near, far))
	}
	if present > 0 {
		return max(low, min(tenth, present)), max(high, min(tenth, present))
	}
	return min(low, -min(tenth, -present)), min(high, -min(tenth, -present))
}

// round gives a score in tenths of a point; one that is hardly another stays as it is.
func round(score, present float64) float64 {
	if math.Abs(score-present) < tenth {
		return present
	}
	return math.Round(score/tenth) * tenth
}
