package proxy

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters"
	"postern/filters/store"
	"postern/proxy/peertest"
	"postern/proxy/upstream"
)

// TestStoreFails: mail flows without a memory, and the log tells.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{})
	p := inFrontOfSink(t, sink, false, "store: {kind: bbolt, path: "+filepath.Join(t.TempDir(), "state.db")+"}\n")
	if err := p.server.memory.store.Close(); err != nil {
		t.Fatal(err)
	}
	c := greet(t, p)
	deliver(t, c, 250, "alice@example.org")
	deliver(t, c, 250, "alice@example.org")
	c.Want("QUIT", 221)
	for _, line := range p.awaitMessages(2) {
		wantLine(t, line, "action=accept", `errors="delivery memory: the store is closed"`)
	}
	if n := offered(sink); n != 2 {
		t.Errorf("%d messages were delivered, want 2", n)
	}
}

// TestStoreAtStart: a store that can't be used is an error of the start, a corrupt one is moved aside.
func TestStoreAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	corrupt := filepath.Join(dir, "corrupt.db")
	if err := os.WriteFile(corrupt, []byte("this is no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := filepath.Join(dir, "busy.db")
	holder, _, err := store.OpenBolt(busy, store.BoltOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Close() })
	for _, tt := range []struct{ path, fails, logs string }{
		{path: filepath.Join(dir, "none", "state.db"), fails: "postern.yaml:9:28: store: ", logs: ""},
		{path: dir, fails: "is not a file"},
		{path: busy, fails: "another process uses it"},
		{path: corrupt, logs: "event=store_moved_aside "},
		{path: filepath.Join(dir, "new.db")},
	} {
		cfg, err := ParseConfig(filepath.Join(dir, "postern.yaml"), []byte(
			fmt.Sprintf(baseConfig, testZone(t), "", "smtp://127.0.0.1:1")+"store: {kind: bbolt, path: "+tt.path+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		logger := slog.New(NewLogHandler(LogTo(&log), "logfmt", slog.LevelInfo))
		rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{Log: logger, NoTests: true})
		if err != nil {
			t.Fatal(err)
		}
		server, err := NewServer(rt, logger)
		if err == nil {
			server.Close()
		}
		if (err != nil) != (tt.fails != "") || err != nil && !strings.Contains(err.Error(), tt.fails) {
			t.Errorf("%s: %v, want %q", tt.path, err, tt.fails)
		}
		if !strings.Contains(log.String(), tt.logs) || tt.logs == "" && log.Len() > 0 {
			t.Errorf("%s: the log says %q, want %q", tt.path, log.String(), tt.logs)
		}
	}
}

func TestKeyOf(t *testing.T) {
	digest := func(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] }
	path := func(local, domain string) filters.Path { return filters.Path{Local: local, Domain: domain} }
	base := keyOf(path("a", "x.example"), path("b", "y.example"), digest("m"))
	for _, tt := range []struct {
		from, to filters.Path
		message  string
		same     bool
		why      string
	}{
		{path("a", "X.Example"), path("b", "y.EXAMPLE."), "m", true, "domains have no case, and may end in a dot"},
		{path("A", "x.example"), path("b", "y.example"), "m", false, "local parts are the mail server's business"},
		{path("a", "x.example"), path("b", "y.example"), "m2", false, "another message"},
		{path("a", "x.example"), path("c", "y.example"), "m", false, "another recipient"},
		{path("", ""), path("b", "y.example"), "m", false, "a bounce"},
		{path("a", "x.exampleb"), path("", "y.example"), "m", false, "what ends one part does not begin the next"},
	} {
		if got := keyOf(tt.from, tt.to, digest(tt.message)) == base; got != tt.same {
			t.Errorf("%s: same key %v, want %v", tt.why, got, tt.same)
		}
	}
}

