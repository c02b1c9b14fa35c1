package store_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"postern/filters/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_000_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// kinds are the implementations that the contract below holds for.
var kinds = []struct {
	name string
	open func(t testing.TB, o store.Options) store.Spaces
}{
	{"memory", func(t testing.TB, o store.Options) store.Spaces { return store.NewMemory(o) }},
	{"bolt", func(t testing.TB, o store.Options) store.Spaces {
		return openBolt(t, filepath.Join(t.TempDir(), "state.db"), store.BoltOptions{Options: o})
	}},
	{"bolt, synced", func(t testing.TB, o store.Options) store.Spaces {
		return openBolt(t, filepath.Join(t.TempDir(), "state.db"), store.BoltOptions{Options: o, Sync: true})
	}},
}

func openBolt(t testing.TB, path string, o store.BoltOptions) *store.Bolt {
	t.Helper()
	b, note, err := store.OpenBolt(path, o)
	if err != nil || note != "" {
		t.Fatalf("%v, note %q", err, note)
	}
	return b
}

// contract runs a test for every kind of store.
func contract(t *testing.T, o store.Options, test func(t *testing.T, s store.Spaces, c *clock)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := newClock()
			o.Now = c.Now
			s := k.open(t, o)
			t.Cleanup(func() { s.Close() })
			test(t, s, c)
		})
	}
}

// get gives the value under key, "-" for none.
func get(t testing.TB, s store.Store, key string) string {
	t.Helper()
	v, ok, err := s.Get([]byte(key))
	switch {
	case err != nil:
		t.Fatal(err)
	case !ok && v != nil:
		t.Errorf("value %q although there is none", v)
	case !ok:
		return "-"
	}
	return string(v)
}

func put(t testing.TB, s store.Store, key, value string, ttl time.Duration) {
	t.Helper()
	if err := s.Put([]byte(key), []byte(value), ttl); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, s store.Store, key string, n int64, ttl time.Duration) int64 {
	t.Helper()
	sum, err := s.Add([]byte(key), n, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func expect(t testing.TB, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPutAndGet(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, c *clock) {
		expect(t, "nothing yet", get(t, s, "k"), "-")
		put(t, s, "k", "one", time.Minute)
		expect(t, "stored", get(t, s, "k"), "one")
		c.Advance(time.Minute - 1)
		expect(t, "just before it expires", get(t, s, "k"), "one")
		c.Advance(1)
		expect(t, "expired", get(t, s, "k"), "-")

		put(t, s, "k", "two", time.Minute)
		put(t, s, "k", "three", 2*time.Minute)
		c.Advance(time.Minute)
		expect(t, "put again with a longer life", get(t, s, "k"), "three")
		put(t, s, "k", "four", time.Second)
		c.Advance(time.Second)
		expect(t, "put again with a shorter life", get(t, s, "k"), "-")

		put(t, s, "\x00\xff", "", time.Minute)
		expect(t, "odd key, empty value", get(t, s, "\x00\xff"), "")
		put(t, s, "forever", "x", math.MaxInt64)
		c.Advance(24 * 365 * time.Hour)
		expect(t, "the longest life", get(t, s, "forever"), "x")
	})
}

func TestPutIfAbsent(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, c *clock) {
		try := func(value string) string {
			t.Helper()
			existing, stored, err := s.PutIfAbsent([]byte("k"), []byte(value), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%q %v", existing, stored)
		}
		expect(t, "first", try("one"), `"" true`)
		c.Advance(30 * time.Second)
		expect(t, "second", try("two"), `"one" false`)
		c.Advance(30 * time.Second)
		expect(t, "the second did not make the first live longer", try("three"), `"" true`)
		expect(t, "and then", get(t, s, "k"), "three")
	})
}

func TestAdd(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, c *clock) {
		expect(t, "first", add(t, s, "n", 2, time.Minute), int64(2))
		c.Advance(59 * time.Second)
		expect(t, "within the window", add(t, s, "n", 3, time.Minute), int64(5))
		expect(t, "read", get(t, s, "n"), "5")
		c.Advance(time.Second)
		expect(t, "read after the window", get(t, s, "n"), "-")
		expect(t, "a new window", add(t, s, "n", -1, time.Minute), int64(-1))
		expect(t, "nothing added", add(t, s, "n", 0, time.Minute), int64(-1))

		add(t, s, "max", math.MaxInt64-1, time.Minute)
		expect(t, "over the end", add(t, s, "max", 5, time.Minute), int64(math.MaxInt64))
		add(t, s, "min", math.MinInt64+1, time.Minute)
		expect(t, "under the end", add(t, s, "min", -5, time.Minute), int64(math.MinInt64))

		put(t, s, "v", "12345678", time.Minute)
		if _, err := s.Add([]byte("v"), 1, time.Minute); !errors.Is(err, store.ErrNotCounter) {
			t.Errorf("on a value: %v", err)
		}
		expect(t, "the value afterwards", get(t, s, "v"), "12345678")
		put(t, s, "n", "text", time.Minute)
		expect(t, "a counter overwritten", get(t, s, "n"), "text")
	})
}

