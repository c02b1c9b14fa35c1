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
	if err := s.Store.Put(key, value, ttl); err != nil {
		return s.keep(err, key, append([]byte{spareValue}, value...), ttl)
	}
	return s.forget(key)
}

// Delete deletes from the file. An error says that the entry is gone in the process only.
func (s *spared) Delete(key []byte) error {
	if err := s.Store.Delete(key); err != nil {
		return s.keep(err, key, []byte{spareGone}, keptFor)
	}
	return s.forget(key)
}

func (s *spared) keep(cause error, key, value []byte, ttl time.Duration) error {
	s.used.Store(true)
	return errors.Join(cause, s.spare.Put(key, value, ttl))
}

func (s *spared) forget(key []byte) error {
	if !s.used.Load() {
		return nil
	}
	return s.spare.Delete(key)
}
