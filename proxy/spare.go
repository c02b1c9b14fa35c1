package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"postern/filters/store"
)

// A spared store keeps in the process what it can't write to its file: while the disk is full, what is in doubt stays
// so, and what was forgotten does not come back. An entry that was written again, or deleted, in the file leaves it.
type spared struct {
	store.Store
	spare store.Store
	used  atomic.Bool // something was ever put into spare
}

// spareKept bounds what is kept in the process.
const spareKept = 100_000

// The first octet of an entry in spare.
const (
	spareValue = 'v' // the value follows
	spareGone  = 'g' // the file may still have an entry, which counts for nothing
)

func newSpared(s store.Store) *spared {
	return &spared{Store: s, spare: store.NewMemory(store.Options{Max: spareKept})}
}

func (s *spared) Get(key []byte) (value []byte, ok bool, err error) {
	if s.used.Load() {
		kept, ok, err := s.spare.Get(key)
		switch {
		case err != nil:
			return nil, false, err
		case ok && kept[0] == spareGone:
			return nil, false, nil
		case ok:
			return kept[1:], true, nil
		}
	}
	return s.Store.Get(key)
}

// Put writes to the file. An error says that the entry is in the process only.
func (s *spared) Put(key, value []byte, ttl time.Duration) error {
	return s.Apply([]store.Change{{Key: key, Value: value, TTL: ttl}})
}

// Delete deletes from the file. An error says that the entry is gone in the process only.
func (s *spared) Delete(key []byte) error {
	return s.Apply([]store.Change{{Key: key, Delete: true}})
}

// Apply makes all changes in the file or, with an error, in the process only.
func (s *spared) Apply(changes []store.Change) error {
	failed := s.Store.Apply(changes)
	errs := []error{failed}
	for _, c := range changes {
		switch {
		case failed == nil:
			errs = append(errs, s.forget(c.Key))
		case c.Delete:
			errs = append(errs, s.keep(c.Key, []byte{spareGone}, keptFor))
		default:
			errs = append(errs, s.keep(c.Key, append([]byte{spareValue}, c.Value...), c.TTL))
		}
	}
	return errors.Join(errs...)
}

func (s *spared) keep(key, value []byte, ttl time.Duration) error {
	s.used.Store(true)
	return s.spare.Put(key, value, ttl)
}

func (s *spared) forget(key []byte) error {
	if !s.used.Load() {
		return nil
	}
	return s.spare.Delete(key)
}
