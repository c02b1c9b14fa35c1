package mailbox

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// walk gives what Walk finds, as path (below dir) and text or error.
func walk(t *testing.T, dir, path string) [][2]string {
	t.Helper()
	var got [][2]string
	err := Walk(context.Background(), filepath.Join(dir, path), func(item Item) error {
		text := ""
		if item.Err != nil {
			text = "error: " + strings.ReplaceAll(item.Err.Error(), dir+string(filepath.Separator), "")
		} else {
			b, err := io.ReadAll(io.NewSectionReader(item.Data, 0, item.Size))
			if err != nil {
				t.Error(err)
			}
			text = string(b)
		}
		rel := strings.TrimPrefix(item.Path, dir+string(filepath.Separator))
		got = append(got, [2]string{filepath.ToSlash(rel), text})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// files makes a directory of files.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const separatorA = "From a@example.org Thu Nov  6 08:15:43 2008\n"

func TestMbox(t *testing.T) {
	for _, c := range []struct {
		name string // the reason of the case
		mbox string
		want [][2]string
	}{
		{
			name: "two messages; the empty line before a separator is not part of the message",
			mbox: separatorA + "Subject: 1\n\none\n\n" + separatorA + "Subject: 2\n\ntwo\n\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\none\r\n"}, {"box:2", "Subject: 2\r\n\r\ntwo\r\n"}},
		},
		{
			name: "a missing empty line at the end is forgiven",
			mbox: separatorA + "Subject: 1\n\none\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\none\r\n"}},
		},
		{
			name: "one > goes from quoted lines, of mboxo and mboxrd; others stay",
			mbox: separatorA + "Subject: 1\n\n>From here\n>>From there\n> From x\n>Fromage\n\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\nFrom here\r\n>From there\r\n> From x\r\n>Fromage\r\n"}},
		},
		{
			name: "a sentence that begins with From divides nothing, neither with nor without an empty line before it",
			mbox: separatorA + "Subject: 1\n\n\nFrom what I see\nFrom a@b Thu Nov  6 08:15:43 2008\n\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\n\r\nFrom what I see\r\nFrom a@b Thu Nov  6 08:15:43 2008\r\n"}},
		},
		{
			name: "CRLF stays, bare LF becomes CRLF, in one file",
			mbox: separatorA + "Subject: 1\r\n\r\none\ntwo\r\n\r\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\none\r\ntwo\r\n"}},
		},
		{
			name: "cut off in a line of the second message: the first is given",
			mbox: separatorA + "Subject: 1\n\none\n\n" + separatorA + "Subject: 2\n\ntw",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\none\r\n"},
				{"box:2", "error: box: offset 61: message 2: the mbox is cut off within this message"}},
		},
		{
			name: "cut off between two lines of a header section",
			mbox: separatorA + "Subject: 1\n",
			want: [][2]string{{"box:1", "error: box: offset 0: message 1: the mbox is cut off within this message"}},
		},
		{
			name: "cut off in the separator",
			mbox: separatorA[:20],
			want: [][2]string{{"box:1", "error: box: offset 0: message 1: the mbox is cut off within this message"}},
		},
		{
			name: "a separator longer than the buffer is skipped whole",
			mbox: "From " + strings.Repeat("a", 200<<10) + "\nSubject: 1\n\none\n",
			want: [][2]string{{"box:1", "Subject: 1\r\n\r\none\r\n"}},
		},
		{
			name: "a line longer than the buffer is one line, and a quoted From in its middle stays",
			mbox: separatorA + "\n" + strings.Repeat("a", 64<<10) + ">From x\n\n",
			want: [][2]string{{"box:1", "\r\n" + strings.Repeat("a", 64<<10) + ">From x\r\n"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := files(t, map[string]string{"box": c.mbox})
			if d := cmp.Diff(c.want, walk(t, dir, "box")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWalkDirectory(t *testing.T) {
	dir := files(t, map[string]string{
		"b.eml":              "Subject: b\n\nb\n",
		"a.eml":              "no mail, but by its name it is\n",
		"sub/c":              "Return-Path: <x@example.org>\n\nc\n", // no extension: by its first line
		"sub/d.txt":          "Hello: this is prose\n",
		"README":             "not mail\n",
		"empty":              "",
		".hidden":            "Subject: h\n\n",
		".git/x.eml":         "Subject: g\n\n",
		"box":                separatorA + "Subject: m\n\nm\n\n",
		"md/new/1":           "anything is a message here\n",
		"md/cur/2:2,S":       "Subject: 2\r\n\r\n2\r\n",
		"md/tmp/3":           "Subject: not delivered\n\n",
		"md/dovecot.index":   "Subject: no message\n\n",
		"md/.Sent/new/":      "",
		"md/.Sent/cur/4":     "Subject: 4\n\n4\n",
		"md/.Sent/cur/.lock": "",
	})
	want := [][2]string{
		{"a.eml", "no mail, but by its name it is\r\n"},
		{"b.eml", "Subject: b\r\n\r\nb\r\n"},
		{"box:1", "Subject: m\r\n\r\nm\r\n"},
		{"md/.Sent/cur/4", "Subject: 4\r\n\r\n4\r\n"},
		{"md/cur/2:2,S", "Subject: 2\r\n\r\n2\r\n"},
		{"md/new/1", "anything is a message here\r\n"},
		{"sub/c", "Return-Path: <x@example.org>\r\n\r\nc\r\n"},
	}
	if d := cmp.Diff(want, walk(t, dir, "")); d != "" {
		t.Error(d)
	}
}

func TestWalkSymlinkLoop(t *testing.T) {
	dir := files(t, map[string]string{"sub/a.eml": "Subject: a\n\na\n"})
	for _, link := range [][2]string{
		{"..", "sub/up"},       // a loop
		{"up", "sub/self"},     // a link to the link
		{"nowhere", "dead"},    // leads nowhere: an item with an error
		{"sub", "zz-same-dir"}, // entered already
	} {
		if err := os.Symlink(link[0], filepath.Join(dir, filepath.FromSlash(link[1]))); err != nil {
			t.Skip(err)
		}
	}
	got := walk(t, dir, "")
	if len(got) != 2 || got[0][0] != "dead" || !strings.HasPrefix(got[0][1], "error: ") || got[1][0] != "sub/a.eml" {
		t.Errorf("%q", got)
	}
}

func TestWalkEnds(t *testing.T) {
	dir := files(t, map[string]string{"a.eml": "a\n", "b.eml": "b\n", "box": separatorA + "\n1\n\n" + separatorA + "\n2\n\n"})
	stop := errors.New("stop")
	for _, path := range []string{"", "a.eml", "box"} {
		n := 0
		err := Walk(context.Background(), filepath.Join(dir, path), func(Item) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("%q: %v after %d items, want the error of the first", path, err, n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	err := Walk(ctx, dir, func(Item) error { n++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%v after %d items, want one and the context's error", err, n)
	}
	if err := Walk(context.Background(), filepath.Join(dir, "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is no such file", err)
	}
	if err := Walk(context.Background(), os.DevNull, nil); err == nil {
		t.Error("a device is no mail")
	}
}

func TestTooLarge(t *testing.T) {
	large := "Subject: large\n\n" + strings.Repeat("aaaaaaaaa\n", 100)
	dir := files(t, map[string]string{
		"a.eml": large,
		"b.eml": "Subject: b\n\nb\n",
		"box":   separatorA + large + "\n" + separatorA + "Subject: c\n\nc\n",
	})
	var got []string
	w := walker{ctx: context.Background(), max: 1000, seen: map[string]bool{}, fn: func(item Item) error {
		got = append(got, filepath.Base(item.Path))
		if large := strings.HasSuffix(item.Path, "a.eml") || strings.HasSuffix(item.Path, "box:1"); large != errors.Is(item.Err, errTooLarge) {
			t.Errorf("%s: %v", item.Path, item.Err)
		}
		return nil
	}}
	if err := w.dir(dir); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"a.eml", "b.eml", "box:1", "box:2"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzMbox(f *testing.F) {
	f.Add([]byte(separatorA + "Subject: 1\n\none\n\n" + separatorA + "Subject: 2\n\n>From two\n"))
	f.Add([]byte("From "))
	f.Add([]byte("From \n\n\r\nFrom a 10:10 2000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := walker{ctx: context.Background(), max: 1000, fn: func(item Item) error {
			if item.Err != nil {
				return nil
			}
			data, err := io.ReadAll(io.NewSectionReader(item.Data, 0, item.Size))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(data), "\n"); n != strings.Count(string(data), "\r\n") {
				t.Errorf("%q has a bare LF", data)
			}
			return nil
		}}
		if err := w.mbox("box", strings.NewReader(string(b))); err != nil {
			t.Error(err)
		}
	})
}
