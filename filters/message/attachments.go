package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// An Attachment is a part that a reader gets as a file.
type Attachment struct {
	Name      string   // file name, decoded; or empty
	Type      string   // media type as declared, in lower case
	RealType  string   // media type by its content; empty if it tells nothing, as in an empty file
	Size      int64    // decoded, in bytes
	Inline    bool     // shown in the message, such as an image in HTML
	Encrypted bool     // it can't be looked into without a password
	Inside    []string // names of the files in an archive and in the archives in it, where they can be read without unpacking the whole
	PartID    string   // the ID of its [Part]

	Extension  string   // the last one of Name, in lower case, without the point; or empty
	Kinds      []string // what kind of file it is: words of [AttachmentKinds]
	InsideKind []string // the kinds of the files in Inside, by their names and by their first octets
	Tricks     []string // how its name lies: words of [NameTricks]

	macros bool
}

// Attachments are the message's attachments in their order, up to the limit: parts that are neither text to be read nor
// containers of parts, texts that have a file name or are marked as attachment, and attached messages.
func (m *Message) Attachments() []Attachment {
	m.attachOnce.Do(func() {
		defer m.attachRead.Store(true)
		budget := newArchiveBudget()
		for _, p := range m.parts {
			if !p.attached() {
				continue
			}
			if len(m.attachments) >= m.limits.Attachments {
				m.attachDefects.add("many_attachments", "more than %d attachments", m.limits.Attachments)
				return
			}
			m.attachments = append(m.attachments, m.inspect(p, budget))
		}
	})
	return m.attachments
}

func (p *Part) attached() bool {
	if !p.Leaf() {
		return p.message()
	}
	kind := p.textKind()
	return p.Disposition == "attachment" || p.Name != "" || kind == notText || kind == attachedPage
}

// inspect goes through the body of a part once.
func (m *Message) inspect(p *Part, budget *archiveBudget) Attachment {
	a := Attachment{Name: p.Name, Type: p.Type, PartID: p.ID, Extension: extension(p.Name), Inline: p.Disposition == "inline" || p.related()}
	if p.Leaf() {
		m.inspectBody(p, &a, budget)
	} else {
		a.Size, a.RealType = p.Raw().Size(), p.Type
	}
	a.Kinds, a.InsideKind, a.Tricks = a.kinds(), insideKinds(a.Inside, a.InsideKind), a.nameTricks()
	return a
}

func (m *Message) inspectBody(p *Part, a *Attachment, budget *archiveBudget) {
	s := samples.Get().(*sample)
	defer s.release()
	s.reset()
	if _, err := io.Copy(s, newContentReader(p, &m.attachDefects)); err != nil {
		m.fail(err)
	}
	a.Size = s.size
	a.RealType = realType(s.head)
	a.Encrypted = encrypted(a.RealType, s)
	a.macros = s.macros
	if listed(a.RealType) {
		m.listArchive(s, p, a, budget)
	}
}

// listArchive takes down what is in an archive. Of one that is larger than is kept the beginning and the end are there.
func (m *Message) listArchive(s *sample, p *Part, a *Attachment, budget *archiveBudget) {
	l := archiveList{budget: budget, max: m.limits.Names, encrypted: a.Encrypted}
	b := s.whole
	if len(b) == 0 {
		b = s.head
	}
	complete := s.size == int64(len(b))
	isZip := a.RealType == "application/zip"
	if isZip {
		tail := b
		if !complete {
			tail = s.tail
		}
		dir, err := readZip(b, tail, m.limits.Names)
		l.err, l.encrypted, a.macros = err, dir.encrypted, dir.macros
		a.RealType = dir.kind()
		if a.RealType == "application/zip" && complete {
			l.zip(b, &dir, "", 1)
		} else {
			l.names = dir.names
		}
	} else {
		l.list(b, a.RealType, a.Name, "", 1)
	}
	if l.err != nil && (complete || isZip) {
		m.attachDefects.add("bad_archive", "part %s: %v", p.ID, l.err)
	}
	if l.cut || !complete && !isZip {
		m.attachDefects.add("archive_cut", "part %s", p.ID)
	}
	a.Inside, a.InsideKind, a.Encrypted = l.names, l.kinds, l.encrypted
}

