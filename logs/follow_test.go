package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func logLine(id string) string {
	return "time=2026-11-23T18:50:21.855Z level=info event=message v=1 action=accept id=" + id + "\n"
}

// TestFollow reads the last lines and what is added, in pieces, after the file was moved away and after it was cut short.
func TestFollow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	write := func(flag int, text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	var old strings.Builder
	for i := range 2000 {
		old.WriteString(logLine(fmt.Sprint("OLD", i)))
	}
	write(0, old.String())
	got := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Follow(ctx, name, 3, func(r *Record) { got <- r.Get("id") }) }()
	want := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			select {
			case g := <-got:
				if g != id {
					t.Fatalf("got %s, want %s", g, id)
				}
			case err := <-done:
				t.Fatalf("ended before %s: %v", id, err)
			case <-time.After(30 * time.Second):
				t.Fatalf("no %s", id)
			}
		}
	}
	want("OLD1997", "OLD1998", "OLD1999")
	line := logLine("NEXT")
	write(os.O_APPEND, line[:40])
	write(os.O_APPEND, line[40:]+"not ours\n"+strings.Repeat("x", 2*maxLine)+"\n"+logLine("AFTER"))
	want("NEXT", "AFTER")
	write(os.O_APPEND, logLine("BEFORE_MOVE"))
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	write(0, logLine("MOVED"))
	want("BEFORE_MOVE", "MOVED")
	write(os.O_APPEND, logLine("LONGER")+logLine("THAN_THE_NEXT"))
	want("LONGER", "THAN_THE_NEXT")
	write(os.O_TRUNC, logLine("CUT"))
	want("CUT")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := Follow(t.Context(), name+".none", 1, nil); err == nil {
		t.Error("a file that is not there is followed")
	}
}

// TestFollowFrom begins where it is told to.
func TestFollowFrom(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, []byte(logLine("A")+logLine("B")+logLine("C")), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", "C", "BC", "ABC", "ABC"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // one look only
		got := ""
		if err := Follow(ctx, name, n, func(r *Record) { got += r.Get("id") }); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("the last %d lines: %q, want %q", n, got, want)
		}
	}
}
