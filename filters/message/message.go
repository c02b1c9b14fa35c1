// Package message reads Internet messages (RFC 5322) and their MIME structure (RFC 2045 to 2049) as they come: it never
// refuses one. What is malformed is read the way mail clients read it, and noted as a [Defect], since whatever a filter
// doesn't see and a reader does is a place to hide.
//
// A message is a header section and a body, with an empty line between them. The header section is a list of fields,
// "Name: value", where a line that begins with white space continues the field above it (folding). [Header] keeps the
// fields in their order and byte for byte, because signatures cover just that ([Field.Raw]); [Field.Value] unfolds,
// [Field.Decoded] gives what a person reads.
//
// The field Content-Type makes a body a tree: a multipart body is divided into parts by lines that begin with "--" and
// the boundary that the field names; each part has a small header section of its own, and its body may again be a
// multipart, or a whole message. A part's body is encoded to survive transport (base64, quoted-printable), and, if it is
// text, written in some charset. [Message.Parts] is the tree laid flat.
//
// [Read] goes over the message once, line by line, and keeps the header sections and the places of the parts; bodies
// stay in the source. What needs the bodies ([Message.Text], [Message.Links], [Message.Attachments], …) is worked out
// when it is first asked for. Time and memory are linear in the message's size, and what is kept is bounded by [Limits].
package message

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// A Message is one message, read. It is safe for concurrent use, and valid as long as its source is.
type Message struct {
	Header Header // the message's own header section; not to be changed

	src     io.ReaderAt
	size    int64
	limits  Limits
	parts   []*Part
	defects defectSet // of the structure; complete once the message is read

	contentOnce    sync.Once
	content        content
	contentDefects defectSet
	contentRead    atomic.Bool // contentDefects is complete

	attachOnce    sync.Once
	attachments   []Attachment
	attachDefects defectSet
	attachRead    atomic.Bool // attachDefects is complete

	readOnce sync.Once
	readAs   reading

	errMu sync.Mutex
	err   error
}

// Read reads the message in the first size bytes of src, under [DefaultLimits]. An error means that src could not be read;
// however broken the message is, it is none. src must not change while the message is in use.
func Read(src io.ReaderAt, size int64) (*Message, error) {
	return ReadLimited(src, size, DefaultLimits)
}

// ReadLimited is [Read] under other limits.
func ReadLimited(src io.ReaderAt, size int64, limits Limits) (*Message, error) {
	m := &Message{src: src, size: size, limits: limits}
	p := parser{m: m}
	if err := p.run(); err != nil {
		return nil, fmt.Errorf("reading a message: %w", err)
	}
	root := m.parts[0]
	m.Header = root.Header
	m.judgeHeader()
	return m, nil
}

// Size is the size of the whole message in bytes.
func (m *Message) Size() int64 { return m.size }

// Raw is the whole message, byte for byte.
func (m *Message) Raw() *io.SectionReader { return io.NewSectionReader(m.src, 0, m.size) }

// HeaderSize is the size of the header section in bytes, without the empty line that ends it.
func (m *Message) HeaderSize() int64 { return m.parts[0].headerEnd }

// Body is what stands below the header section and the empty line: the encoded body, byte for byte.
func (m *Message) Body() *io.SectionReader { return m.parts[0].Raw() }

// Parts are the message itself ("1") and all the parts in it, depth first, as they stand in the message.
func (m *Message) Parts() []*Part { return m.parts }

// Defects are all that is wrong with the message, one of each kind, with the first place where it was found.
// The bodies are looked at for it.
func (m *Message) Defects() []Defect {
	m.loadContent()
	m.Attachments()
	return m.KnownDefects()
}

// KnownDefects are those of the header section, the lines and the MIME structure, and of the bodies those that were met when
// something else asked for them. Nothing is decoded for it. See [BodyDefect].
func (m *Message) KnownDefects() []Defect {
	known := m.defects
	if m.contentRead.Load() {
		known = known.with(m.contentDefects)
	}
	if m.attachRead.Load() {
		known = known.with(m.attachDefects)
	}
	return known.seen
}

// Err is the first error met in reading the source after [Read] returned, when a body was asked for; what was
// given then is incomplete.
func (m *Message) Err() error {
	m.errMu.Lock()
	defer m.errMu.Unlock()
	return m.err
}

func (m *Message) fail(err error) {
	m.errMu.Lock()
	defer m.errMu.Unlock()
	if m.err == nil {
		m.err = fmt.Errorf("reading a message's body: %w", err)
	}
}

// Date is the time of the Date field. It is false if there is none, or if it isn't a date of RFC 5322.
func (m *Message) Date() (time.Time, bool) {
	f, ok := m.Header.First("Date")
	if !ok {
		return time.Time{}, false
	}
	return ParseDate(f.Value())
}