// related reports whether the part is shown within another, which names it by its Content-ID (RFC 2387).
func (p *Part) related() bool {
	return p.Disposition == "" && p.Parent != nil && p.Parent.Type == "multipart/related" && p.Header.Count("Content-ID") > 0 &&
		!strings.HasPrefix(p.Type, "text/")
}

// How much of an attachment is kept to look at.
const (
	headSize = 40 << 10 // holds the mark of an ISO 9660 image, at 32 KiB
	tailSize = 256 << 10
)

// A sample is the beginning and the end of an attachment. It is an [io.Writer], so that attachments of any size
// go through it without being held.
type sample struct {
	head  []byte
	whole []byte // the first maxArchive octets of an archive that is longer than head
	tail  []byte // the end, kept for ZIP and PDF only, whose directories stand there; at least tailSize of it if there is as much
	size  int64

	macros, locked bool // streams of these names are in an OLE file
}

var samples = sync.Pool{New: func() any { return new(sample) }}

func (s *sample) reset() {
	s.head, s.tail, s.size, s.macros, s.locked = s.head[:0], s.tail[:0], 0, false, false
	s.whole = s.whole[:0]
}

// release keeps the sample for the next attachment, unless it holds much.
func (s *sample) release() {
	if cap(s.whole) > maxSource {
		s.whole = nil
	}
	samples.Put(s)
}

func (s *sample) Write(p []byte) (int, error) {
	full := len(s.head) == headSize
	if room := headSize - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
	s.keep(p, full)
	s.size += int64(len(p))
	if s.ole() {
		s.lookForStreams(p)
		return len(p), nil
	}
	if !s.wantsTail() {
		return len(p), nil
	}
	if len(s.tail)+len(p) > 2*tailSize && len(s.tail) > tailSize {
		n := copy(s.tail, s.tail[len(s.tail)-tailSize:])
		s.tail = s.tail[:n]
	}
	s.tail = append(s.tail, p...)
	return len(p), nil
}

// keep adds p to what is kept of an archive. That it is one is found out once its head is full.
func (s *sample) keep(p []byte, full bool) {
	switch {
	case len(s.head) < headSize || full && len(s.whole) == 0:
		return
	case full:
		s.whole = append(s.whole, p[:min(len(p), maxArchive-len(s.whole))]...)
	case listed(realType(s.head)):
		s.whole = append(s.whole, s.head...)
		rest := p[headSize-int(s.size):]
		s.whole = append(s.whole, rest...)
	}
}

func (s *sample) wantsTail() bool {
	return len(s.head) >= 4 && (string(s.head[:2]) == "PK" || string(s.head[:4]) == "%PDF")
}

func (s *sample) ole() bool { return bytes.HasPrefix(s.head, oleMark) }

var (
	oleMark      = []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	macrosStream = utf16LE("_VBA_PROJECT")     // MS-OVBA sections 2.2.1 and 2.3.4.1
	lockedStream = utf16LE("EncryptedPackage") // MS-OFFCRYPTO section 1.3.2
)

// lookForStreams looks for the names of streams in an OLE file, whose directory may be anywhere in it (MS-CFB section 2.6).
// The end of each piece is kept, as a name may go on in the next.
func (s *sample) lookForStreams(p []byte) {
	const keep = 64
	if len(s.tail) > 0 {
		s.findStreams(append(s.tail, p[:min(keep, len(p))]...))
	}
	s.findStreams(p)
	if len(p) >= keep {
		s.tail = append(s.tail[:0], p[len(p)-keep:]...)
		return
	}
	s.tail = append(s.tail, p...)
	s.tail = s.tail[:copy(s.tail, s.tail[max(0, len(s.tail)-keep):])]
}

func (s *sample) findStreams(b []byte) {
	s.macros = s.macros || bytes.Contains(b, macrosStream)
	s.locked = s.locked || bytes.Contains(b, lockedStream)
}

var errZip = errors.New("the ZIP archive has no readable directory")
