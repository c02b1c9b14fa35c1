// Package measure tells how well scores tell spam from ham: at a threshold, at the best threshold that flags no more ham
// than is allowed, and over all thresholds (the area under the ROC curve).
package measure

import (
	"cmp"
	"math"
	"slices"
)

// A Scored is a message that is known to be spam or ham, and how much it was taken for spam.
type Scored struct {
	Score float64
	Spam  bool
}

// A Share is k of n.
type Share struct{ K, N int }

// Rate is the share as a number from 0 to 1; 0 of nothing.
func (s Share) Rate() float64 {
	if s.N == 0 {
		return 0
	}
	return float64(s.K) / float64(s.N)
}

// Interval is the 95 % confidence interval of the rate (E. Wilson, 1927).
func (s Share) Interval() (low, high float64) {
	if s.N == 0 {
		return 0, 1
	}
	const z = 1.96
	n, p := float64(s.N), s.Rate()
	d := 1 + z*z/n
	middle := p + z*z/(2*n)
	half := z * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(0, (middle-half)/d), min(1, (middle+half)/d)
}

// At gives the shares of the spam and of the ham that score at least the threshold.
func At(list []Scored, threshold float64) (spam, ham Share) {
	for _, m := range list {
		of := &ham
		if m.Spam {
			of = &spam
		}
		of.N++
		if m.Score >= threshold {
			of.K++
		}
	}
	return spam, ham
}

// A Best is what the best threshold does that flags no more ham than is allowed.
type Best struct {
	Threshold float64 // +Inf where each threshold flags more
	Spam, Ham Share
}

// Caught finds the lowest threshold that flags no more than the given part of the ham. Messages of one score are flagged
// together or not at all.
func Caught(list []Scored, ham float64) Best {
	best := Best{Threshold: math.Inf(1)}
	ranked := ranking(list)
	for _, m := range ranked {
		if m.Spam {
			best.Spam.N++
		} else {
			best.Ham.N++
		}
	}
	allowed := int(ham*float64(best.Ham.N) + 1e-9)
	for caught, flagged, i := 0, 0, 0; i < len(ranked); {
		score := ranked[i].Score
		for ; i < len(ranked) && ranked[i].Score == score; i++ {
			if ranked[i].Spam {
				caught++
			} else {
				flagged++
			}
		}
		if flagged > allowed {
			break
		}
		best.Threshold, best.Spam.K, best.Ham.K = score, caught, flagged
	}
	return best
}

// Area is the probability that a spam scores above a ham (the area under the ROC curve); ties count half. Without both
// there is none, and it is 0.
func Area(list []Scored) float64 {
	ranked := ranking(list)
	var above, spam, ham float64
	for i := 0; i < len(ranked); {
		var s, h float64
		for score := ranked[i].Score; i < len(ranked) && ranked[i].Score == score; i++ {
			if ranked[i].Spam {
				s++
			} else {
				h++
			}
		}
		above += h * (spam + s/2)
		spam, ham = spam+s, ham+h
	}
	if spam == 0 || ham == 0 {
		return 0
	}
	return above / (spam * ham)
}

// ranking sorts by score, highest first.
func ranking(list []Scored) []Scored {
	ranked := slices.Clone(list)
	slices.SortFunc(ranked, func(a, b Scored) int { return cmp.Compare(b.Score, a.Score) })
	return ranked
}
