package store

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Bolt is a store in a file of bbolt, a B+tree in a memory map.
//
// What a method has written when it returns survives the death of the process, a kill included. Whether it survives the
// death of the machine is the choice of [BoltOptions].Sync. Writes that come at the same time share one commit, so that
// load does not mean a commit for each.
//
// The layout: a bucket "postern" with the format's version, and for each space a bucket "s:" and its name (without one for
// the store itself). That holds two more: "entries" has expiry (8 octets, big-endian Unix nanoseconds), kind (1 octet) and
// value by key; "expiry" has empty values by expiry and key, so that what expires next comes first.
type Bolt struct {
	*boltSpace
	db  *bbolt.DB
	now func() time.Time

	ops    chan *boltOp
	quit   chan struct{} // closed by Close
	writer sync.WaitGroup
	once   sync.Once
	ended  error // what the first Close returned

	spacesMu sync.Mutex
	spaces   map[string]*boltSpace // by name; "" is the store itself
}

var (
	_ Spaces = (*Bolt)(nil)
	_ Store  = (*boltSpace)(nil)
)

// BoltOptions are the options of [OpenBolt].
type BoltOptions struct {
	Options
	// Sync has every commit flushed to the disk before the writes in it return: they survive a power failure. Without
	// it the operating system writes in its own time, which is far quicker; after a power failure the file may have
	// lost the latest writes or be corrupt, and in that case it is moved aside at the next start.
	Sync bool
}

// maxBatch is how many writes share one commit at most.
const maxBatch = 512

// boltSpace is one space of a Bolt.
type boltSpace struct {
	bolt   *Bolt
	bucket []byte // its name in the file

	// These belong to the goroutine that writes.
	count int // entries

	mu  sync.Mutex
	max int
}

func (s *boltSpace) bound() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.max
}

// Space gives the space of that name; see [Spaces].
func (b *Bolt) Space(name string, max int) (Store, error) {
	if err := checkSpace(name); err != nil {
		return nil, err
	}
	return b.space(name, max)
}

func (b *Bolt) space(name string, max int) (*boltSpace, error) {
	if max <= 0 {
		max = DefaultMax
	}
	b.spacesMu.Lock()
	defer b.spacesMu.Unlock()
	if s, ok := b.spaces[name]; ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.max = max
		return s, nil
	}
	if len(b.spaces) >= maxSpaces {
		return nil, fmt.Errorf("store: more than %d spaces", maxSpaces)
	}
	s := &boltSpace{bolt: b, bucket: []byte(bucketPrefix + name), max: max}
	err := b.write(s, func(*boltTx) error { return nil }) // makes the buckets, or counts what they hold
	if err != nil {
		return nil, err
	}
	b.spaces[name] = s
	return s, nil
}

// Close writes what is under way, flushes the file to the disk and closes it.
func (b *Bolt) Close() error {
	b.once.Do(func() {
		close(b.quit)
		b.writer.Wait()
		b.ended = errors.Join(b.db.Sync(), b.db.Close())
	})
	return b.ended
}

// Close does nothing: a space ends with its store.
func (s *boltSpace) Close() error { return nil }

