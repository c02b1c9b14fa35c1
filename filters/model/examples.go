package model

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"postern/filters/message"
)

// MaxExamples is how many messages of each class are kept. Beyond it the oldest go.
const MaxExamples = 50_000

// maxExample is the longest example: every bucket once, in each group.
const maxExample = int(groups) * Buckets * 3

// An ID tells messages apart by what their authors and mailers wrote, so that a copy with other Received fields is the same
// message.
type ID [16]byte

// IDOf gives a message's ID: a hash of the fields From, Subject, Date and Message-ID and of the body.
func IDOf(m *message.Message) (ID, error) {
	h := sha256.New()
	for _, name := range []string{"From", "Subject", "Date", "Message-ID"} {
		f, _ := m.Header.First(name)
		fmt.Fprintf(h, "%s\n", f.Value())
	}
	if _, err := io.Copy(h, m.Body()); err != nil {
		return ID{}, err
	}
	return ID(h.Sum(nil)[:16]), nil
}

// An Example is a message that was learned from.
type Example struct {
	ID     ID
	Spam   bool
	packed []byte // the features: for each group their number and the steps from one bucket to the next, as varints
}

// NewExample makes an example of a message.
func NewExample(m *message.Message, spam bool) (Example, error) {
	id, err := IDOf(m)
	if err != nil {
		return Example{}, err
	}
	return Example{ID: id, Spam: spam, packed: pack(Extract(m))}, nil
}

func pack(f Features) []byte {
	var packed []byte
	for _, list := range f {
		packed = binary.AppendUvarint(packed, uint64(len(list)))
		last := uint32(0)
		for _, b := range list {
			packed = binary.AppendUvarint(packed, uint64(b-last))
			last = b
		}
	}
	return packed
}

// unpack fills f, whose memory is used again. What was packed is known to be sound: load checks it.
func (e Example) unpack(f *Features) { _ = unpack(e.packed, f) }

var errPacked = errors.New("the features of an example are damaged")

func unpack(packed []byte, f *Features) error {
	for g := range f {
		f[g] = f[g][:0]
		n, size := binary.Uvarint(packed)
		if size <= 0 || n > Buckets {
			return errPacked
		}
		packed = packed[size:]
		at := uint64(0)
		for range n {
			step, size := binary.Uvarint(packed)
			at += step
			if size <= 0 || step >= Buckets || at >= Buckets {
				return errPacked
			}
			packed = packed[size:]
			f[g] = append(f[g], uint32(at))
		}
	}
	if len(packed) > 0 {
		return errPacked
	}
	return nil
}

// examplesMagic begins the file of examples; the number is that of the features' definition.
const examplesMagic = "postern examples 1\n"

// Examples are all messages that were learned from, in the order in which they came. They live in a file beside the model,
// which only one process at a time can have open. Nothing is written before Save.
type Examples struct {
	path    string
	lock    *os.File
	list    []Example
	byID    map[ID]int // place in list
	deleted int        // places in list that are empty
	changed bool
}

// OpenExamples reads the examples in the file path, which need not exist. A damaged file is an error: what was learned can't
// be made good again, so it is not thrown away unasked.
func OpenExamples(path string) (*Examples, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: another process is learning; try again when it has ended", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	x := &Examples{path: path, lock: lock, byID: make(map[ID]int)}
	if err := x.load(); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// Close lets others in. What was not saved is lost.
func (x *Examples) Close() error { return x.lock.Close() }

// Counts gives how many ham and spam there are.
func (x *Examples) Counts() (ham, spam int) {
	for _, e := range x.list {
		switch {
		case e.packed == nil:
		case e.Spam:
			spam++
		default:
			ham++
		}
	}
	return ham, spam
}

// A Change is what Learn did.
type Change uint8

// The changes.
const (
	Known   Change = iota // the message was learned before, as the same
	Added                 // it is new
	Relabel               // it was learned before as the other: it has changed sides
)

// Learn adds an example.
func (x *Examples) Learn(e Example) Change {
	at, known := x.byID[e.ID]
	switch {
	case !known:
		x.byID[e.ID] = len(x.list)
		x.list = append(x.list, e)
		x.changed = true
		return Added
	case x.list[at].Spam != e.Spam:
		x.list[at] = e
		x.changed = true
		return Relabel
	}
	return Known
}

// Forget removes an example and reports whether there was one.
func (x *Examples) Forget(id ID) bool {
	at, known := x.byID[id]
	if known {
		delete(x.byID, id)
		x.list[at] = Example{}
		x.deleted++
		x.changed = true
	}
	return known
}

// All gives the examples, oldest first. They are not to be changed.
func (x *Examples) All() []Example {
	all := make([]Example, 0, len(x.list)-x.deleted)
	for _, e := range x.list {
		if e.packed != nil {
			all = append(all, e)
		}
	}
	return all
}

// Save writes the examples, if they have changed, so that a crash leaves the old file or the new one.
func (x *Examples) Save() error {
	if !x.changed {
		return nil
	}
	all := newest(x.All(), MaxExamples)
	err := replaceFile(x.path, func(w io.Writer) error {
		if _, err := io.WriteString(w, examplesMagic); err != nil {
			return err
		}
		for _, e := range all {
			if _, err := w.Write(e.frame()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save the examples: %w", err)
	}
	x.changed = false
	return nil
}

// newest leaves the last n of each class.
func newest(all []Example, n int) []Example {
	var ham, spam int
	keep := len(all)
	kept := make([]Example, len(all))
	for i := len(all) - 1; i >= 0; i-- {
		count := &ham
		if all[i].Spam {
			count = &spam
		}
		if *count++; *count <= n {
			keep--
			kept[keep] = all[i]
		}
	}
	return kept[keep:]
}

// frame is an example as it stands in the file: length and checksum of the rest, class, ID, features.
func (e Example) frame() []byte {
	body := make([]byte, 8, 8+1+len(e.ID)+len(e.packed))
	class := byte('h')
	if e.Spam {
		class = 's'
	}
	body = append(append(append(body, class), e.ID[:]...), e.packed...)
	binary.BigEndian.PutUint32(body, uint32(len(body)-8))
	binary.BigEndian.PutUint32(body[4:], crc32.ChecksumIEEE(body[8:]))
	return body
}

func (x *Examples) load() error {
	f, err := os.Open(x.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	magic := make([]byte, len(examplesMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != examplesMagic {
		return fmt.Errorf("%s: not a file of examples of this version of Postern: learn into another file", x.path)
	}
	for n := 1; ; n++ {
		e, err := readFrame(r)
		if err == io.EOF {
			x.changed = false
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: example %d: %w", x.path, n, err)
		}
		x.Learn(e)
	}
}

func readFrame(r io.Reader) (Example, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return Example{}, err
		}
		return Example{}, errPacked
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size < 1+len(ID{}) || size > maxExample {
		return Example{}, errPacked
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil || crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(head[4:]) {
		return Example{}, errPacked
	}
	e := Example{Spam: body[0] == 's', ID: ID(body[1:17]), packed: body[17:]}
	var f Features
	return e, unpack(e.packed, &f)
}

// replaceFile writes a file beside path and puts it in its place when it is whole and on the disk.
func replaceFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+strings.TrimPrefix(filepath.Base(path), ".")+"-*") // mode 0600
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<16)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
