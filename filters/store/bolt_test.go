package store_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"postern/filters/store"
)

func TestBoltKeepsItsEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	c := newClock()
	o := store.BoltOptions{Options: store.Options{Now: c.Now}}
	b := openBolt(t, path, o)
	served, err := b.Space("served", 3)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "k", "value", time.Hour)
	add(t, served, "n", 7, time.Hour)
	put(t, served, "short", "x", time.Minute)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}

	c.Advance(time.Minute)
	b = openBolt(t, path, o)
	defer b.Close()
	served, err = b.Space("served", 3)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "value", get(t, b, "k"), "value")
	expect(t, "counter", add(t, served, "n", 1, time.Hour), int64(8))
	expect(t, "what expired in between", get(t, served, "short"), "-")
	// The entries were counted, so that the bound holds from the start.
	for i := range 3 {
		put(t, served, fmt.Sprintf("new%d", i), "", 2*time.Hour)
	}
	expect(t, "the oldest", get(t, served, "n"), "-")
	expect(t, "the first of the new ones", get(t, served, "new0"), "")
}

// TestBoltRemovesExpired looks into the file.
func TestBoltRemovesExpired(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	c := newClock()
	b := openBolt(t, path, store.BoltOptions{Options: store.Options{Now: c.Now}})
	for i := range 100 {
		put(t, b, fmt.Sprintf("k%d", i), "x", time.Minute)
	}
	c.Advance(time.Minute)
	for i := range 10 {
		put(t, b, fmt.Sprintf("n%d", i), "x", time.Hour)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		for _, name := range []string{"entries", "expiry"} {
			if n := tx.Bucket([]byte("s:")).Bucket([]byte(name)).Stats().KeyN; n != 10 {
				t.Errorf("%d %s left, want 10", n, name)
			}
		}
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestBoltInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	b := openBolt(t, path, store.BoltOptions{})
	defer b.Close()
	_, note, err := store.OpenBolt(path, store.BoltOptions{})
	if err == nil || note != "" || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("%v, %q", err, note)
	}
	put(t, b, "k", "still there", time.Minute)
	expect(t, "the first", get(t, b, "k"), "still there")
}

