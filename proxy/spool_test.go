package proxy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

func testBounds(t *testing.T) (spoolBounds, *atomic.Int64) {
	used := new(atomic.Int64)
	return spoolBounds{memory: 1000, message: 1 << 20, total: 2 << 20, used: used, room: 1 << 20, kept: new(atomic.Int64), dir: t.TempDir()}, used
}

// TestSpool: what goes in comes out, in memory and in a file, and everything is given back.
func TestSpool(t *testing.T) {
	for _, size := range []int{0, 1, 999, 1000, 1001, 32 << 10, 32<<10 + 1, 200_000, 1 << 20} {
		bounds, used := testBounds(t)
		data := bytes.Repeat([]byte("0123456789abcdef\n"), size/17+1)[:size]
		for name, r := range map[string]io.Reader{
			"whole":   bytes.NewReader(data),
			"halves":  iotest.HalfReader(bytes.NewReader(data)),
			"dataEOF": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			s, err := spoolFrom(r, bounds)
			if err != nil {
				t.Fatalf("%d bytes, %s: %v", size, name, err)
			}
			got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %s: %d came back, %v", size, name, len(got), err)
			}
			if inFile := s.file != nil; inFile != (size > 1000+32<<10) && size > 64<<10 {
				t.Errorf("%d bytes, %s: in a file: %v", size, name, inFile)
			}
			if files, err := os.ReadDir(bounds.dir); err != nil || len(files) != 0 {
				t.Errorf("%d bytes, %s: the file has a name: %v %v", size, name, files, err)
			}
			s.Close()
			s.Close() // once more does no harm
			if kept := bounds.kept.Load(); kept != 0 {
				t.Errorf("%d bytes, %s: %d bytes of memory are not given back", size, name, kept)
			}
			if used.Load() != 0 {
				t.Errorf("%d bytes, %s: %d bytes are not given back", size, name, used.Load())
			}
		}
	}
}

// TestSpoolMemoryOfAll: the memory of all messages together has a bound; beyond it even a small one is in a file.
func TestSpoolMemoryOfAll(t *testing.T) {
	bounds, _ := testBounds(t)
	bounds.memory, bounds.room = 100_000, 20_000
	message := strings.Repeat("x", 5000)
	var open []*spool
	for range 10 {
		s, err := spoolFrom(strings.NewReader(message), bounds)
		if err != nil {
			t.Fatal(err)
		}
		if kept := bounds.kept.Load(); kept > bounds.room {
			t.Fatalf("%d bytes of memory, at most %d are to be used", kept, bounds.room)
		}
		if got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size())); err != nil || string(got) != message {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		open = append(open, s)
	}
	if open[0].file != nil || open[9].file == nil {
		t.Error("expected the first in memory and the last in a file")
	}
	for _, s := range open {
		s.Close()
	}
	if kept := bounds.kept.Load(); kept != 0 {
		t.Errorf("%d bytes of memory are not given back", kept)
	}
	// One that outgrows the room moves to a file on the way.
	s, err := spoolFrom(strings.NewReader(strings.Repeat("y", 90_000)), bounds)
	if err != nil {
		t.Fatal(err)
	}
	if s.file == nil || bounds.kept.Load() != 0 {
		t.Errorf("in a file: %v, %d bytes of memory", s.file != nil, bounds.kept.Load())
	}
	s.Close()
}

