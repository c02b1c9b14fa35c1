package wire

import (
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
)

// A Rate knows how often clients did something within the last minute, by address and by network. Its zero value is ready for use.
//
// For each address it keeps one moment: the one at which its allowance will be whole again (the generic cell rate
// algorithm). A client that was quiet may use its allowance of a minute at once; from then on it has one more whenever a
// minute divided by the limit has passed. What is refused uses nothing up.
type Rate struct {
	mu    sync.Mutex
	whole *lru.LRU[netip.Prefix, int64] // Unix nanoseconds
}

// rateKept is of how many addresses and networks the rate is known; one takes some 150 octets. The ones that were silent longest are forgotten.
const rateKept = 50_000

// window is what limits are counted over.
const window = int64(time.Minute)

// Allow counts one occurrence more from the address, unless there were perIP from it, or perNet from its /24 (IPv4) or /64 (IPv6), within the minute.
func (r *Rate) Allow(a netip.Addr, perIP, perNet int, now time.Time) bool {
	own, err := a.WithZone("").Prefix(a.BitLen())
	if err != nil {
		return true // no address, no client to hold to anything
	}
	at := now.UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.whole == nil {
		// Its only error is that of a size below one.
		r.whole, _ = lru.NewLRU[netip.Prefix, int64](rateKept, nil)
	}
	net := network(a)
	ownWhole, ok := r.after(own, perIP, at)
	netWhole, netOK := r.after(net, perNet, at)
	if !ok || !netOK {
		return false
	}
	r.whole.Add(own, ownWhole)
	r.whole.Add(net, netWhole)
	return true
}

// after gives when the allowance will be whole again after one occurrence more; false if there is nothing left of it.
func (r *Rate) after(p netip.Prefix, limit int, now int64) (int64, bool) {
	whole, _ := r.whole.Get(p)
	// A moment further away than a minute is not of this clock: it was set back.
	if whole < now || whole > now+window {
		whole = now
	}
	whole += window / int64(max(limit, 1))
	return whole, whole <= now+window
}
