package proxy

import (
	"cmp"
	"slices"
)

// order gives the upstreams in the order in which a new connection tries them: those that are in use before those that
// are out; of these the lower priority first; of equal ones a draw by weight, as SRV records have it (RFC 2782). One
// that has just failed this delivery comes last. draw gives a number from 0 to below n.
func (r *route) order(draw func(n int) int, failed *nextHop) []*nextHop {
	if len(r.upstreams) == 1 {
		return r.upstreams
	}
	type candidate struct {
		hop  *nextHop
		rank int // what it lacks
	}
	all := make([]candidate, len(r.upstreams))
	for i, u := range r.upstreams {
		all[i].hop = u
		if !u.health.usable() {
			all[i].rank = 1
		}
		if u == failed {
			all[i].rank = 2
		}
	}
	level := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.hop.priority, b.hop.priority))
	}
	slices.SortStableFunc(all, level)
	order := make([]*nextHop, 0, len(all))
	for len(all) > 0 {
		same := 1
		for same < len(all) && level(all[0], all[same]) == 0 {
			same++
		}
		i := 0
		if same > 1 {
			i = pick(all[:same], func(c candidate) int { return c.hop.weight }, draw)
		}
		order = append(order, all[i].hop)
		all = slices.Delete(all, i, i+1)
	}
	return order
}

// pick draws one of a list by weight.
func pick[T any](list []T, weight func(T) int, draw func(n int) int) int {
	sum := 0
	for _, x := range list {
		sum += weight(x)
	}
	n := draw(sum)
	for i, x := range list {
		if n -= weight(x); n < 0 {
			return i
		}
	}
	return len(list) - 1
}
