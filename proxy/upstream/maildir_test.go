package upstream

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// inDirs gives the names of all files under a Maildir, as "new/name".
func inDirs(t *testing.T, path string) []string {
	t.Helper()
	var files []string
	for _, dir := range []string{"tmp", "new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(path, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			files = append(files, dir+"/"+e.Name())
		}
	}
	return files
}

func TestMaildirDeliver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "mail")
	m := NewMaildir(dir, "mx/1:2.example.org")
	if all, err := m.List(); err != nil || len(all) != 0 {
		t.Fatalf("before the first delivery: %v, %v; expected none", all, err)
	}
	const message = "Subject: x\r\n\r\n.dot\r\nFrom here\r\n"
	id, err := m.Deliver(context.Background(), strings.NewReader(message), func() error {
		if files := inDirs(t, dir); len(files) != 1 || !strings.HasPrefix(files[0], "tmp/") {
			t.Errorf("before it appears: %q, expected one file in tmp", files)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files := inDirs(t, dir); !slices.Equal(files, []string{"new/" + id}) {
		t.Fatalf("got %q, expected new/%s alone", files, id)
	}
	if !strings.HasSuffix(id, `.mx\0571\0722.example.org`) {
		t.Fatalf("id %q: the host's slash and colon must be written as octal numbers", id)
	}
	info, err := os.Stat(filepath.Join(dir, "new", id))
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v; expected 0600", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, "new")); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("mode of new %v, %v; expected 0700", info.Mode(), err)
	}
	f, err := m.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != message {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestMaildirListAndRemove(t *testing.T) {
	m := NewMaildir(t.TempDir(), "mx.example.org")
	var ids []string
	for _, text := range []string{"one\r\n", "two\r\n", "three\r\n"} {
		id, err := m.Deliver(context.Background(), strings.NewReader(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	// A mail reader has looked at the second.
	if err := os.Rename(filepath.Join(m.Path(), "new", ids[1]), filepath.Join(m.Path(), "cur", ids[1]+":2,S")); err != nil {
		t.Fatal(err)
	}
	all, err := m.List()
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	for _, e := range all {
		if !slices.Contains(ids, e.ID) || e.New != (e.ID != ids[1]) || e.Size == 0 {
			t.Fatalf("got %+v", e)
		}
	}
	for _, id := range ids[:2] {
		if err := m.Remove(id); err != nil {
			t.Fatal(err)
		}
		if err := m.Remove(id); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("removed twice: %v", err)
		}
	}
	if files := inDirs(t, m.Path()); !slices.Equal(files, []string{"new/" + ids[2]}) {
		t.Fatalf("got %q", files)
	}
}

// An id is no path, whoever wrote it.
func TestMaildirIDs(t *testing.T) {
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := NewMaildir(filepath.Join(base, "mail"), "mx.example.org")
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", ".", "..", "../../secret", "/etc/passwd", "new", "x\x00y"} {
		if f, err := m.Open(id); !errors.Is(err, fs.ErrNotExist) {
			f.Close()
			t.Errorf("Open(%q): %v, expected not to exist", id, err)
		}
		if err := m.Remove(id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Remove(%q): %v, expected not to exist", id, err)
		}
	}
}

// A recipient never chooses where a message goes.
func TestMaildirRecipientIsNoPath(t *testing.T) {
	base := t.TempDir()
	u := newUpstream(t, Config{Address: "maildir:" + filepath.Join(base, "mail")})
	to := Path{Local: "../../../evil/x", Domain: "example.org"}
	if result, err := deliver(context.Background(), mustOpen(t, u, Client{}), text("x\r\n"), to); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	entries, err := os.ReadDir(base)
	if err != nil || len(entries) != 1 {
		t.Fatalf("got %v, %v", entries, err)
	}
	if files := inDirs(t, filepath.Join(base, "mail")); len(files) != 1 || !strings.HasPrefix(files[0], "new/") {
		t.Fatalf("got %q", files)
	}
}

type failingWriter struct {
	w     io.Writer
	after int
	err   error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	if len(p) > f.after {
		n, _ := f.w.Write(p[:f.after])
		f.after = 0
		return n, f.err
	}
	f.after -= len(p)
	return f.w.Write(p)
}

// A disk that fails leaves no message, no rest of one, and the right answer.
func TestMaildirDiskFails(t *testing.T) {
	cases := []struct {
		name string
		err  error
		code int // of the reply; 0 for an error
	}{
		{name: "full", err: syscall.ENOSPC, code: 452},
		{name: "over quota", err: syscall.EDQUOT, code: 452},
		{name: "broken", err: syscall.EIO},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			u := newUpstream(t, Config{Address: "maildir:" + dir})
			u.(*maildirHop).dir.wrap = func(w io.Writer) io.Writer { return &failingWriter{w: w, after: 1000, err: tc.err} }
			c := mustOpen(t, u, Client{})
			body := Body{Message: strings.NewReader(strings.Repeat("Hello\r\n", 1000))}
			body.BeforeDot = func() error { t.Error("asked for a message that could not be written"); return nil }
			result, err := deliver(context.Background(), c, body, alice)
			if tc.code != 0 {
				if err != nil || result.Reply.Code != tc.code || result.Reply.Enhanced != "4.3.1" || result.Offered {
					t.Fatalf("got %v, %v; expected %d", result, err, tc.code)
				}
			} else if wantError(t, err, "data", false); !errors.Is(err, tc.err) {
				t.Fatal(err)
			}
			if files := inDirs(t, dir); len(files) != 0 {
				t.Fatalf("left behind: %q", files)
			}
			u.(*maildirHop).dir.wrap = func(w io.Writer) io.Writer { return w }
			if result, err := deliver(context.Background(), c, text("x\r\n"), alice); err != nil || result.Reply.Code != 250 {
				t.Fatalf("after that: %v, %v", result, err)
			}
		})
	}
}

// What stands in the way of the folder is an error that names it.
func TestMaildirNotPossible(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	u := newUpstream(t, Config{Address: "maildir:" + file})
	if _, err := u.Probe(context.Background()); err == nil || !strings.Contains(err.Error(), file) {
		t.Fatalf("Probe: %v, expected an error with the path", err)
	}
	_, err := u.Open(context.Background(), Client{})
	wantError(t, err, "connect", false)
}

// A name that is taken is never written over.
func TestMaildirNameTaken(t *testing.T) {
	dir := t.TempDir()
	tmp, final := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for path, text := range map[string]string{tmp: "new", final: "old"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := moveNew(tmp, final); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, expected that the name exists", err)
	}
	if got, err := os.ReadFile(final); err != nil || string(got) != "old" {
		t.Fatalf("written over: %q, %v", got, err)
	}
}

func TestMaildirUniqueNames(t *testing.T) {
	m := NewMaildir(t.TempDir(), "mx.example.org")
	const writers, each = 4, 500
	names := make(chan string, writers*each)
	for range writers {
		go func() {
			for range each {
				names <- m.uniqueName()
			}
		}()
	}
	seen := map[string]bool{}
	for range writers * each {
		name := <-names
		if seen[name] {
			t.Fatalf("%s twice", name)
		}
		seen[name] = true
	}
}

// The order of commands is kept, as a server would.
func TestMaildirOrder(t *testing.T) {
	c := mustOpen(t, newUpstream(t, Config{Address: "maildir:" + t.TempDir()}), Client{})
	ctx := context.Background()
	if r, err := c.Rcpt(ctx, Rcpt{To: alice}); err != nil || r.Code != 503 {
		t.Fatal(r, err)
	}
	if result, err := c.Data(ctx, text("x\r\n")); err != nil || result.Reply.Code != 503 {
		t.Fatal(result, err)
	}
	if r, err := c.Mail(ctx, Mail{From: bob}); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Rcpt(ctx, Rcpt{To: alice}); !errors.Is(err, ErrDead) || c.Alive() {
		t.Fatal(err)
	}
}
