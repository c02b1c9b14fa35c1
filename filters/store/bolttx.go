package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"go.etcd.io/bbolt"
)

// The names of buckets and keys in the file; see [Bolt].
const bucketPrefix = "s:"

var (
	ownBucket     = []byte("postern")
	formatKey     = []byte("format")
	format        = []byte("1")
	entriesBucket = []byte("entries")
	expiryBucket  = []byte("expiry")
)

// The kinds of entries.
const (
	plain   = 'v'
	counter = 'n'
)

// record is an entry as the file has it.
type record struct {
	expires int64 // Unix nanoseconds
	kind    byte
	value   []byte // of a counter 8 octets, big-endian
}

const recordHeader = 9

var errRecord = errors.New("a record that is none")

func encodeCounter(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func (r record) number() int64 { return int64(binary.BigEndian.Uint64(r.value)) }

func (r record) encode() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, recordHeader+len(r.value)), uint64(r.expires))
	return append(append(out, r.kind), r.value...)
}

// decode reads what encode wrote. The value is a part of p.
func decode(p []byte) (record, error) {
	if len(p) < recordHeader {
		return record{}, errRecord
	}
	r := record{expires: int64(binary.BigEndian.Uint64(p)), kind: p[8], value: p[recordHeader:]}
	if r.expires < 0 || r.kind != plain && (r.kind != counter || len(r.value) != 8) {
		return record{}, errRecord
	}
	return r, nil
}

func expiryKey(expires int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)), uint64(expires)), key...)
}

// boltTx is one space within a transaction.
type boltTx struct {
	space   *boltSpace
	entries *bbolt.Bucket
	expiry  *bbolt.Bucket
	count   int  // entries, once the transaction is committed
	puts    int  // entries that the transaction wrote
	changed bool // the transaction wrote something
}

// begin opens s within tx, making its buckets where they are new.
func begin(tx *bbolt.Tx, s *boltSpace) (*boltTx, error) {
	t := &boltTx{space: s, count: s.count}
	b := tx.Bucket(s.bucket)
	if b == nil {
		var err error
		if b, err = tx.CreateBucket(s.bucket); err != nil {
			return nil, err
		}
		if _, err := b.CreateBucket(entriesBucket); err != nil {
			return nil, err
		}
		if _, err := b.CreateBucket(expiryBucket); err != nil {
			return nil, err
		}
		t.changed = true
	}
	t.entries, t.expiry = b.Bucket(entriesBucket), b.Bucket(expiryBucket)
	return t, nil
}

// live gives the entry under key unless it has expired. Its value is valid until the transaction ends or writes.
func (t *boltTx) live(key []byte) (r record, ok bool) {
	p := t.entries.Get(key)
	if p == nil {
		return record{}, false
	}
	r, err := decode(p)
	if err != nil || r.expires <= t.space.bolt.now().UnixNano() {
		return record{}, false
	}
	return r, true
}

// put writes r under key, to expire after ttl.
func (t *boltTx) put(key []byte, r record, ttl time.Duration) error {
	if err := t.remove(key); err != nil {
		return err
	}
	r.expires = expiry(t.space.bolt.now(), ttl)
	t.count++
	t.puts++
	if err := t.update(key, r); err != nil {
		return err
	}
	return t.expiry.Put(expiryKey(r.expires, key), nil)
}

// update writes r under key without changing when it expires.
func (t *boltTx) update(key []byte, r record) error {
	t.changed = true
	return t.entries.Put(key, r.encode())
}

// remove removes the entry under key, if there is one.
func (t *boltTx) remove(key []byte) error {
	p := t.entries.Get(key)
	if p == nil {
		return nil
	}
	if r, err := decode(p); err == nil {
		if err := t.expiry.Delete(expiryKey(r.expires, key)); err != nil {
			return err
		}
	}
	t.changed = true
	t.count--
	return t.entries.Delete(key)
}

// removeFirst removes up to max of the entries that expire next, of those that do by the time until.
func (t *boltTx) removeFirst(max int, until int64) error {
	c := t.expiry.Cursor()
	for k, _ := c.First(); k != nil && max > 0; k, _ = c.First() {
		if len(k) <= 8 {
			return errRecord
		}
		if int64(binary.BigEndian.Uint64(k)) > until {
			break
		}
		// The entry's own expiry is that of k: put and remove keep the two together, and verify has seen to the rest.
		if err := t.remove(bytes.Clone(k[8:])); err != nil {
			return err
		}
		max--
	}
	return nil
}

// verify walks through the whole file and counts the entries of each space, by the name of its bucket.
func verify(tx *bbolt.Tx) (map[string]int, error) {
	counts := make(map[string]int)
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if bytes.Equal(name, ownBucket) {
			return nil
		}
		if !bytes.HasPrefix(name, []byte(bucketPrefix)) || len(counts) >= maxSpaces {
			return fmt.Errorf("unexpected bucket %q", name)
		}
		n, err := verifySpace(b)
		if err != nil {
			return fmt.Errorf("bucket %q: %w", name, err)
		}
		counts[string(name)] = n
		return nil
	})
	return counts, err
}

// verifySpace checks that every entry can be read and stands in the order of expiry exactly once.
func verifySpace(b *bbolt.Bucket) (n int, err error) {
	entries, expiry := b.Bucket(entriesBucket), b.Bucket(expiryBucket)
	if entries == nil || expiry == nil {
		return 0, errors.New("a part of it is missing")
	}
	// Sums of hashes tell whether two sets are equal without holding either.
	seed := maphash.MakeSeed()
	var inEntries, inExpiry uint64
	err = entries.ForEach(func(key, value []byte) error {
		r, err := decode(value)
		inEntries += maphash.Bytes(seed, expiryKey(r.expires, key))
		n++
		return err
	})
	if err != nil {
		return 0, err
	}
	m := 0
	err = expiry.ForEach(func(key, _ []byte) error {
		inExpiry += maphash.Bytes(seed, key)
		m++
		return nil
	})
	if err == nil && (n != m || inEntries != inExpiry) {
		err = errors.New("entries and expiry differ")
	}
	return n, err
}
