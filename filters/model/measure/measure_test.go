package measure

import (
	"math"
	"testing"
)

func TestMeasure(t *testing.T) {
	list := []Scored{
		{Score: 9, Spam: true}, {Score: 8, Spam: true}, {Score: 8}, {Score: 5, Spam: true}, {Score: -1},
	}
	if spam, ham := At(list, 8); spam != (Share{K: 2, N: 3}) || ham != (Share{K: 1, N: 2}) {
		t.Errorf("at 8: spam %v, ham %v", spam, ham)
	}
	for _, c := range []struct {
		rate      float64
		spam, ham int
		threshold float64
	}{{0, 1, 0, 9}, {0.49, 1, 0, 9}, {0.5, 3, 1, 5}, {1, 3, 2, -1}} { // 8 is shared by one of each: it can't be had without the ham
		want := Best{Threshold: c.threshold, Spam: Share{K: c.spam, N: 3}, Ham: Share{K: c.ham, N: 2}}
		if got := Caught(list, c.rate); got != want {
			t.Errorf("with %v of the ham: %+v, want %+v", c.rate, got, want)
		}
	}
	// Six pairs: 9 above both, 8 above one and equal to one, 5 above one.
	if got, want := Area(list), (2+1.5+1)/6; math.Abs(got-want) > 1e-12 {
		t.Errorf("area %v, want %v", got, want)
	}
	low, high := Share{K: 5, N: 100}.Interval()
	if math.Abs(low-0.0215) > 0.0005 || math.Abs(high-0.1118) > 0.0005 { // Wilson's interval of 5 in 100
		t.Errorf("interval %v to %v", low, high)
	}
}

// Where the highest score is that of a ham, nothing can be caught without it.
func TestNothingCaught(t *testing.T) {
	got := Caught([]Scored{{Score: 3}, {Score: 2, Spam: true}}, 0)
	if got.Spam.K != 0 || got.Ham.K != 0 || !math.IsInf(got.Threshold, 1) {
		t.Errorf("got %+v, want nothing at any threshold", got)
	}
	if area := Area([]Scored{{Score: 3}}); area != 0 {
		t.Errorf("the area of ham alone is %v, want 0", area)
	}
}
