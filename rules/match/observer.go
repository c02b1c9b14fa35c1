package match

import (
	"sync"
	"unicode/utf8"
)

// An observer gathers what the groups report of a text.
type observer struct {
	scan *Scan
	// By segment, the place after which it was last seen where those before it had been seen; 0: not in this text.
	seen []int
	// By chain, its last window and how many it has.
	last []tail
}

type tail struct{ window, count int32 }

// observers are used again, as they are larger than most texts.
var observers = sync.Pool{New: func() any { return new(observer) }}

func (o *observer) begin(r *Scan) {
	o.scan = r
	if len(r.set.chains) == 0 {
		return
	}
	if cap(o.seen) < r.set.marks {
		o.seen = make([]int, r.set.marks)
	}
	if cap(o.last) < len(r.set.chains) {
		o.last = make([]tail, len(r.set.chains))
	}
	o.seen, o.last = o.seen[:r.set.marks], o.last[:len(r.set.chains)]
	clear(o.seen)
	clear(o.last)
}

func (o *observer) end() {
	o.scan = nil
	observers.Put(o)
}

func (o *observer) complete(number uint32, end int) bool {
	r := o.scan
	rep := r.set.reports[number]
	n := rep.pattern
	if r.yes[n/64]&(1<<(n%64)) != 0 {
		return true
	}
	if rep.chain < 0 {
		r.yes[n/64] |= 1 << (n % 64)
		r.hits = append(r.hits, hit{pattern: int(n), end: end})
		return true
	}
	o.advance(rep, end)
	return true
}

// advance notes a segment, and after the last of its chain a window.
func (o *observer) advance(rep report, end int) {
	r := o.scan
	c := r.set.chains[rep.chain]
	if len(c.within) == 0 {
		return // it is tried on every text
	}
	k := int(rep.segment)
	if k > 0 {
		before := o.seen[c.mark+k-1]
		if before == 0 || c.within[k] != unbounded && end+1-before > c.within[k] {
			return
		}
	}
	o.seen[c.mark+k] = end + 1
	if k+1 < len(c.within) {
		return
	}
	w := window{chain: rep.chain, from: max(0, end-c.before), to: min(len(r.text), end+c.after+utf8.UTFMax)} // and the character that decides whether it ends there
	if w.from > 0 {
		w.from = runeStart(r.text, w.from)
	}
	r.open[rep.pattern/64] |= 1 << (rep.pattern % 64)
	last := &o.last[rep.chain]
	if last.count > 0 {
		if prev := &r.windows[last.window]; w.from <= prev.to || last.count == maxWindows {
			prev.from, prev.to = min(prev.from, w.from), max(prev.to, w.to)
			return
		}
	}
	last.window = int32(len(r.windows))
	last.count++
	r.windows = append(r.windows, w)
}