// TestSpoolChunks: memory is kept in chunks, and a read may begin and end anywhere in them.
func TestSpoolChunks(t *testing.T) {
	chunk := len(spoolChunk{})
	for _, size := range []int{chunk - 1, chunk, chunk + 1, 3 * chunk, 3*chunk + 5} {
		bounds, used := testBounds(t)
		bounds.memory = 1 << 20
		data := bytes.Repeat([]byte("0123456789abcdef\n"), size/17+1)[:size]
		s, err := spoolFrom(iotest.HalfReader(bytes.NewReader(data)), bounds)
		if err != nil {
			t.Fatal(err)
		}
		if s.file != nil {
			t.Errorf("%d bytes are in a file", size)
		}
		if err := iotest.TestReader(io.NewSectionReader(s, 0, s.Size()), data); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		for _, off := range []int{0, 1, chunk - 1, chunk, chunk + 1, size - 1, size} {
			if off > size {
				continue
			}
			got := make([]byte, size)
			n, err := s.ReadAt(got, int64(off))
			if n != size-off || !bytes.Equal(got[:n], data[off:]) || err != io.EOF && off > 0 {
				t.Errorf("%d bytes from %d: %d, %v", size, off, n, err)
			}
		}
		if _, err := s.ReadAt(make([]byte, 1), -1); err == nil {
			t.Error("there is something before the start")
		}
		s.Close()
		if used.Load() != 0 {
			t.Errorf("%d bytes are not given back", used.Load())
		}
	}
}

// TestSpoolReadAfterClose: whoever still reads a message that is done with never sees another one's bytes.
func TestSpoolReadAfterClose(t *testing.T) {
	for name, memory := range map[string]int64{"memory": 1 << 20, "file": 1000} {
		bounds, _ := testBounds(t)
		bounds.memory = memory
		mine, theirs := bytes.Repeat([]byte("m"), 100_000), bytes.Repeat([]byte("t"), 100_000)
		for range 20 {
			s, err := spoolFrom(bytes.NewReader(mine), bounds)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan []byte)
			go func() {
				var all []byte
				for buf := make([]byte, 1000); ; {
					n, err := s.ReadAt(buf, 50_000)
					all = append(all, buf[:n]...)
					if err != nil || len(all) > 1<<20 {
						done <- all
						return
					}
				}
			}()
			s.Close()
			next, err := spoolFrom(bytes.NewReader(theirs), bounds)
			if err != nil {
				t.Fatal(err)
			}
			if got := <-done; bytes.IndexByte(got, 't') >= 0 {
				t.Fatalf("%s: another message was read", name)
			}
			next.Close()
			if _, err := s.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s: read after the end: %v", name, err)
			}
		}
	}
}

func TestSpoolRefuses(t *testing.T) {
	failure := errors.New("connection lost")
	cases := []struct {
		why   string
		input io.Reader
		setup func(*spoolBounds)
		want  error
	}{
		{"larger than a message may be", strings.NewReader(strings.Repeat("x", 1<<20+1)), nil, errTooLarge},
		{"more than all messages may take", strings.NewReader(strings.Repeat("x", 100_000)), func(b *spoolBounds) { b.total = 50_000 }, errSpoolFull},
		{"others use the room", strings.NewReader("x"), func(b *spoolBounds) { b.used.Store(2 << 20) }, errSpoolFull},
		{"the client is gone", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF)), nil, io.ErrUnexpectedEOF},
		{"reading fails", iotest.ErrReader(failure), nil, failure},
		{"the disk takes no file", strings.NewReader(strings.Repeat("x", 100_000)), func(b *spoolBounds) { b.dir = "/nonexistent" }, os.ErrNotExist},
	}
	for _, c := range cases {
		bounds, used := testBounds(t)
		if c.setup != nil {
			c.setup(&bounds)
		}
		before := used.Load()
		s, err := spoolFrom(c.input, bounds)
		if !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
		if used.Load() != before {
			t.Errorf("%s: %d bytes are not given back", c.why, used.Load()-before)
		}
	}
}

func BenchmarkSpool(b *testing.B) {
	for name, size := range map[string]int{"4KB": 4 << 10, "10MB": 10 << 20} {
		b.Run(name, func(b *testing.B) {
			bounds := spoolBounds{memory: 1 << 20, message: 1 << 30, total: 1 << 30, used: new(atomic.Int64), room: 1 << 30, kept: new(atomic.Int64), dir: b.TempDir()}
			data := bytes.Repeat([]byte("x"), size)
			b.SetBytes(int64(size))
			for b.Loop() {
				s, err := spoolFrom(bytes.NewReader(data), bounds)
				if err != nil {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}
