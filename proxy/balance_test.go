package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"postern/proxy/upstream"
)

// namedHop is an upstream that is known by a letter.
func namedHop(t *testing.T, name string, priority, weight int, out bool) *nextHop {
	t.Helper()
	up, err := upstream.New(upstream.Config{Address: "smtp://" + name + ".example"})
	if err != nil {
		t.Fatal(err)
	}
	n := &nextHop{Upstream: up, priority: priority, weight: weight, health: newHealth(DefaultConfig().Health)}
	n.health.answered(time.Unix(0, 0))
	for out && n.health.usable() {
		n.health.failed(time.Unix(0, 0), errTest)
	}
	return n
}

func names(hops []*nextHop) string {
	var b strings.Builder
	for _, n := range hops {
		_, address := n.Addr()
		b.WriteByte(address[0])
	}
	return b.String()
}

func TestOrder(t *testing.T) {
	hop := func(name string, priority int, out bool) *nextHop { return namedHop(t, name, priority, 1, out) }
	a, b, c, d := hop("a", 0, false), hop("b", 5, false), hop("c", 5, true), hop("d", 9, true)
	for _, tc := range []struct {
		name   string
		hops   []*nextHop
		failed *nextHop
		want   string
	}{
		{name: "one", hops: []*nextHop{a}, want: "a"},
		{name: "one that is out is tried all the same", hops: []*nextHop{c}, want: "c"},
		{name: "by priority, wherever they stand", hops: []*nextHop{b, a}, want: "ab"},
		{name: "those that are out come last", hops: []*nextHop{c, d, b}, want: "bcd"},
		{name: "of those that are out the lower priority first", hops: []*nextHop{d, c}, want: "cd"},
		{name: "one that has just failed comes after those that are out", hops: []*nextHop{a, b, c}, failed: a, want: "bca"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &route{upstreams: tc.hops}
			first := func(int) int { return 0 }
			if got := names(r.order(first, tc.failed)); got != tc.want {
				t.Errorf("got %s, expected %s", got, tc.want)
			}
		})
	}
}

// The draw decides among equals, by weight: of 0 to 5 the first is a's, the next two are b's and the last three c's.
func TestOrderDraws(t *testing.T) {
	r := &route{upstreams: []*nextHop{
		namedHop(t, "a", 0, 1, false), namedHop(t, "b", 0, 2, false), namedHop(t, "c", 0, 3, false), namedHop(t, "z", 1, 9, false),
	}}
	for drawn, want := range []string{"abcz", "bacz", "bacz", "cabz", "cabz", "cabz"} {
		sums := []int{}
		draw := func(n int) int {
			sums = append(sums, n)
			if len(sums) == 1 {
				return drawn
			}
			return 0
		}
		if got := names(r.order(draw, nil)); got != want || sums[0] != 6 {
			t.Errorf("%d drawn of %v: got %s, expected %s of 6", drawn, sums, got, want)
		}
	}
	// Whatever is drawn, each is there once.
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		got := names(r.order(random.IntN, nil))
		for _, name := range "abcz" {
			if strings.Count(got, string(name)) != 1 || len(got) != 4 {
				t.Fatalf("got %s", got)
			}
		}
	}
}

func BenchmarkOrder(b *testing.B) {
	for _, n := range []int{1, 2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := &route{}
			for range n {
				r.upstreams = append(r.upstreams, &nextHop{weight: 1, health: newHealth(Health{})})
			}
			for b.Loop() {
				r.order(rand.IntN, nil)
			}
		})
	}
}
