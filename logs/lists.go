package logs

import (
	"iter"
	"strconv"
	"strings"
	"time"
)

// A ListLookup is what one DNS list was asked for one message, as the key dns_lists has it.
type ListLookup struct {
	Zone   string
	Took   time.Duration
	Result string // listed, clean, parked, timeout …
}

// ListLookups lists what stands in the key dns_lists, as zone:milliseconds:result with commas between.
func ListLookups(list string) iter.Seq[ListLookup] {
	return func(yield func(ListLookup) bool) {
		for part := range strings.SplitSeq(list, ",") {
			zone, rest, _ := strings.Cut(part, ":")
			took, result, _ := strings.Cut(rest, ":")
			ms, err := strconv.ParseInt(took, 10, 32)
			if zone == "" || result == "" || err != nil || ms < 0 {
				continue
			}
			if !yield(ListLookup{Zone: zone, Took: time.Duration(ms) * time.Millisecond, Result: result}) {
				return
			}
		}
	}
}