func TestDelete(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, c *clock) {
		put(t, s, "k", "one", time.Minute)
		for range 2 { // the second finds nothing
			if err := s.Delete([]byte("k")); err != nil {
				t.Fatal(err)
			}
			expect(t, "deleted", get(t, s, "k"), "-")
		}
		put(t, s, "k", "two", 2*time.Minute)
		c.Advance(time.Minute)
		put(t, s, "other", "x", time.Minute) // sweeps
		expect(t, "the expiry of what was deleted is gone too", get(t, s, "k"), "two")
	})
}

func TestApply(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, c *clock) {
		put(t, s, "old", "one", time.Hour)
		put(t, s, "gone", "two", time.Hour)
		apply := func(changes ...store.Change) error { return s.Apply(changes) }
		if err := apply(); err != nil {
			t.Errorf("no changes: %v", err)
		}
		err := apply(
			store.Change{Key: []byte("new"), Value: []byte("three"), TTL: time.Minute},
			store.Change{Key: []byte("old"), Value: []byte("four"), TTL: time.Minute},
			store.Change{Key: []byte("gone"), Delete: true},
			store.Change{Key: []byte("never"), Delete: true},
			store.Change{Key: []byte("twice"), Value: []byte("five"), TTL: time.Hour},
			store.Change{Key: []byte("twice"), Value: []byte("six"), TTL: time.Hour},
			store.Change{Key: []byte("brief"), Value: []byte("seven"), TTL: time.Hour},
			store.Change{Key: []byte("brief"), Delete: true},
		)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"new": "three", "old": "four", "gone": "-", "never": "-", "twice": "six", "brief": "-"} {
			expect(t, key, get(t, s, key), want)
		}
		c.Advance(time.Minute)
		for key, want := range map[string]string{"new": "-", "old": "-", "twice": "six"} {
			expect(t, key+" after a minute", get(t, s, key), want)
		}
		// One that can't be made keeps the others from being made.
		for name, bad := range map[string]store.Change{
			"no key":          {Value: []byte("x"), TTL: time.Minute},
			"no time to live": {Key: []byte("k"), Value: []byte("x")},
			"large value":     {Key: []byte("k"), Value: make([]byte, store.MaxValue+1), TTL: time.Minute},
			"delete, no key":  {Delete: true},
		} {
			if err := apply(store.Change{Key: []byte("other"), TTL: time.Minute}, bad); err == nil {
				t.Errorf("%s: no error", name)
			}
			expect(t, name, get(t, s, "other"), "-")
		}
	})
}

func TestArgumentsAreChecked(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, _ *clock) {
		long := make([]byte, store.MaxKey+1)
		big := make([]byte, store.MaxValue+1)
		for _, tt := range []struct {
			name       string
			key, value []byte
			ttl        time.Duration
		}{
			{"no key", nil, nil, time.Minute},
			{"long key", long, nil, time.Minute},
			{"large value", []byte("k"), big, time.Minute},
			{"no time to live", []byte("k"), nil, 0},
			{"negative time to live", []byte("k"), nil, -1},
		} {
			if err := s.Put(tt.key, tt.value, tt.ttl); err == nil {
				t.Errorf("Put, %s: no error", tt.name)
			}
			if _, _, err := s.PutIfAbsent(tt.key, tt.value, tt.ttl); err == nil {
				t.Errorf("PutIfAbsent, %s: no error", tt.name)
			}
			if _, err := s.Add(tt.key, 1, tt.ttl); err == nil && len(tt.value) == 0 {
				t.Errorf("Add, %s: no error", tt.name)
			}
		}
		for _, key := range [][]byte{nil, long} {
			if _, _, err := s.Get(key); err == nil {
				t.Errorf("Get of %d octets: no error", len(key))
			}
			if err := s.Delete(key); err == nil {
				t.Errorf("Delete of %d octets: no error", len(key))
			}
		}
		put(t, s, string(long[1:]), string(big[1:]), time.Nanosecond) // the largest there is
	})
}

