package logs

import (
	"cmp"
	"math/bits"
	"slices"
)

// A top counts keys that strangers choose, in bounded memory: when it holds twice as many as it may, the half that was
// seen least is forgotten. What stays counts at most floor too few.
type top[V any] struct {
	keep    int
	floor   int
	entries map[string]*ranked[V]
}

// A ranked is one key of a top.
type ranked[V any] struct {
	key   string
	count int
	more  V
}

func newTop[V any](keep int) *top[V] {
	return &top[V]{keep: keep, entries: make(map[string]*ranked[V])}
}

// add counts a key n times and gives its entry.
func (t *top[V]) add(key []byte, n int) *ranked[V] {
	e := t.entries[string(key)]
	if e == nil {
		if len(t.entries) >= 2*t.keep {
			t.prune()
		}
		e = &ranked[V]{key: string(key)}
		t.entries[e.key] = e
	}
	e.count += n
	return e
}

func (t *top[V]) prune() {
	for _, e := range t.ranking(0)[t.keep:] {
		t.floor = max(t.floor, e.count)
		delete(t.entries, e.key)
	}
}

// ranking lists the n that were seen most, all for 0.
func (t *top[V]) ranking(n int) []*ranked[V] {
	list := make([]*ranked[V], 0, len(t.entries))
	for _, e := range t.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *ranked[V]) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.key, b.key))
	})
	if n > 0 && len(list) > n {
		list = list[:n]
	}
	return list
}

// A Count is a key and how often it was seen.
type Count struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

func counts[V any](t *top[V], n int) []Count {
	list := []Count{}
	for _, e := range t.ranking(n) {
		list = append(list, Count{Name: e.key, Count: e.count})
	}
	return list
}

// A histogram of milliseconds: exact below 16, then 8 steps to each doubling, so that a percentile is at most an
// eighth too high.
type histogram struct {
	n       int
	buckets [320]int
	max     int64
}

func (h *histogram) add(ms int64) {
	ms = max(ms, 0)
	h.n++
	h.max = max(h.max, ms)
	h.buckets[min(bucket(ms), len(h.buckets)-1)]++
}

func bucket(ms int64) int {
	if ms < 16 {
		return int(ms)
	}
	shift := bits.Len64(uint64(ms)) - 4
	return 8*shift + int(ms>>shift)
}

// ceiling is the highest value of a bucket.
func ceiling(b int) int64 {
	if b < 16 {
		return int64(b)
	}
	shift := b/8 - 1
	return (int64(b-8*shift)+1)<<shift - 1
}

// percentile is the value that p of a hundred do not exceed.
func (h *histogram) percentile(p int) int64 {
	rank := (h.n*p + 99) / 100
	for b, n := range h.buckets {
		if rank -= n; rank <= 0 && h.n > 0 {
			return min(ceiling(b), h.max)
		}
	}
	return h.max
}

// A Latency is how long something took, in milliseconds.
type Latency struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	P50   int64  `json:"ms_p50"`
	P90   int64  `json:"ms_p90"`
	P99   int64  `json:"ms_p99"`
	Max   int64  `json:"ms_max"`
}

func (h *histogram) latency(name string) Latency {
	return Latency{Name: name, Count: h.n, P50: h.percentile(50), P90: h.percentile(90), P99: h.percentile(99), Max: h.max}
}
