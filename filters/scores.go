package filters

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"postern/rules/strict"
)

// Scores says what the symbols of a check add to the sum, by the part of the symbol behind the check's own name:
// {fail: 300} is "spf.fail" at three points. In the configuration it is written in points, and a key that stands
// there replaces that one default and no other.
type Scores map[string]Score

// UnmarshalStrict refuses what is no symbol of the check: the defaults name them all.
func (s *Scores) UnmarshalStrict(n *strict.Node) strict.Problems {
	known := slices.Sorted(maps.Keys(*s))
	points := map[string]float64{}
	problems := n.Decode(&points)
	merged := maps.Clone(*s)
	for _, pair := range n.Pairs() {
		name := pair.Key.Text()
		if !slices.Contains(known, name) {
			problems.Addf(pair.Key.Pos(), "%s", strict.Unknown("symbol", name, known))
			continue
		}
		if wrong := BadPoints(points[name]); wrong != "" {
			problems.Addf(pair.Value.Pos(), "%s", wrong)
			continue
		}
		merged[name] = Points(points[name])
	}
	*s = merged
	return problems
}

// maxPoints bounds a score in the configuration, either way, so that no sum of scores overflows.
const maxPoints = 1000

// BadPoints says what is wrong with a number of points that stands in the configuration; "" for nothing.
func BadPoints(p float64) string {
	switch hundredths := p * 100; {
	case math.Abs(p) > maxPoints:
		return fmt.Sprintf("the score %.0f, expected one from -%d to %d", p, maxPoints, maxPoints)
	case math.Abs(hundredths-math.Round(hundredths)) > 1e-6:
		return fmt.Sprintf("the score %v, expected at most two decimals", p)
	}
	return ""
}

// symbols lists the whole names of the symbols of a check.
func (s Scores) symbols(check string) []string {
	var names []string
	for _, suffix := range slices.Sorted(maps.Keys(s)) {
		names = append(names, check+"."+suffix)
	}
	return names
}

// finding makes the finding of one symbol.
func (s Scores) finding(check, suffix, detail string) Finding {
	return Finding{Symbol: check + "." + suffix, Score: s[suffix], Detail: detail}
}