// Get gives the value under key.
func (s *boltSpace) Get(key []byte) (value []byte, ok bool, err error) {
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	err = guard(func() error {
		return s.bolt.db.View(func(tx *bbolt.Tx) error {
			r, found := (&boltTx{space: s, entries: tx.Bucket(s.bucket).Bucket(entriesBucket)}).live(key)
			value, ok = r.text(), found
			return nil
		})
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		err = ErrClosed
	}
	if err != nil {
		return nil, false, err
	}
	return value, ok, nil
}

// Put stores value under key for ttl.
func (s *boltSpace) Put(key, value []byte, ttl time.Duration) error {
	if err := checkEntry(key, value, ttl); err != nil {
		return err
	}
	return s.bolt.write(s, func(tx *boltTx) error { return tx.put(key, record{kind: plain, value: value}, ttl) })
}

// PutIfAbsent stores value under key for ttl if nothing is there.
func (s *boltSpace) PutIfAbsent(key, value []byte, ttl time.Duration) (existing []byte, stored bool, err error) {
	if err := checkEntry(key, value, ttl); err != nil {
		return nil, false, err
	}
	err = s.bolt.write(s, func(tx *boltTx) error {
		r, ok := tx.live(key)
		existing, stored = r.text(), !ok
		if ok {
			return nil
		}
		return tx.put(key, record{kind: plain, value: value}, ttl)
	})
	if err != nil {
		return nil, false, err
	}
	return existing, stored, nil
}

// Add adds n to the counter under key.
func (s *boltSpace) Add(key []byte, n int64, ttl time.Duration) (sum int64, err error) {
	if err := checkEntry(key, nil, ttl); err != nil {
		return 0, err
	}
	refused := false
	err = s.bolt.write(s, func(tx *boltTx) error {
		r, ok := tx.live(key)
		refused = false
		switch {
		case !ok:
			sum = n
			return tx.put(key, record{kind: counter, value: encodeCounter(n)}, ttl)
		case r.kind != counter:
			refused = true
			return nil
		}
		sum = addSaturated(r.number(), n)
		return tx.update(key, record{kind: counter, value: encodeCounter(sum), expires: r.expires})
	})
	switch {
	case err != nil:
		return 0, err
	case refused:
		return 0, ErrNotCounter
	}
	return sum, nil
}

// Delete removes what is under key.
func (s *boltSpace) Delete(key []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return s.bolt.write(s, func(tx *boltTx) error { return tx.remove(key) })
}

// Apply makes several changes in one commit.
func (s *boltSpace) Apply(changes []Change) error {
	if err := checkChanges(changes); err != nil || len(changes) == 0 {
		return err
	}
	return s.bolt.write(s, func(tx *boltTx) error {
		for _, c := range changes {
			var err error
			if c.Delete {
				err = tx.remove(c.Key)
			} else {
				err = tx.put(c.Key, record{kind: plain, value: c.Value}, c.TTL)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// boltOp is a write on its way to the goroutine that writes.
type boltOp struct {
	space *boltSpace
	do    func(*boltTx) error // an error undoes the whole commit; it may run again in another one
	done  chan error
}

// write has do run in a transaction and waits until that is committed.
func (b *Bolt) write(s *boltSpace, do func(*boltTx) error) error {
	op := &boltOp{space: s, do: do, done: make(chan error, 1)}
	select {
	case b.ops <- op:
		return <-op.done
	case <-b.quit:
		return ErrClosed
	}
}

// serveWrites is the goroutine that writes: while one commit is under way, the writes for the next one gather.
func (b *Bolt) serveWrites() {
	for {
		var batch []*boltOp
		select {
		case op := <-b.ops:
			batch = append(batch, op)
		case <-b.quit:
			return
		}
	gather:
		for len(batch) < maxBatch {
			select {
			case op := <-b.ops:
				batch = append(batch, op)
			default:
				break gather
			}
		}
		b.commit(batch)
	}
}

// commit does a batch in one transaction; where that fails, each write in one of its own, so that it fails alone.
func (b *Bolt) commit(batch []*boltOp) {
	err := b.transact(batch)
	if err != nil && len(batch) > 1 {
		for _, op := range batch {
			op.done <- b.transact([]*boltOp{op})
		}
		return
	}
	for _, op := range batch {
		op.done <- err
	}
}

// errUnchanged undoes a transaction in which nothing was written, which is cheaper than to commit it.
var errUnchanged = errors.New("nothing was written")

func (b *Bolt) transact(batch []*boltOp) error {
	txs := make(map[*boltSpace]*boltTx)
	err := guard(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error {
			for _, op := range batch {
				t, ok := txs[op.space]
				if !ok {
					var err error
					if t, err = begin(tx, op.space); err != nil {
						return err
					}
					txs[op.space] = t
				}
				if err := op.do(t); err != nil {
					return err
				}
			}
			changed := false
			for _, t := range txs {
				if err := t.shrink(); err != nil {
					return err
				}
				changed = changed || t.changed
			}
			if !changed {
				return errUnchanged
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, errUnchanged):
		err = nil
	case err != nil:
		return fmt.Errorf("store: %w", err)
	}
	for s, t := range txs {
		s.count = t.count
	}
	return nil
}

// guard turns a panic, and a fault in the memory map, into an error: bbolt does both where the file is corrupt or its disk
// fails.
func guard(do func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, p)
		}
	}()
	return do()
}

// text is what Get gives.
func (r record) text() []byte {
	if r.kind == counter {
		return strconv.AppendInt(nil, r.number(), 10)
	}
	return append([]byte(nil), r.value...)
}

// shrinkStep is how many expired entries a commit removes at least, if there are as many.
const shrinkStep = 16

// shrink removes entries that have expired, and what is too much.
func (t *boltTx) shrink() error {
	if !t.changed && t.count <= t.space.bound() {
		return nil
	}
	if err := t.removeFirst(shrinkStep+2*t.puts, t.space.bolt.now().UnixNano()); err != nil {
		return err
	}
	return t.removeFirst(t.count-t.space.bound(), math.MaxInt64)
}
