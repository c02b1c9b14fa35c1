package logs

import (
	"slices"
	"testing"
	"time"
)

func TestListLookups(t *testing.T) {
	for _, tt := range []struct {
		list, reason string
		want         []ListLookup
	}{
		{list: "", reason: "no list was asked"},
		{list: "bl.example:12:listed,wl.example:0:clean", reason: "two lists", want: []ListLookup{
			{Zone: "bl.example", Took: 12 * time.Millisecond, Result: "listed"}, {Zone: "wl.example", Result: "clean"},
		}},
		{list: "a:-1:clean,b::clean,c:1,:1:clean,d:99999999999:clean,e:2:", reason: "what Postern does not write"},
	} {
		if got := slices.Collect(ListLookups(tt.list)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.reason, got, tt.want)
		}
	}
}