func TestSlicesAreNotShared(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, _ *clock) {
		key, value := []byte("k"), []byte("value")
		if err := s.Put(key, value, time.Minute); err != nil {
			t.Fatal(err)
		}
		key[0], value[0] = 'x', 'x'
		got, _, err := s.Get([]byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		got[0] = 'y'
		existing, _, err := s.PutIfAbsent([]byte("k"), nil, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		existing[0] = 'z'
		expect(t, "after all that", get(t, s, "k"), "value")
	})
}

// TestFullStoreDropsWhatExpiresNext checks the bound, and that entries which have expired do not count.
func TestFullStoreDropsWhatExpiresNext(t *testing.T) {
	contract(t, store.Options{Max: 3}, func(t *testing.T, s store.Spaces, c *clock) {
		put(t, s, "a", "", 3*time.Minute)
		put(t, s, "b", "", 1*time.Minute)
		put(t, s, "c", "", 4*time.Minute)
		put(t, s, "c", "again", 4*time.Minute) // takes no further place
		expect(t, "b, while there is room", get(t, s, "b"), "")
		put(t, s, "d", "", 2*time.Minute)
		expect(t, "b, which would expire next", get(t, s, "b"), "-")
		c.Advance(2 * time.Minute) // d is over
		put(t, s, "e", "", 2*time.Minute)
		for key, want := range map[string]string{"a": "", "c": "again", "d": "-", "e": ""} {
			expect(t, key, get(t, s, key), want)
		}
	})
}

func TestSpaces(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, _ *clock) {
		space := func(name string, max int) store.Store {
			t.Helper()
			sp, err := s.Space(name, max)
			if err != nil {
				t.Fatal(err)
			}
			return sp
		}
		served, grey := space("served", 10), space("grey", 2)
		put(t, s, "k", "in the store", time.Minute)
		put(t, served, "k", "in served", time.Minute)
		for i := range 100 {
			put(t, grey, fmt.Sprintf("k%d", i), "flood", time.Hour)
		}
		expect(t, "the store itself", get(t, s, "k"), "in the store")
		expect(t, "another space", get(t, served, "k"), "in served")
		expect(t, "the newest of the flood", get(t, grey, "k99"), "flood")
		expect(t, "the oldest of the flood", get(t, grey, "k0"), "-")

		if err := served.Close(); err != nil {
			t.Error(err)
		}
		expect(t, "a space after its Close, and the same again", get(t, space("served", 10), "k"), "in served")

		// A bound that is lowered holds at the latest after the next write.
		for i := range 10 {
			put(t, served, fmt.Sprintf("n%d", i), "", time.Duration(i+1)*time.Hour)
		}
		put(t, space("served", 1), "last", "", 100*time.Hour)
		expect(t, "the last after the bound was lowered", get(t, served, "last"), "")
		expect(t, "the one before", get(t, served, "n9"), "-")

		for _, name := range []string{"", "A", "a/b", strings.Repeat("a", 33)} {
			if _, err := s.Space(name, 1); err == nil {
				t.Errorf("space %q: no error", name)
			}
		}
		var err error
		for i := range 100 {
			if _, err = s.Space(fmt.Sprintf("space-%d", i), 1); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("100 spaces: no error")
		}
	})
}

func TestClosed(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, _ *clock) {
		space, err := s.Space("space", 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		for name, st := range map[string]store.Store{"store": s, "space": space} {
			_, _, getErr := st.Get([]byte("k"))
			_, _, absentErr := st.PutIfAbsent([]byte("k"), nil, time.Minute)
			_, addErr := st.Add([]byte("k"), 1, time.Minute)
			for what, err := range map[string]error{
				"Get": getErr, "Put": st.Put([]byte("k"), nil, time.Minute), "PutIfAbsent": absentErr,
				"Add": addErr, "Delete": st.Delete([]byte("k")),
			} {
				if !errors.Is(err, store.ErrClosed) {
					t.Errorf("%s of a closed %s: %v", what, name, err)
				}
			}
		}
		if _, err := s.Space("new", 1); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Space of a closed store: %v", err)
		}
	})
}

