package model

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"slices"
)

// How a model is trained, found by cross-validation; the figures change little with any of them.
const (
	passes     = 10
	rate       = 3.0 // of the first pass
	decay      = 0.3 // rate/(1+decay·pass)
	wideEnough = 2.0 // an example whose margin is beyond this on the right side teaches nothing
	folds      = 3   // for the curve
)

// Train makes a model of examples. The same examples in any order make the same model.
func Train(examples []Example) *Model {
	examples = slices.Clone(examples)
	slices.SortFunc(examples, func(a, b Example) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	m := fit(examples)
	for _, e := range examples {
		if e.Spam {
			m.Spam++
		} else {
			m.Ham++
		}
	}
	m.slope, m.shift = curve(heldOut(examples, folds))
	return m
}

// fit finds the weights.
func fit(examples []Example) *Model {
	m := &Model{weights: make([]float32, Buckets)}
	order := make([]int, len(examples))
	for i := range order {
		order[i] = i
	}
	shuffle := rand.New(rand.NewPCG(1, 2)) // the same order each time
	var f Features
	for pass := range passes {
		shuffle.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		step := rate / (1 + decay*float64(pass))
		for _, i := range order {
			examples[i].unpack(&f)
			m.learn(f, examples[i].Spam, step)
		}
	}
	return m
}

// learn moves the weights of an example's features towards its side, the more the worse it was judged.
func (m *Model) learn(f Features, spam bool, step float64) {
	side := -1.0
	if spam {
		side = 1
	}
	margin := side * m.Margin(f)
	if margin > wideEnough {
		return
	}
	gradient := float32(step * side / (1 + math.Exp(margin)))
	for g, list := range f {
		d := gradient * scale(group(g), len(list))
		for _, b := range list {
			m.weights[b] += d
		}
	}
}

// A Judged is an example as a model judges it that has not learned from it.
type Judged struct {
	Margin      float64
	Probability float64 // only what CrossValidate gives has it
	Spam        bool
}

// CrossValidate tells how well mail is judged that was not learned: each of the parts is judged by a model of all the
// others. part gives the part of each example, 0 and up; progress (may be nil) is told of each part that is done.
func CrossValidate(ctx context.Context, examples []Example, part []int, progress func(done, of int)) ([]Judged, error) {
	judged := make([]Judged, len(examples))
	parts := slices.Max(part) + 1
	var f Features
	for p := range parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var rest []Example
		for i, e := range examples {
			if part[i] != p {
				rest = append(rest, e)
			}
		}
		m := Train(rest)
		for i, e := range examples {
			if part[i] == p {
				e.unpack(&f)
				judged[i] = Judged{Margin: m.Margin(f), Probability: m.Probability(f), Spam: e.Spam}
			}
		}
		if progress != nil {
			progress(p+1, parts)
		}
	}
	return judged, nil
}

// heldOut judges each example by a model of the others: each of n parts by one of the n-1 others.
func heldOut(examples []Example, n int) []Judged {
	judged := make([]Judged, 0, len(examples))
	var f Features
	for part := range n {
		var rest []Example
		for i, e := range examples {
			if i%n != part {
				rest = append(rest, e)
			}
		}
		m := fit(rest)
		for i, e := range examples {
			if i%n == part {
				e.unpack(&f)
				judged = append(judged, Judged{Margin: m.Margin(f), Spam: e.Spam})
			}
		}
	}
	return judged
}

// curve fits slope and shift of the logistic curve from margin to probability (J. Platt, "Probabilistic outputs for support
// vector machines", 1999, with his targets that keep away from 0 and 1) by Newton's method.
func curve(judged []Judged) (slope, shift float64) {
	var ham, spam float64
	for _, j := range judged {
		if j.Spam {
			spam++
		} else {
			ham++
		}
	}
	high, low := (spam+1)/(spam+2), 1/(ham+2)
	slope, shift = 1, math.Log((spam+1)/(ham+1))
	for range 50 {
		var gs, gt, hss, hst, htt float64
		for _, j := range judged {
			target := low
			if j.Spam {
				target = high
			}
			p := 1 / (1 + math.Exp(-(slope*j.Margin + shift)))
			d, w := p-target, p*(1-p)
			gs, gt = gs+d*j.Margin, gt+d
			hss, hst, htt = hss+w*j.Margin*j.Margin, hst+w*j.Margin, htt+w
		}
		hss, htt = hss+1e-9, htt+1e-9
		det := hss*htt - hst*hst
		if det <= 0 {
			break
		}
		ds, dt := (htt*gs-hst*gt)/det, (hss*gt-hst*gs)/det
		slope, shift = slope-clamp(ds), shift-clamp(dt)
		if math.Abs(ds)+math.Abs(dt) < 1e-6 {
			break
		}
	}
	return slope, shift
}

// clamp keeps a step of Newton's method from leaping away.
func clamp(step float64) float64 { return max(-2, min(2, step)) }
