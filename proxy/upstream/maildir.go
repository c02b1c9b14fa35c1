package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A Maildir is a folder with a file for each message. A message is written to tmp and appears in new whole or not at
// all; programs that read mail move it to cur. Nothing that a message or its envelope says becomes part of a path.
// Line ends are kept as they are, CRLF.
type Maildir struct {
	path string
	host string
	wrap func(io.Writer) io.Writer // for tests: the disk
}

// NewMaildir describes a Maildir, without touching the disk. host is our name, for the names of files.
func NewMaildir(path, host string) *Maildir {
	return &Maildir{
		path: path,
		host: strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host),
		wrap: func(w io.Writer) io.Writer { return w },
	}
}

// Path is the folder.
func (m *Maildir) Path() string { return m.path }

// Create makes the folder, and tmp, new and cur in it, where they are missing, so that they survive a crash.
func (m *Maildir) Create() error {
	made := false
	for _, dir := range []string{"tmp", "new", "cur"} {
		path := filepath.Join(m.path, dir)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			continue
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("maildir: %w", err)
		}
		made = true
	}
	if !made {
		return nil
	}
	if err := syncDir(m.path); err != nil {
		return fmt.Errorf("maildir: %w", err)
	}
	// The folder above may be one that we may pass through but not read, and so not sync.
	if err := syncDir(filepath.Dir(filepath.Clean(m.path))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("maildir: %w", err)
	}
	return nil
}

var deliveries atomic.Uint64

// uniqueName makes a name that no other delivery has: https://cr.yp.to/proto/maildir.html.
func (m *Maildir) uniqueName() string {
	now := time.Now()
	return fmt.Sprintf("%d.M%dP%dQ%d.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), deliveries.Add(1), m.host)
}

// A DeliveryError is a delivery that failed.
type DeliveryError struct {
	InDoubt bool // the message may have been delivered all the same
	Err     error
}

func (e *DeliveryError) Error() string { return "maildir: " + e.Err.Error() }

func (e *DeliveryError) Unwrap() error { return e.Err }

// Deliver writes a message and gives the name of its file, which is its id for Open and Remove. It is on the disk when
// Deliver returns. before, if not nil, is called when all is written, right before the message appears; if it fails, the message does not.
// The error is a [*DeliveryError].
func (m *Maildir) Deliver(ctx context.Context, message io.Reader, before func() error) (id string, err error) {
	if err := m.Create(); err != nil {
		return "", &DeliveryError{Err: err}
	}
	name := m.uniqueName()
	tmp := filepath.Join(m.path, "tmp", name)
	if err := m.write(ctx, tmp, message); err != nil {
		return "", &DeliveryError{Err: err}
	}
	defer os.Remove(tmp)
	if before != nil {
		if err := before(); err != nil {
			return "", &DeliveryError{Err: fmt.Errorf("message withdrawn: %w", err)}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return "", &DeliveryError{Err: err}
	}
	dir := filepath.Join(m.path, "new")
	final := filepath.Join(dir, name)
	if err := moveNew(tmp, final); err != nil {
		return "", &DeliveryError{Err: err}
	}
	if err := syncDir(dir); err != nil {
		// It is there, but may not survive a crash: who is told of a failure will send it again.
		return "", &DeliveryError{InDoubt: os.Remove(final) != nil, Err: err}
	}
	return name, nil
}

// write makes the file with the message and has it on the disk, or leaves none.
func (m *Maildir) write(ctx context.Context, path string, message io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(path)
		}
	}()
	buf := copyBuffers.Get().(*[blockSize]byte)
	defer copyBuffers.Put(buf)
	if err := copyMessage(&contextWriter{ctx: ctx, w: m.wrap(f)}, message, buf[:]); err != nil {
		return err
	}
	return f.Sync()
}

// contextWriter refuses to write when ctx has ended.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w *contextWriter) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// moveNew gives the file its place, never that of another: link fails where the name is taken. File systems without hard
// links get a rename.
func moveNew(tmp, final string) error {
	err := os.Link(tmp, final)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		if _, serr := os.Lstat(final); serr == nil {
			return &fs.PathError{Op: "rename", Path: final, Err: fs.ErrExist}
		}
		return os.Rename(tmp, final)
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// An Entry is a message in a Maildir.
type Entry struct {
	ID   string // name of the file without the flags
	Path string
	New  bool // no program has seen it yet
	Time time.Time
	Size int64
}

// List gives all messages, oldest first. A Maildir that does not exist yet has none.
func (m *Maildir) List() ([]Entry, error) {
	var all []Entry
	for _, dir := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(m.path, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("maildir: %w", err)
		}
		for _, f := range files {
			info, err := f.Info()
			if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() || strings.HasPrefix(f.Name(), ".") {
				continue // moved in the meantime, or not a message
			}
			if err != nil {
				return nil, fmt.Errorf("maildir: %w", err)
			}
			id, _, _ := strings.Cut(f.Name(), ":")
			all = append(all, Entry{
				ID:   id,
				Path: filepath.Join(m.path, dir, f.Name()),
				New:  dir == "new",
				Time: info.ModTime(),
				Size: info.Size(),
			})
		}
	}
	slices.SortFunc(all, func(a, b Entry) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// find gives the message of an id. The id is compared, never made part of a path.
func (m *Maildir) find(id string) (Entry, error) {
	all, err := m.List()
	if err != nil {
		return Entry{}, err
	}
	for _, e := range all {
		if e.ID == id {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("maildir %s: no message %s: %w", m.path, strconv.Quote(id), fs.ErrNotExist)
}

// Open opens the message of an id for reading. The error is fs.ErrNotExist if there is none.
func (m *Maildir) Open(id string) (*os.File, error) {
	e, err := m.find(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(e.Path)
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	return f, nil
}

// Rewrite puts another content in the place of the message of an id, whole or not at all. The error is fs.ErrNotExist if
// there is none.
func (m *Maildir) Rewrite(id string, content []byte) error {
	e, err := m.find(id)
	if err != nil {
		return err
	}
	tmp := filepath.Join(m.path, "tmp", m.uniqueName())
	if err := m.write(context.Background(), tmp, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("maildir: %w", err)
	}
	if err := os.Chtimes(tmp, e.Time, e.Time); err != nil { // it is as old as it was
		return fmt.Errorf("maildir: %w", errors.Join(err, os.Remove(tmp)))
	}
	if err := os.Rename(tmp, e.Path); err != nil {
		return fmt.Errorf("maildir: %w", errors.Join(err, os.Remove(tmp)))
	}
	return syncDir(filepath.Dir(e.Path))
}

// Remove deletes the message of an id. The error is fs.ErrNotExist if there is none.
func (m *Maildir) Remove(id string) error {
	e, err := m.find(id)
	if err != nil {
		return err
	}
	if err := os.Remove(e.Path); err != nil {
		return fmt.Errorf("maildir: %w", err)
	}
	return nil
}
