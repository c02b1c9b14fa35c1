package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockWait is how long to wait for another process to let go of the file.
const lockWait = time.Second

// errCorrupt says that a file cannot be used and never will be.
var errCorrupt = errors.New("the file is corrupt")

// OpenBolt opens the store in the file path, which it makes, readable for its owner only, where there is none.
//
// A corrupt file is moved aside, to "path.corrupt-" and the Unix time, and a new one begun; then note says so, for the log.
// A file that another process uses, that another program or a later Postern wrote, and one that cannot be read, is left
// alone and is an error.
func OpenBolt(path string, o BoltOptions) (b *Bolt, note string, err error) {
	o.Options = o.withDefaults()
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, "", fmt.Errorf("store: %s is not a file", path)
	}
	db, counts, err := openFile(path, o)
	if errors.Is(err, errCorrupt) {
		aside := fmt.Sprintf("%s.corrupt-%d", path, o.Now().Unix())
		if rerr := os.Rename(path, aside); rerr != nil {
			return nil, "", fmt.Errorf("store: %w, and it can't be moved aside: %w", err, rerr)
		}
		note = fmt.Sprintf("store %s: %v; it was moved to %s and an empty one begun", path, err, aside)
		db, counts, err = openFile(path, o)
	}
	if err != nil {
		return nil, "", fmt.Errorf("store: %s: %w", path, err)
	}
	b = &Bolt{
		db: db, now: o.Now,
		ops:    make(chan *boltOp),
		quit:   make(chan struct{}),
		spaces: make(map[string]*boltSpace),
	}
	for bucket, n := range counts {
		b.spaces[bucket[len(bucketPrefix):]] = &boltSpace{bolt: b, bucket: []byte(bucket), count: n, max: DefaultMax}
	}
	b.writer.Go(b.serveWrites)
	own, err := b.space("", o.Max)
	if err != nil {
		b.Close()
		return nil, "", err
	}
	b.boltSpace = own
	return b, note, nil
}

// openFile opens the file and looks through all of it, so that what is corrupt is found now. counts gives the entries of
// each space, by the name of its bucket.
func openFile(path string, o BoltOptions) (db *bbolt.DB, counts map[string]int, err error) {
	var file *os.File
	options := &bbolt.Options{
		Timeout:      lockWait,
		NoSync:       !o.Sync,
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	}
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	if err != nil {
		if db == nil && file != nil {
			file.Close() // after a panic nobody else does
		}
		return nil, nil, classify(err)
	}
	if counts, err = walk(db); err == nil && counts == nil {
		err = guard(func() error { return db.Update(prepare) })
	}
	if err == nil {
		return db, counts, nil
	}
	if cerr := guard(db.Close); cerr != nil {
		err = fmt.Errorf("%w; closing it: %v", err, cerr)
	}
	return nil, nil, err
}

// walk checks whose file this is and verifies all of it; what it finds wrong there is errCorrupt. A new file has nil counts.
func walk(db *bbolt.DB) (counts map[string]int, err error) {
	err = guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			if isNew, err := checkFormat(tx); err != nil || isNew {
				return err
			}
			c, err := verify(tx)
			if err != nil {
				return fmt.Errorf("%w: %w", errCorrupt, err)
			}
			counts = c
			return nil
		})
	})
	return counts, err
}

func checkFormat(tx *bbolt.Tx) (isNew bool, err error) {
	own := tx.Bucket(ownBucket)
	if own == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return false, errors.New("the file is the database of another program")
		}
		return true, nil
	}
	if f := own.Get(formatKey); !bytes.Equal(f, format) {
		return false, fmt.Errorf("the file has the format %q, expected %q: another version of Postern wrote it", f, format)
	}
	return false, nil
}

// prepare writes the format into a new file.
func prepare(tx *bbolt.Tx) error {
	own, err := tx.CreateBucket(ownBucket)
	if err != nil {
		return err
	}
	return own.Put(formatKey, format)
}

// classify gives the errors of opening a file the words that a user needs.
func classify(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return errors.New("another process uses it")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return err
}