// TestMemoryTimes: how long each thing is remembered.
func TestMemoryTimes(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("message"))
	rcpts := []filters.Rcpt{{To: filters.Path{Local: "alice", Domain: "example.org"}}, {To: filters.Path{Local: "bob", Domain: "example.org"}}}
	took, full := upstream.Reply{Code: 250}, upstream.Reply{Code: 452}
	var m *memory
	attempt := func(id string) *attempt {
		a, busy := m.attempt(id, filters.Path{}, rcpts, digest[:], time.Minute)
		if busy {
			return nil
		}
		return a
	}
	handOn := func(result upstream.DataResult, err error, code int) {
		t.Helper()
		a := attempt("first")
		if a == nil || len(a.served) > 0 || !a.begin() || !a.offer() {
			t.Fatal("the message is not new")
		}
		a.judge(result, err)
		a.settle(code)
	}
	gone := &upstream.Error{Op: "data", Offered: true, Err: upstream.ErrClosed}
	for _, tt := range []struct {
		why    string
		before func()
		after  time.Duration
		want   string // of each recipient
	}{
		{"the client may not have heard", func() { handOn(upstream.DataResult{Reply: took, Offered: true}, nil, 250) }, servedFor - 1, "served served"},
		{"it does not come any more", func() { handOn(upstream.DataResult{Reply: took, Offered: true}, nil, 250) }, servedFor, "- -"},
		{"the client was told to come again", func() { handOn(upstream.DataResult{Per: []upstream.Reply{took, full}, Offered: true}, nil, 451) }, keptFor - 1, "served -"},
		{"it has given up", func() { handOn(upstream.DataResult{Per: []upstream.Reply{took, full}, Offered: true}, nil, 451) }, keptFor, "- -"},
		{"no reply came", func() { handOn(upstream.DataResult{Offered: true}, gone, 451) }, keptFor - 1, "in_doubt in_doubt"},
		{"no reply came, and the client has given up", func() { handOn(upstream.DataResult{Offered: true}, gone, 451) }, keptFor, "- -"},
		{"a transaction that goes on", func() { attempt("first").begin() }, claimFor + time.Minute - 1, "busy"},
		{"a transaction that was lost", func() { attempt("first").begin() }, claimFor + time.Minute, "- -"},
		{"answered from memory, and told to come again for the other", func() {
			handOn(upstream.DataResult{Reply: took, Offered: true}, nil, 250)
			a := attempt("second")
			a.settle(451)
		}, keptFor - 1, "served served"},
	} {
		now := time.Unix(1_000_000, 0)
		clock := store.Options{Now: func() time.Time { return now }}
		var err error
		if m, err = newMemory(store.NewMemory(clock), store.NewMemory(clock), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		tt.before()
		now = now.Add(tt.after)
		got := "busy"
		if a := attempt("later"); a != nil {
			got = ""
			for _, key := range a.keys() {
				f, err := m.look(key)
				if err != nil {
					t.Fatal(err)
				}
				got += " " + cmp.Or(f.State, "-")
			}
			got = got[1:]
		}
		if got != tt.want {
			t.Errorf("%s, after %v: %s, want %s", tt.why, tt.after, got, tt.want)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkMemory is what the memory costs a message that is delivered and heard of.
func BenchmarkMemory(b *testing.B) {
	for _, kind := range []string{"memory", "bbolt"} {
		for _, rcpts := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s, %d recipients", kind, rcpts), func(b *testing.B) {
				m, _, err := openMemory(Store{Kind: kind, Path: filepath.Join(b.TempDir(), "state.db")}, slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				defer m.close()
				list := make([]filters.Rcpt, rcpts)
				for i := range list {
					list[i].To = filters.Path{Local: fmt.Sprint("user", i), Domain: "example.org"}
				}
				for i := 0; b.Loop(); i++ {
					digest := sha256.Sum256(fmt.Append(nil, i))
					a, busy := m.attempt("ID", filters.Path{}, list, digest[:], 0)
					if busy || !a.begin() || !a.offer() {
						b.Fatal("the message is not new")
					}
					a.judge(upstream.DataResult{Reply: upstream.Reply{Code: 250}, Offered: true}, nil)
					a.settle(250)
					for _, key := range a.keys() {
						if err := m.fates.Delete(key[:]); err != nil {
							b.Fatal(err)
						}
					}
					if a.failed != nil {
						b.Fatal(a.failed)
					}
				}
			})
		}
	}
}
