package dns

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache keeps answers until they expire, and throws the least recently used ones out beyond its bounds of entries and of
// memory. A nil *cache keeps nothing.
type cache struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[question, entry]
	size  int64 // of all entries, estimated octets
	bound int64
}

type entry struct {
	answer
	expires time.Time
}

// anyType is the type under which "does not exist" is kept, which holds for every type of a name (RFC 2308, section 5).
const anyType = 0

// entryCost is what an entry costs beside its name and answer: list element, map slot, slice headers. In octets.
const entryCost = 320

func newCache(entries int, bytes int64) (*cache, error) {
	if entries < 0 {
		return nil, nil
	}
	c := &cache{bound: bytes}
	lru, err := simplelru.NewLRU(entries, func(q question, e entry) { c.size -= cost(q, &e.answer) })
	if err != nil {
		return nil, err
	}
	c.lru = lru
	return c, nil
}

func cost(q question, a *answer) int64 { return entryCost + int64(len(q.name)) + a.size() }

// get gives the answer to q if it is known at the time now.
func (c *cache) get(q question, now time.Time) (answer, bool) {
	if c == nil {
		return answer{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.live(q, now); ok {
		return a, true
	}
	return c.live(question{name: q.name, qtype: anyType}, now)
}

func (c *cache) live(q question, now time.Time) (answer, bool) {
	e, ok := c.lru.Get(q)
	if !ok {
		return answer{}, false
	}
	if !now.Before(e.expires) {
		c.lru.Remove(q)
		return answer{}, false
	}
	return e.answer, true
}

// put keeps a for its ttl, counted from now.
func (c *cache) put(q question, a answer, now time.Time) {
	if c == nil || a.ttl <= 0 {
		return
	}
	if a.kind == NotExist {
		q.qtype = anyType
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(q) // so that the callback takes off what it cost
	c.size += cost(q, &a)
	c.lru.Add(q, entry{answer: a, expires: now.Add(a.ttl)})
	for c.size > c.bound && c.lru.Len() > 1 {
		c.lru.RemoveOldest()
	}
}

// clamp brings a's TTL into the bounds of cfg.
func (cfg *Config) clamp(a *answer) {
	switch a.kind {
	case 0:
		a.ttl = min(max(a.ttl, cfg.MinTTL), cfg.MaxTTL)
	case NotExist, NoData:
		a.ttl = min(max(a.ttl, cfg.MinTTL), cfg.MaxNegativeTTL)
	default:
		a.ttl = cfg.FailTTL
	}
}
