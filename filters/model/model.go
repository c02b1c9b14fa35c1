// Package model learns from a site's own mail what its spam and its ham look like, and gives the probability that a
// message is spam.
//
// It is logistic regression on hashed features, the kind of filter that did best in the spam tracks of TREC (J. Goodman
// and W. Yih, "Online discriminative spam filter training", CEAS 2006; D. Sculley and G. Wachman, "Relaxed online SVMs for
// spam filtering", SIGIR 2007; G. Cormack, "Email spam filtering: a systematic review", 2008). A feature is something that
// a message has: a word of the subject, two words beside each other, the domain of a link, the order in which the mailer
// wrote its fields. Its hash is the number of a weight. The sum of the weights of all that a message has, each group of
// features divided by the square root of its number, is the margin: above 0 for spam, below for ham. A curve fitted to
// messages that were not learned from makes a probability of it.
//
// What names a mail's way, its recipients or its list is no feature: it would tell where the mail was collected and not
// what it is.
//
// Beside the model stands the file of [Examples], in which every message that was learned from is kept as the numbers of
// its features, never as text. So a message learned twice counts once, one that is forgotten leaves no trace, and the model
// does not depend on the order in which mail was learned: it is made anew from the examples each time, in about a second for
// ten thousand of them.
package model

import (
	"cmp"
	"math"
	"slices"

	"postern/filters/message"
)

// Least is how many ham and how many spam must have been learned before a model judges.
const Least = 50

// A Model is what was learned. It is immutable; the zero value judges nothing.
type Model struct {
	Ham, Spam int // learned from

	weights      []float32 // by bucket; nil in the zero value
	slope, shift float64   // of the curve from margin to probability
}

// Ready reports whether m was made from enough mail to judge.
func (m *Model) Ready() bool {
	return m != nil && m.weights != nil && m.Ham >= Least && m.Spam >= Least
}

// Margin is the sum of what speaks for spam, above 0, and for ham, below.
func (m *Model) Margin(f Features) float64 {
	var total float32
	for g, list := range f {
		total += m.sum(list) * scale(group(g), len(list))
	}
	return float64(total)
}

func (m *Model) sum(list []uint32) float32 {
	var sum float32
	for _, b := range list {
		sum += m.weights[b]
	}
	return sum
}

// few keeps a group of a few features from weighing as much as one of many.
const few = 10

// scale is what a weight of a group with n features is multiplied with.
func scale(g group, n int) float32 {
	return groupWeights[g] / float32(math.Sqrt(float64(n+few)))
}

// Probability is that of a message with these features being spam, in 0 to 1, if ham and spam come as often as they were
// learned.
func (m *Model) Probability(f Features) float64 {
	return 1 / (1 + math.Exp(-(m.slope*m.Margin(f) + m.shift)))
}

// A Reason is a feature and what it adds to the margin.
type Reason struct {
	Kind   string // "word", "subject", "link" …
	Text   string // what the message has of that kind; holds what a stranger wrote
	Weight float64
}

// Judge is Probability of an example.
func (m *Model) Judge(e Example) float64 {
	var f Features
	e.unpack(&f)
	return m.Probability(f)
}

// Explain gives the n strongest features for the side to which the margin leans, and as many for the other, strongest first.
func (m *Model) Explain(msg *message.Message, n int) (with, against []Reason) {
	f := Extract(msg)
	chosen := m.strongest(f, n)
	var reasons []Reason
	extract(msg, func(b uint32, kind, text string) {
		if w, ok := chosen[b]; ok {
			delete(chosen, b)
			reasons = append(reasons, Reason{Kind: kind, Text: text, Weight: w})
		}
	})
	slices.SortStableFunc(reasons, func(a, b Reason) int { return cmp.Compare(math.Abs(b.Weight), math.Abs(a.Weight)) })
	lean := m.Margin(f) > 0
	for _, r := range reasons {
		if (r.Weight > 0) == lean {
			with = append(with, r)
		} else {
			against = append(against, r)
		}
	}
	return with, against
}

// strongest gives the n buckets that add most and the n that take most, with what they add.
func (m *Model) strongest(f Features, n int) map[uint32]float64 {
	type entry struct {
		bucket uint32
		weight float64
	}
	var all []entry
	for g, list := range f {
		s := scale(group(g), len(list))
		for _, b := range list {
			if w := m.weights[b]; w != 0 && group(g) != gramGroup { // four letters explain nothing
				all = append(all, entry{bucket: b, weight: float64(w * s)})
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.weight, b.weight) })
	chosen := make(map[uint32]float64, 2*n)
	for i, e := range all {
		if i < n && e.weight < 0 || i >= len(all)-n && e.weight > 0 {
			chosen[e.bucket] = e.weight
		}
	}
	return chosen
}
