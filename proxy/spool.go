package proxy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// A spool holds one message while it is judged and forwarded: in memory up to a bound, beyond it in a temporary file
// that has no name any more when the first byte is written to it, so that nothing is left behind whatever happens.
//
// In memory it lies in chunks that are used again for the next message. A check that has run out of time may still be
// reading when the message is done with: from then on it gets an error, never another message's bytes.
type spool struct {
	bounds  spoolBounds
	size    int64
	charged int64
	kept    int64     // of what bounds.kept counts, ours
	hash    hash.Hash // of what has been read

	mu     sync.RWMutex // of what follows, once the message is whole
	chunks []*spoolChunk
	file   *os.File
	closed bool
}

// spoolBounds are the limits that a spool obeys.
type spoolBounds struct {
	memory  int64         // bytes of one message kept in memory
	message int64         // bytes of one message
	total   int64         // bytes of all messages under way
	used    *atomic.Int64 // bytes of all messages under way now
	room    int64         // bytes of memory for all messages under way; what does not find room there goes to a file at once
	kept    *atomic.Int64 // bytes of memory that they have now
	dir     string        // where temporary files go; "" for the system's place
}

// What can be wrong with a message's size.
var (
	errTooLarge  = errors.New("message is larger than the limit")
	errSpoolFull = errors.New("no room to spool the message")
	errOffset    = errors.New("reading a message before its start")
)

// spoolFrom reads r to its end. On an error nothing is kept. When the message is larger than allowed the rest of r is
// left unread.
func spoolFrom(r io.Reader, b spoolBounds) (*spool, error) {
	s := &spool{bounds: b, hash: sha256.New()}
	if err := s.fill(r); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// spoolStep is what a message is charged in.
const spoolStep = 32 << 10

// A spoolChunk is a piece of a message in memory; all but the last are full. Most messages need no second one.
type spoolChunk [16 << 10]byte

var spoolChunks = sync.Pool{New: func() any { return new(spoolChunk) }}

func (s *spool) fill(r io.Reader) error {
	for {
		if err := s.charge(spoolStep); err != nil {
			return err
		}
		n, err := s.readChunk(r)
		s.size += int64(n)
		switch {
		case s.size > s.bounds.message:
			return errTooLarge
		case err == io.EOF: // the reader of DATA says so only after the final dot
			return nil
		case err != nil:
			return err
		}
	}
}

// readChunk reads once into memory, or, beyond the bound, through a chunk into the file.
func (s *spool) readChunk(r io.Reader) (int, error) {
	if s.file == nil && s.size < s.bounds.memory && s.grow() {
		room := s.chunks[len(s.chunks)-1][s.size%int64(len(spoolChunk{})):]
		n, err := r.Read(room)
		s.hash.Write(room[:n])
		return n, err
	}
	if err := s.open(); err != nil {
		return 0, err
	}
	buf := spoolChunks.Get().(*spoolChunk)
	defer spoolChunks.Put(buf)
	n, err := r.Read(buf[:])
	s.hash.Write(buf[:n])
	if n > 0 {
		if _, werr := s.file.Write(buf[:n]); werr != nil {
			return 0, fullOr(werr)
		}
	}
	return n, err
}

// grow makes room in memory for the next read; false if there is none to be had.
func (s *spool) grow() bool {
	const size = int64(len(spoolChunk{}))
	if s.size < size*int64(len(s.chunks)) {
		return true
	}
	if s.bounds.kept.Add(size) > s.bounds.room {
		s.bounds.kept.Add(-size)
		return false
	}
	s.chunks, s.kept = append(s.chunks, spoolChunks.Get().(*spoolChunk)), s.kept+size
	return true
}

// open makes the file, unlinks it and moves the bytes in memory to it.
func (s *spool) open() error {
	if s.file != nil {
		return nil
	}
	f, err := os.CreateTemp(s.bounds.dir, "postern-spool-*")
	if err != nil {
		return fullOr(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlinking the spool file: %w", err)
	}
	s.file = f
	left := s.size
	for _, c := range s.chunks {
		n := min(left, int64(len(c)))
		if _, err := f.Write(c[:n]); err != nil {
			return fullOr(err)
		}
		left -= n
	}
	s.recycle()
	return nil
}

// recycle gives the memory back.
func (s *spool) recycle() {
	s.bounds.kept.Add(-s.kept)
	s.kept = 0
	for _, c := range s.chunks {
		spoolChunks.Put(c)
	}
	s.chunks = nil
}

// fullOr tells a full disk from other failures.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("%w: %w", errSpoolFull, err)
	}
	return fmt.Errorf("spooling: %w", err)
}

// charge books bytes before they are read, when those booked are used up.
func (s *spool) charge(n int64) error {
	if s.size+n <= s.charged {
		return nil
	}
	s.charged += n
	if s.bounds.used.Add(n) > s.bounds.total {
		return errSpoolFull
	}
	return nil
}

// Size is the message's length in bytes.
func (s *spool) Size() int64 { return s.size }

// Sum is the message's SHA-256.
func (s *spool) Sum() []byte { return s.hash.Sum(nil) }

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.closed:
		return 0, os.ErrClosed
	case s.file != nil:
		return s.file.ReadAt(p, off)
	case off < 0:
		return 0, errOffset
	}
	n := 0
	for n < len(p) && off < s.size {
		c := s.chunks[off/int64(len(spoolChunk{}))]
		at := off % int64(len(c))
		took := copy(p[n:], c[at:min(int64(len(c)), at+s.size-off)])
		n, off = n+took, off+int64(took)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close gives back what the message used. It may be called more than once.
func (s *spool) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bounds.used.Add(-s.charged)
	s.charged, s.closed = 0, true
	s.recycle()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}
