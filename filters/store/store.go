// Package store keeps small state that expires: which messages were delivered, who is greylisted, how many messages an
// address sent this hour.
//
// A [Store] maps keys to values, each until a time of its own. There are two kinds, which behave alike: [Memory] forgets
// all when the process ends, [Bolt] keeps it in a file. Both are bounded: a store that is full drops the entries that would
// have expired next. So that a flood of one sort of entries (greylisting every sender of a botnet) does not push another
// sort out (the memory of deliveries), each sort has a space of its own, with its own bound: see [Spaces].
//
// Neither kind has a goroutine or a timer that looks for what has expired: an expired entry is never given out, and every
// write takes some of them away.
package store

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// A Store keeps values under keys until they expire. It is safe for concurrent use; every method acts atomically.
//
// Keys have 1 to [MaxKey] octets, values at most [MaxValue]; a time to live is above zero. Slices that are passed in are
// not kept, those that are returned are the caller's own.
type Store interface {
	// Get gives the value under key; ok is false where there is none. The value of a counter is its decimal number.
	Get(key []byte) (value []byte, ok bool, err error)
	// Put stores value under key for ttl, whatever was there.
	Put(key, value []byte, ttl time.Duration) error
	// PutIfAbsent stores value under key for ttl if nothing is there; otherwise it gives what is, and changes nothing.
	PutIfAbsent(key, value []byte, ttl time.Duration) (existing []byte, stored bool, err error)
	// Add adds n to the counter under key and gives the sum. The first Add makes the counter and sets when it expires;
	// further ones leave that as it is, so that the counter counts over a fixed window of ttl. A sum beyond the range
	// of int64 stays at its end. [ErrNotCounter] where key has a value from Put.
	Add(key []byte, n int64, ttl time.Duration) (int64, error)
	// Delete removes what is under key, if anything.
	Delete(key []byte) error
	// Apply makes several changes, in their order, as one: all of them or, on an error, none. In a file it costs one commit.
	Apply(changes []Change) error
	// Close ends the store: what is called afterwards fails with [ErrClosed]. On a space it does nothing.
	Close() error
}

// A Change is a Put or a Delete; see [Store].
type Change struct {
	Key    []byte
	Value  []byte
	TTL    time.Duration
	Delete bool // Value and TTL do not matter
}

// Spaces is a store with further ones within it, which share nothing but its file.
type Spaces interface {
	Store
	// Space gives the space of that name (1 to 32 octets out of a-z, 0-9, "-" and "_"), which holds at most max entries;
	// 0 means [DefaultMax]. Asked for again it is the same space, with the new bound.
	Space(name string, max int) (Store, error)
}

// Limits on what a store takes.
const (
	MaxKey     = 512      // octets
	MaxValue   = 16 << 10 // octets
	DefaultMax = 1_000_000
	maxSpaces  = 64
	maxTTL     = 10 * 365 * 24 * time.Hour // longer ones are cut
)

var (
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrNotCounter says that Add met a value that Put stored.
	ErrNotCounter = errors.New("the value is not a counter")
)

// Options are what both kinds of store need to know. The zero value is good.
type Options struct {
	Max int              // entries in the store itself, its spaces aside; 0 means DefaultMax
	Now func() time.Time // the clock; nil means time.Now
}

func (o Options) withDefaults() Options {
	if o.Max <= 0 {
		o.Max = DefaultMax
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func checkKey(key []byte) error {
	if len(key) < 1 || len(key) > MaxKey {
		return fmt.Errorf("store: a key of %d octets, expected 1 to %d", len(key), MaxKey)
	}
	return nil
}

func checkEntry(key, value []byte, ttl time.Duration) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("store: a value of %d octets, expected at most %d", len(value), MaxValue)
	}
	if ttl <= 0 {
		return fmt.Errorf("store: a time to live of %v, expected more than none", ttl)
	}
	return nil
}

func checkChanges(changes []Change) error {
	for _, c := range changes {
		err := checkKey(c.Key)
		if !c.Delete {
			err = checkEntry(c.Key, c.Value, c.TTL)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func checkSpace(name string) error {
	ok := 1 <= len(name) && len(name) <= 32
	for _, c := range []byte(name) {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		return fmt.Errorf("store: space %q, expected 1 to 32 octets out of a-z, 0-9, - and _", name)
	}
	return nil
}

// expiry gives when something stored now for ttl expires.
func expiry(now time.Time, ttl time.Duration) int64 {
	return now.Add(min(ttl, maxTTL)).UnixNano()
}

// addSaturated gives a+b, or the end of the range that it would pass.
func addSaturated(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}
