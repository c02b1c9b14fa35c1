package peertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// deliveryLimit bounds the wait for a delivery that was promised with 250.
const deliveryLimit = 30 * time.Second

// Message is one delivered message as it lies in a Maildir.
type Message struct {
	Path string // of the file
	Raw  []byte // as stored: real servers end lines with LF
}

// Data gives the message with CRLF at the end of each line, as it was on the wire.
func (m Message) Data() []byte {
	lf := bytes.ReplaceAll(m.Raw, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(lf, []byte("\n"), []byte("\r\n"))
}

// Header gives the unfolded values of all fields of that name, top to bottom.
func (m Message) Header(name string) []string {
	var values []string
	in := false
	for line := range strings.Lines(string(bytes.ReplaceAll(m.Raw, []byte("\r\n"), []byte("\n")))) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if in {
				values[len(values)-1] += line
			}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		if in = strings.EqualFold(field, name); in {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// Has says whether the message contains text, with LF line ends.
func (m Message) Has(text string) bool {
	return bytes.Contains(bytes.ReplaceAll(m.Raw, []byte("\r\n"), []byte("\n")), []byte(text))
}

// readMaildir reads what lies in the new and cur folders, oldest first.
func readMaildir(dir string) ([]Message, error) {
	type file struct {
		path string
		mod  time.Time
	}
	var files []file
	for _, sub := range []string{"new", "cur"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the Maildir: %w", err)
		}
		for _, e := range entries {
			fi, err := e.Info()
			if os.IsNotExist(err) {
				continue // moved between the two folders at this moment
			}
			if err != nil {
				return nil, fmt.Errorf("read the Maildir: %w", err)
			}
			files = append(files, file{path: filepath.Join(dir, sub, e.Name()), mod: fi.ModTime()})
		}
	}
	sort.Slice(files, func(i, j int) bool {
		if !files[i].mod.Equal(files[j].mod) {
			return files[i].mod.Before(files[j].mod)
		}
		return files[i].path < files[j].path
	})
	var out []Message
	for _, f := range files {
		raw, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("read a delivered message: %w", err)
		}
		out = append(out, Message{Path: f.path, Raw: raw})
	}
	return out, nil
}

// awaitMail waits until at least n messages lie in the Maildir, and gives all that do.
func awaitMail(t testing.TB, dir string, n int, log func() string) []Message {
	t.Helper()
	deadline := time.Now().Add(deliveryLimit)
	for {
		msgs, err := readMaildir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(msgs) >= n {
			return msgs
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages in %s after %v, want %d; the server's log:\n%s", len(msgs), filepath.Base(dir), deliveryLimit, n, log())
		}
		time.Sleep(pollPause)
	}
}