// TestConcurrentUse has many count, and try to be first, at once.
func TestConcurrentUse(t *testing.T) {
	contract(t, store.Options{}, func(t *testing.T, s store.Spaces, _ *clock) {
		const workers, rounds = 20, 25
		var all sync.WaitGroup
		var mu sync.Mutex
		var winners []string
		for w := range workers {
			all.Go(func() {
				for i := range rounds {
					if _, err := s.Add([]byte("sum"), 1, time.Hour); err != nil {
						t.Error(err)
					}
					key := fmt.Sprintf("first-%d", i)
					_, stored, err := s.PutIfAbsent([]byte(key), []byte{byte(w)}, time.Hour)
					if err != nil {
						t.Error(err)
					}
					if stored {
						mu.Lock()
						winners = append(winners, key)
						mu.Unlock()
					}
					if _, _, err := s.Get([]byte(key)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		expect(t, "sum", get(t, s, "sum"), fmt.Sprint(workers*rounds))
		slices.Sort(winners)
		expect(t, "winners", len(winners), rounds)
		expect(t, "different winners", len(slices.Compact(winners)), rounds)
	})
}

// TestAgainstModel plays random histories on each store and on a map.
func TestAgainstModel(t *testing.T) {
	type modelEntry struct {
		value   string
		number  int64
		counter bool
		expires time.Time
	}
	histories := kinds[:2]
	if testing.Short() {
		histories = kinds[:1]
	}
	for _, k := range histories {
		t.Run(k.name, func(t *testing.T) {
			dir := t // rapid's own T has no TempDir for each run that would be cleaned up in time
			rapid.Check(t, func(t *rapid.T) {
				c := newClock()
				s := k.open(dir, store.Options{Now: c.Now})
				defer s.Close()
				model := make(map[string]modelEntry)
				live := func(key string) (modelEntry, bool) {
					e, ok := model[key]
					return e, ok && c.Now().Before(e.expires)
				}
				keys := rapid.SampledFrom([]string{"a", "b", "c", "ab", "\x00"})
				ttls := rapid.SampledFrom([]time.Duration{1, time.Second, time.Minute, time.Hour})
				text := func(e modelEntry) string {
					if e.counter {
						return fmt.Sprint(e.number)
					}
					return e.value
				}
				t.Repeat(map[string]func(*rapid.T){
					"advance": func(t *rapid.T) { c.Advance(ttls.Draw(t, "by")) },
					"put": func(t *rapid.T) {
						key, value, ttl := keys.Draw(t, "key"), rapid.String().Draw(t, "value"), ttls.Draw(t, "ttl")
						if err := s.Put([]byte(key), []byte(value), ttl); err != nil {
							t.Fatal(err)
						}
						model[key] = modelEntry{value: value, expires: c.Now().Add(ttl)}
					},
					"put if absent": func(t *rapid.T) {
						key, value, ttl := keys.Draw(t, "key"), rapid.String().Draw(t, "value"), ttls.Draw(t, "ttl")
						existing, stored, err := s.PutIfAbsent([]byte(key), []byte(value), ttl)
						e, ok := live(key)
						if err != nil || stored == ok || ok && string(existing) != text(e) {
							t.Fatalf("%q, %v, %v; the model has %+v, %v", existing, stored, err, e, ok)
						}
						if !ok {
							model[key] = modelEntry{value: value, expires: c.Now().Add(ttl)}
						}
					},
					"add": func(t *rapid.T) {
						key, n, ttl := keys.Draw(t, "key"), rapid.Int64Range(-9, 9).Draw(t, "n"), ttls.Draw(t, "ttl")
						sum, err := s.Add([]byte(key), n, ttl)
						e, ok := live(key)
						switch {
						case !ok:
							e = modelEntry{number: n, counter: true, expires: c.Now().Add(ttl)}
						case e.counter:
							e.number += n
						default:
							if !errors.Is(err, store.ErrNotCounter) {
								t.Fatalf("%v on a value", err)
							}
							return
						}
						if err != nil || sum != e.number {
							t.Fatalf("%d, %v; the model has %+v", sum, err, e)
						}
						model[key] = e
					},
					"delete": func(t *rapid.T) {
						key := keys.Draw(t, "key")
						if err := s.Delete([]byte(key)); err != nil {
							t.Fatal(err)
						}
						delete(model, key)
					},
					"": func(t *rapid.T) {
						for _, key := range []string{"a", "b", "c", "ab", "\x00"} {
							got, ok, err := s.Get([]byte(key))
							e, want := live(key)
							if err != nil || ok != want || ok && string(got) != text(e) {
								t.Fatalf("%q: %q, %v, %v; the model has %+v, %v", key, got, ok, err, e, want)
							}
						}
					},
				})
			})
		})
	}
}
