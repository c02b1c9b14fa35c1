package filters

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
)

// A ListCost is what the look-ups at one DNS list came to.
type ListCost struct {
	Zone   string
	Took   time.Duration // the longest
	Result string        // the first of listResults among theirs
}

// listResults are the words for how a look-up can end, what matters most to somebody who looks after lists first.
var listResults = []string{"listed", "parked", "refused", "servfail", "timeout", "failed", "budget", "offline", "untested", "cancelled", "clean"}

// result is the word for an answer.
func (a *DNSBLAnswer) result() string {
	switch {
	case a.Parked != "":
		return "parked"
	case a.untested:
		return "untested"
	case a.Err != nil:
		return dns.Reason(a.Err)
	case len(a.Codes) > 0:
		return "listed"
	}
	return "clean"
}

// listCosts gathers the costs of a [Run], from all its checks at once.
type listCosts struct {
	mu  sync.Mutex
	all []ListCost
}

type listCostsKey struct{}

// noteList charges an answer to the run that ctx belongs to.
func noteList(ctx context.Context, a DNSBLAnswer) {
	costs, ok := ctx.Value(listCostsKey{}).(*listCosts)
	if !ok {
		return
	}
	costs.mu.Lock()
	defer costs.mu.Unlock()
	costs.all = addList(costs.all, ListCost{Zone: a.Zone, Took: a.Took, Result: a.result()})
}

// take gives what was gathered since it was last taken.
func (c *listCosts) take() []ListCost {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.all
	c.all = nil
	return all
}

// addList keeps the costs ordered by zone, each zone once.
func addList(all []ListCost, c ListCost) []ListCost {
	at, known := slices.BinarySearchFunc(all, c.Zone, func(l ListCost, zone string) int { return strings.Compare(l.Zone, zone) })
	if !known {
		return slices.Insert(all, at, c)
	}
	all[at].Took = max(all[at].Took, c.Took)
	if slices.Index(listResults, c.Result) < slices.Index(listResults, all[at].Result) {
		all[at].Result = c.Result
	}
	return all
}

func mergedLists(a, b []ListCost) []ListCost {
	if len(a) == 0 {
		return b
	}
	all := slices.Clone(a)
	for _, c := range b {
		all = addList(all, c)
	}
	return all
}
