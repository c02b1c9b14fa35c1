// Package mailbox finds stored mail: single messages in files, folders of them, Maildirs and mboxes.
//
// A Maildir is a directory with the subdirectories "new", "cur" and "tmp"; each file in the first two is a message. An mbox is
// one file of many messages, each after a line that begins with "From " and followed by an empty line (RFC 4155); a line of
// a message that begins with "From " itself is written with a ">" before it.
//
// Stored mail mostly has LF line ends. Messages are given with CRLF, as they were in transport.
package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// MaxSize is the size of the largest message that is read, in bytes.
const MaxSize = 100 << 20

var errTooLarge = errors.New("the message is too large")

// An Item is one message found, or one file that could not be read.
type Item struct {
	Path string      // the file; with the message's number for an mbox, "box:3" being the third
	Data io.ReaderAt // the message, with CRLF line ends; nil where Err is set
	Size int64       // of Data in bytes
	Err  error       // why there is no message; it names the file, and for an mbox the offset
}

// Walk finds the messages in path, which is a message, an mbox, a Maildir or a directory of all these, and gives them to fn in the
// order of their names. In a directory, files whose name doesn't begin with a dot and that look like mail are taken: by
// the extension ".eml", or by what they begin with. Symbolic links are followed, each directory is entered once.
//
// A file that can't be read, or an mbox that is cut off, is given as an Item with Err, after the complete messages before; the
// walk goes on, unless fn returns an error. Walk itself fails if path isn't there, with fn's error, and with that of ctx.
func Walk(ctx context.Context, path string, fn func(Item) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	w := walker{ctx: ctx, fn: fn, max: MaxSize, seen: map[string]bool{}}
	if info.IsDir() {
		return w.dir(path)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: neither a file nor a directory", path)
	}
	return w.file(path)
}

type walker struct {
	ctx  context.Context
	fn   func(Item) error
	max  int64           // the size of the largest message
	seen map[string]bool // directories entered, by their real path
}

// give hands an item on, unless the walk is to end.
func (w *walker) give(item Item) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return w.fn(item)
}

func (w *walker) fail(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return w.give(Item{Path: path.Path, Err: err})
	}
	return w.give(Item{Err: err})
}

func (w *walker) dir(path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return w.fail(err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return w.fail(err)
	}
	if w.seen[real] {
		return nil
	}
	w.seen[real] = true
	entries, err := os.ReadDir(path)
	if err != nil {
		return w.fail(err)
	}
	maildir := isMaildir(path)
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		info, err := os.Stat(name) // follows a link
		if err != nil {
			err = w.fail(err)
		} else {
			err = w.entry(name, info, maildir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(path string, info fs.FileInfo, inMaildir bool) error {
	hidden := strings.HasPrefix(filepath.Base(path), ".")
	switch {
	case info.IsDir() && inMaildir:
		switch filepath.Base(path) {
		case "new", "cur":
			return w.messages(path)
		case "tmp":
			return nil // not yet delivered
		}
		return w.dir(path) // a subfolder, whose name begins with a dot
	case info.IsDir():
		if hidden && !isMaildir(path) {
			return nil
		}
		return w.dir(path)
	case hidden || inMaildir || !info.Mode().IsRegular():
		return nil
	case strings.EqualFold(filepath.Ext(path), ".eml"):
		return w.file(path)
	}
	looks, err := looksLikeMail(path)
	if err != nil {
		return w.fail(err)
	}
	if !looks {
		return nil
	}
	return w.file(path)
}

// messages gives each file of a Maildir's new or cur.
func (w *walker) messages(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return w.fail(err)
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		info, err := os.Stat(name)
		switch {
		case err != nil:
			err = w.fail(err)
		case info.Mode().IsRegular() && !strings.HasPrefix(e.Name(), "."):
			err = w.single(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isMaildir(path string) bool {
	for _, sub := range []string{"new", "cur"} {
		info, err := os.Stat(filepath.Join(path, sub))
		if err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// file gives what is in a file: a message, or the messages of an mbox.
func (w *walker) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return w.fail(err)
	}
	defer f.Close()
	start := make([]byte, len("From "))
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return w.fail(err)
	}
	if string(start[:n]) != "From " {
		return w.single(path)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return w.fail(err)
	}
	return w.mbox(path, f)
}

// single gives a file as one message.
func (w *walker) single(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return w.fail(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, w.max+1))
	if err != nil {
		return w.fail(err)
	}
	if int64(len(data)) > w.max {
		return w.give(Item{Path: path, Err: fmt.Errorf("%s: %w: more than %d bytes", path, errTooLarge, w.max)})
	}
	data = toCRLF(data)
	return w.give(Item{Path: path, Data: bytes.NewReader(data), Size: int64(len(data))})
}

// toCRLF makes each LF a CRLF that is none yet.
func toCRLF(b []byte) []byte {
	bare := bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
	if bare == 0 {
		return b
	}
	out := make([]byte, 0, len(b)+bare)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
		if i == 0 || b[i-1] != '\r' {
			out = append(out, '\r')
		}
		out = append(out, '\n')
		b = b[i+1:]
	}
	return out
}

// looksLikeMail reports whether a file begins like a message or an mbox.
func looksLikeMail(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	start := make([]byte, 512)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	start = start[:n]
	if separator(start) {
		return true, nil
	}
	name, _, found := bytes.Cut(start, []byte(":"))
	if !found {
		return false, nil
	}
	switch lower := strings.ToLower(string(name)); lower {
	case "return-path", "received", "delivered-to", "from", "to", "cc", "subject", "date", "message-id", "mime-version",
		"content-type", "dkim-signature", "authentication-results", "received-spf", "reply-to", "sender":
		return true, nil
	default:
		return strings.HasPrefix(lower, "arc-") || strings.HasPrefix(lower, "x-") && !strings.ContainsAny(lower, " \t\n"), nil
	}
}
