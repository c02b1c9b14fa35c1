package proxy

import (
	"slices"
	"strings"
	"sync"

	"postern/filters/dns"
)

// A lookupLog gathers the look-ups of concurrent checks.
type lookupLog struct {
	mu  sync.Mutex
	all []ScanLookup
}

func (l *lookupLog) add(found dns.Lookup) {
	entry := ScanLookup{Name: found.Name, Type: found.Type, Answer: found.Answer}
	if found.Err != nil {
		entry.Error = found.Err.Error()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, entry)
}

// list gives each look-up once, in an order that does not depend on which check came first.
func (l *lookupLog) list() []ScanLookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	compare := func(a, b ScanLookup) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Type, b.Type)
	}
	slices.SortStableFunc(l.all, compare)
	return slices.CompactFunc(l.all, func(a, b ScanLookup) bool { return compare(a, b) == 0 })
}
