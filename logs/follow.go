package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// followEvery is how often a file is looked at for more.
const followEvery = 250 * time.Millisecond

// A follower reads a file that grows.
type follower struct {
	name    string
	file    *os.File
	read    int64
	pending []byte // of a line whose end has not come
	long    bool   // it is too long, and passed over
	visit   func(*Record)
	rec     Record
}

// Follow gives the last lines of a log to visit, and then each that is added, until ctx ends. A file that is moved away or cut
// short, as by rotation, is read to its end, and the new one from its beginning.
func Follow(ctx context.Context, name string, last int, visit func(*Record)) error {
	f := &follower{name: name, visit: visit}
	defer f.close()
	if err := f.open(); err != nil {
		return err
	}
	if err := f.backTo(last); err != nil {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if err := f.more(); err != nil {
			return err
		}
		if err := f.turn(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *follower) open() error {
	file, err := os.Open(f.name)
	if err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	f.close()
	f.file, f.read, f.pending, f.long = file, 0, nil, false
	return nil
}

func (f *follower) close() {
	if f.file != nil {
		f.file.Close()
	}
}

// backTo goes to where the last n lines begin.
func (f *follower) backTo(n int) error {
	size, err := f.file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if n == 0 {
		f.read = size
		return nil
	}
	const step = 64 << 10
	buf := make([]byte, step)
	at, found := size, 0
	for at > 0 {
		from := max(0, at-step)
		piece := buf[:at-from]
		if _, err := f.file.ReadAt(piece, from); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		for i := len(piece) - 1; i >= 0; i-- {
			if piece[i] != '\n' || from+int64(i) == size-1 {
				continue
			}
			if found++; found >= n {
				f.read = from + int64(i) + 1
				return nil
			}
		}
		at = from
	}
	return nil
}

// more gives what has been added.
func (f *follower) more() error {
	if _, err := f.file.Seek(f.read, io.SeekStart); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	in := bufio.NewReaderSize(f.file, 64<<10)
	for {
		piece, err := in.ReadSlice('\n')
		f.read += int64(len(piece))
		f.take(piece)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
}

// take adds to the line that is being read, and gives it when its end has come.
func (f *follower) take(piece []byte) {
	if f.long = f.long || len(f.pending)+len(piece) > maxLine; !f.long {
		f.pending = append(f.pending, piece...)
	}
	if !bytes.HasSuffix(piece, []byte("\n")) {
		return
	}
	if !f.long && f.rec.parse(f.pending) {
		f.visit(&f.rec)
	}
	f.pending, f.long = f.pending[:0], false
}

// turn goes over to the file that has taken the place of this one, or to the beginning of one that was cut short.
func (f *follower) turn() error {
	now, err := os.Stat(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // moved away, and not yet made anew
	}
	if err != nil {
		return fmt.Errorf("cannot look at the log: %w", err)
	}
	open, err := f.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	switch {
	case !os.SameFile(now, open):
		if err := f.more(); err != nil { // what was written before the move
			return err
		}
		if err := f.open(); err != nil {
			return err
		}
		return f.more()
	case now.Size() < f.read:
		f.read, f.pending, f.long = 0, nil, false
		return f.more()
	}
	return nil
}