// fill makes a store file with some pages of entries.
func fill(t *testing.T, path string) {
	t.Helper()
	b := openBolt(t, path, store.BoltOptions{})
	for i := range 300 {
		put(t, b, fmt.Sprintf("key-%d", i), strings.Repeat("v", 100), time.Hour)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBoltMovesCorruptFileAside(t *testing.T) {
	original := filepath.Join(t.TempDir(), "state.db")
	fill(t, original)
	good, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	zeroed := func(from, to int) []byte {
		p := bytes.Clone(good)
		clear(p[from:to])
		return p
	}
	tests := []struct {
		name string
		file []byte
	}{
		{"text", []byte("this is not a database\n")},
		{"both meta pages zeroed", zeroed(0, 2*page)},
		{"all zero", zeroed(0, len(good))},
		{"cut after the meta pages", good[:2*page]},
		{"cut in the middle", good[:len(good)/4/page*page]},
		{"data pages zeroed", zeroed(2*page, len(good))},
		{"data pages overwritten", append(bytes.Clone(good[:2*page]), bytes.Repeat([]byte{0xff}, len(good)-2*page)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			c := newClock()
			b, note, err := store.OpenBolt(path, store.BoltOptions{Options: store.Options{Now: c.Now}})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			aside := path + ".corrupt-1000000000"
			if !strings.Contains(note, aside) || strings.Contains(note, "\n") {
				t.Errorf("note %q, want one line with the new name", note)
			}
			if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, tt.file) {
				t.Errorf("the file moved aside has %d octets, %v; want it unchanged", len(kept), err)
			}
			expect(t, "an entry of the old file", get(t, b, "key-1"), "-")
			put(t, b, "k", "new", time.Minute)
			expect(t, "an entry of the new file", get(t, b, "k"), "new")
		})
	}
}

// TestBoltWithDamage overwrites random places. Whatever is opened must work or say that it does not.
func TestBoltWithDamage(t *testing.T) {
	original := filepath.Join(t.TempDir(), "state.db")
	fill(t, original)
	good, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	random := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(t.TempDir(), "state.db")
	for range rounds {
		damaged := bytes.Clone(good)
		for range 1 + random.IntN(20) {
			// Behind the meta pages, which have a checksum, and only in page headers, where an error leads astray.
			at := (2+random.IntN(len(good)/os.Getpagesize()-2))*os.Getpagesize() + 8 + random.IntN(40)
			damaged[at] ^= byte(1 << random.IntN(8))
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		b, _, err := store.OpenBolt(path, store.BoltOptions{})
		if err != nil {
			continue
		}
		for i := range 300 {
			if v, ok, err := b.Get([]byte(fmt.Sprintf("key-%d", i))); err == nil && ok && len(v) == 0 {
				t.Errorf("an empty value for key-%d", i)
			}
		}
		b.Put([]byte("k"), []byte("new"), time.Hour) // may fail, must not panic
		b.Close()
	}
}

func TestBoltErrors(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	newer := filepath.Join(dir, "newer.db")
	for path, bucket := range map[string]string{foreign: "mailboxes", newer: "postern"} {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte("format"), []byte("99"))
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ path, want string }{
		{dir, "is not a file"},
		{filepath.Join(dir, "none", "state.db"), "no such file or directory"},
		{foreign, "the file is the database of another program"},
		{newer, `the file has the format "99", expected "1"`},
	}
	for _, tt := range tests {
		b, note, err := store.OpenBolt(tt.path, store.BoltOptions{})
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) || note != "" {
			t.Errorf("%s: %v, note %q; want %q", tt.path, err, note, tt.want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.corrupt-*")); err != nil || len(left) > 0 {
		t.Errorf("moved aside: %q, %v; want nothing", left, err)
	}
}

// TestBoltSurvivesKill has another process write and say what it has written, and kills it in the middle.
func TestBoltSurvivesKill(t *testing.T) {
	if path := os.Getenv("STORE_TEST_WRITER"); path != "" {
		writeUntilKilled(t, path)
		return
	}
	kills := 5
	if testing.Short() {
		kills = 1
	}
	for range kills {
		path := filepath.Join(t.TempDir(), "state.db")
		cmd := exec.Command(os.Args[0], "-test.run=^TestBoltSurvivesKill$")
		cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said []string
		buf := make([]byte, 4096)
		text := ""
		for len(said) < 100 {
			n, err := out.Read(buf)
			if err != nil {
				t.Fatalf("the writer ended early: %v", err)
			}
			text += string(buf[:n])
			said = strings.Split(text, "\n")
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // "signal: killed"
		b := openBolt(t, path, store.BoltOptions{})
		for _, key := range said[:len(said)-1] { // the last line may be cut
			if key != "" {
				expect(t, key, get(t, b, key), "v")
			}
		}
		b.Close()
	}
}

// writeUntilKilled writes from several goroutines and prints each key once Put has returned.
func writeUntilKilled(t *testing.T, path string) {
	b := openBolt(t, path, store.BoltOptions{})
	var mu sync.Mutex
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("w%d-%d", w, i)
				if err := b.Put([]byte(key), []byte("v"), time.Hour); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, err := os.Stdout.WriteString("\n" + key + "\n")
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkGet(b *testing.B) {
	benchmark(b, func(s store.Store, key []byte) error {
		_, _, err := s.Get(key)
		return err
	})
}

func BenchmarkPut(b *testing.B) {
	benchmark(b, func(s store.Store, key []byte) error { return s.Put(key, key, time.Hour) })
}

// BenchmarkTen is what a message for ten recipients costs: their fates one by one, and as one.
func BenchmarkTen(b *testing.B) {
	b.Run("Put", func(b *testing.B) {
		benchmark(b, func(s store.Store, key []byte) error {
			for i := range 10 {
				if err := s.Put(append(key, byte(i)), key, time.Hour); err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Run("Apply", func(b *testing.B) {
		benchmark(b, func(s store.Store, key []byte) error {
			changes := make([]store.Change, 10)
			for i := range changes {
				changes[i] = store.Change{Key: append(key[:len(key):len(key)], byte(i)), Value: key, TTL: time.Hour}
			}
			return s.Apply(changes)
		})
	})
}

func BenchmarkAdd(b *testing.B) {
	benchmark(b, func(s store.Store, key []byte) error {
		_, err := s.Add(key, 1, time.Hour)
		return err
	})
}

// benchmark runs do on 10,000 keys for each kind of store, from one goroutine and from many, which share commits.
func benchmark(b *testing.B, do func(s store.Store, key []byte) error) {
	for _, k := range kinds {
		s := k.open(b, store.Options{})
		b.Run(k.name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				if err := do(s, fmt.Appendf(nil, "key-%d", i%10_000)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(k.name+", many at once", func(b *testing.B) {
			b.SetParallelism(50)
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(10_000)
				for pb.Next() {
					i++
					if err := do(s, fmt.Appendf(nil, "key-%d", i%10_000)); err != nil {
						b.Error(err)
					}
				}
			})
		})
		s.Close()
	}
}
