package model

import (
	"cmp"
	"math"
	"slices"
)

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

// At gives the shares of the spam and of the ham whose probability is at least p.
func At(judged []Judged, p float64) (spam, ham Share) {
	for _, j := range judged {
		of := &ham
		if j.Spam {
			of = &spam
		}
		of.N++
		if j.Probability >= p {
			of.K++
		}
	}
	return spam, ham
}

// Caught gives the share of the spam that has a higher probability than all ham but the given part of it: what a threshold
// catches that flags no more ham than that.
func Caught(judged []Judged, ham float64) Share {
	ranked := ranking(judged)
	var total Share
	hams := 0
	for _, j := range ranked {
		if j.Spam {
			total.N++
		} else {
			hams++
		}
	}
	allowed := int(ham*float64(hams) + 1e-9)
	for caught, flagged, i := 0, 0, 0; i < len(ranked); {
		for p := ranked[i].Probability; i < len(ranked) && ranked[i].Probability == p; i++ {
			if ranked[i].Spam {
				caught++
			} else {
				flagged++
			}
		}
		if flagged > allowed {
			break
		}
		total.K = caught
	}
	return total
}

// Area is the probability that a spam ranks above a ham (the area under the ROC curve); ties count half.
func Area(judged []Judged) float64 {
	ranked := ranking(judged)
	var above, spam, ham float64
	for i := 0; i < len(ranked); {
		var s, h float64
		for p := ranked[i].Probability; i < len(ranked) && ranked[i].Probability == p; i++ {
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

// ranking sorts by probability, highest first.
func ranking(judged []Judged) []Judged {
	ranked := slices.Clone(judged)
	slices.SortFunc(ranked, func(a, b Judged) int { return cmp.Compare(b.Probability, a.Probability) })
	return ranked
}
