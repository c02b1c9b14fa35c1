package proxy

import (
	"errors"
	"testing"
	"time"

	"postern/filters/store"
)

// A fullDisk is a store that can be read but, while it is full, not written.
type fullDisk struct {
	store.Store
	full bool
}

var errNoRoom = errors.New("no space left on device")

func (d *fullDisk) Apply(changes []store.Change) error {
	if d.full {
		return errNoRoom
	}
	return d.Store.Apply(changes)
}

// What can't be written while the disk is full is known all the same; it is told each time, and over when there is room.
func TestSpared(t *testing.T) {
	disk := &fullDisk{Store: store.NewMemory(store.Options{})}
	s := newSpared(disk)
	want := func(key, value string) {
		t.Helper()
		got, ok, err := s.Get([]byte(key))
		if err != nil || string(got) != value || ok != (value != "") {
			t.Errorf("%s: got %q, %v, %v; want %q", key, got, ok, err, value)
		}
	}
	put := func(key, value string, fails bool) {
		t.Helper()
		if err := s.Put([]byte(key), []byte(value), time.Hour); errors.Is(err, errNoRoom) != fails || (err != nil) != fails {
			t.Errorf("put %s: %v, want failure %v", key, err, fails)
		}
	}
	put("old", "1", false)
	put("changed", "1", false)
	disk.full = true
	put("new", "2", true)
	put("changed", "2", true)
	if err := s.Delete([]byte("old")); !errors.Is(err, errNoRoom) {
		t.Errorf("delete: %v", err)
	}
	want("new", "2")
	want("changed", "2")
	want("old", "")

	disk.full = false
	want("old", "")
	want("new", "2")
	put("old", "3", false)
	want("old", "3")
	if err := s.Delete([]byte("new")); err != nil {
		t.Error(err)
	}
	want("new", "")
	put("changed", "4", false)
	want("changed", "4")

	// Several at once, which the disk takes or does not take together.
	disk.full = true
	both := []store.Change{{Key: []byte("changed"), Delete: true}, {Key: []byte("new"), Value: []byte("5"), TTL: time.Hour}}
	if err := s.Apply(both); !errors.Is(err, errNoRoom) {
		t.Errorf("apply: %v", err)
	}
	want("changed", "")
	want("new", "5")
	disk.full = false
	if err := s.Apply(both); err != nil {
		t.Error(err)
	}
	want("changed", "")
	want("new", "5")
}
