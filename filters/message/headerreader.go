package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// What a headerReader makes of a line.
type headerLine uint8

const (
	headerGoesOn headerLine = iota
	headerBlank             // the empty line that ends the section
	headerOver              // the section ended above this line, with no empty line
)

const (
	lookAhead     = 4 << 10 // how far a line that is no field is followed, to see whether fields follow it
	maxBadLines   = 20      // how many such lines a message may have among its fields
	maxNameLength = 256     // of a field's name
)

// A headerReader gathers the lines of a header section into fields. One serves all header sections of a message in turn,
// so that the limits hold for all of them together.
type headerReader struct {
	src     io.ReaderAt
	size    int64
	defects *defectSet
	octets  int64 // that may yet be kept
	fields  int   // that may yet be kept
	bad     int   // lines among the fields that are none

	raw     []byte      // of the section so far: room that is used again, for other messages too
	marks   []fieldMark // likewise
	dropped bool        // the current field doesn't fit into the limits
}

type fieldMark struct{ start, nameLen int }

// A headerRoom is what a section is gathered in. Finding out its size by growing would cost more than keeping it.
type headerRoom struct {
	raw   []byte
	marks []fieldMark
}

var headerRooms = sync.Pool{New: func() any { return &headerRoom{} }}

// maxHeaderRoom bounds what is kept of a large section.
const maxHeaderRoom = 64 << 10

// borrow takes room, for which it gives the function that gives it back.
func (h *headerReader) borrow() (giveBack func()) {
	room := headerRooms.Get().(*headerRoom)
	h.raw, h.marks = room.raw, room.marks
	return func() {
		room.raw, room.marks = h.raw, h.marks
		h.raw, h.marks = nil, nil
		if cap(room.raw) <= maxHeaderRoom {
			headerRooms.Put(room)
		}
	}
}

func (h *headerReader) start() {
	h.raw, h.marks, h.dropped = h.raw[:0], h.marks[:0], false
}

// finish gives the section's fields.
func (h *headerReader) finish() Header {
	if len(h.marks) == 0 {
		return nil
	}
	raw := bytes.Clone(h.raw)
	header := make(Header, len(h.marks))
	for i, m := range h.marks {
		end := len(raw)
		if i+1 < len(h.marks) {
			end = h.marks[i+1].start
		}
		field := raw[m.start:end:end]
		header[i] = Field{Name: internName(field[:m.nameLen]), Raw: field}
	}
	return header
}

func (h *headerReader) line(p piece) (headerLine, error) {
	if !p.first {
		h.keep(p.data)
		return headerGoesOn, nil
	}
	if len(bytes.TrimLeft(p.data, "\r")) == 1 && p.data[len(p.data)-1] == '\n' {
		return headerBlank, nil
	}
	first := len(h.marks) == 0 && !h.dropped
	if p.data[0] == ' ' || p.data[0] == '\t' {
		if first {
			h.badLine(p.data)
		} else {
			h.keep(p.data)
		}
		return headerGoesOn, nil
	}
	if n := nameLength(p.data); n > 0 {
		h.begin(p.data, n)
		return headerGoesOn, nil
	}
	if first && (bytes.HasPrefix(p.data, []byte("From ")) || bytes.HasPrefix(p.data, []byte(">From "))) {
		h.badLine(p.data) // the separator line of an mbox
		return headerGoesOn, nil
	}
	more, err := h.fieldsFollow(p)
	if err != nil {
		return headerOver, err
	}
	if more {
		h.badLine(p.data)
		return headerGoesOn, nil
	}
	h.defects.add("no_blank_line", "the header section ends at a line that begins with %q", cutUTF8(string(p.data), 40))
	return headerOver, nil
}

func (h *headerReader) badLine(data []byte) {
	h.bad++
	h.defects.add("bad_field", "a line that begins with %q", cutUTF8(string(data), 40))
	h.begin(data, 0)
}

// begin starts a field, if one more may be kept.
func (h *headerReader) begin(data []byte, nameLen int) {
	h.dropped = h.fields <= 0
	if h.dropped {
		h.defects.add("many_fields", "more header fields than are kept")
		return
	}
	h.fields--
	h.marks = append(h.marks, fieldMark{start: len(h.raw), nameLen: nameLen})
	h.keep(data)
}

// keep adds data to the current field. A field that doesn't fit is left out whole: half a field would be another one.
func (h *headerReader) keep(data []byte) {
	if h.dropped {
		return
	}
	h.octets -= int64(len(data))
	if h.octets >= 0 {
		h.raw = append(h.raw, data...)
		return
	}
	h.defects.add("header_too_big", "the header is larger than is kept")
	last := h.marks[len(h.marks)-1]
	h.octets += int64(len(data) + len(h.raw) - last.start)
	h.fields++
	h.raw, h.marks, h.dropped = h.raw[:last.start], h.marks[:len(h.marks)-1], true
}

// fieldsFollow looks ahead from a line that is no field. Where a well-known field follows before the next empty line, the
// section goes on: so a broken line in the middle doesn't hide the fields below it.
func (h *headerReader) fieldsFollow(p piece) (bool, error) {
	if h.bad >= maxBadLines || delimits(p.data) {
		return false, nil
	}
	buf := make([]byte, min(lookAhead, h.size-p.off))
	if n, err := h.src.ReadAt(buf, p.off); n < len(buf) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return false, err
	}
	_, buf, _ = bytes.Cut(buf, []byte("\n"))
	for len(buf) > 0 {
		line, rest, whole := bytes.Cut(buf, []byte("\n"))
		if len(bytes.TrimRight(line, "\r")) == 0 || !whole || delimits(line) {
			return false, nil
		}
		if n := nameLength(line); n > 0 && wellKnown(line[:n]) {
			return true, nil
		}
		buf = rest
	}
	return false, nil
}

// delimits reports whether line may be a boundary delimiter, below which the fields of a part stand.
func delimits(line []byte) bool { return bytes.HasPrefix(line, []byte("--")) }

// nameLength is the length of the field name that line begins with (RFC 5322 section 2.2), 0 if it begins with none.
// White space before the colon is obsolete, but allowed (section 4.5).
func nameLength(line []byte) int {
	n := 0
	for n < len(line) && line[n] > ' ' && line[n] < 0x7f && line[n] != ':' {
		n++
	}
	rest := bytes.TrimLeft(line[n:], " \t")
	if n == 0 || n > maxNameLength || len(rest) == 0 || rest[0] != ':' {
		return 0
	}
	return n
}

// valid8bit reports whether b is ASCII or UTF-8.
func valid8bit(b []byte) bool { return utf8.Valid(b) }

// commonNames are the names that most fields have, in their usual spelling, so that no string is made for each.
var commonNames = func() map[string]string {
	names := map[string]string{}
	for n := range strings.FieldsSeq(`Return-Path Received Authentication-Results ARC-Seal ARC-Message-Signature
		ARC-Authentication-Results DKIM-Signature Received-SPF From Sender Reply-To To Cc Bcc Date Subject Message-ID Message-Id
		In-Reply-To References MIME-Version Mime-Version Content-Type Content-Transfer-Encoding Content-Disposition
		Content-ID Content-Id Content-Description Content-Language List-Id List-Unsubscribe List-Unsubscribe-Post List-Post
		List-Help List-Archive List-Subscribe Precedence Delivered-To X-Mailer User-Agent X-Priority Importance Auto-Submitted
		Feedback-ID Errors-To X-Spam-Flag X-Spam-Status X-Spam-Score X-Spam-Level X-Originating-IP Thread-Index Thread-Topic`) {
		names[n] = n
	}
	return names
}()

// wellKnownNames are fields that follow a broken line only in a header section, lower case.
var wellKnownNames = func() map[string]bool {
	names := map[string]bool{}
	for n := range strings.FieldsSeq(`return-path received dkim-signature from sender reply-to to cc date subject message-id
		in-reply-to references mime-version content-type content-transfer-encoding content-disposition content-id
		list-id list-unsubscribe authentication-results`) {
		names[n] = true
	}
	return names
}()

func internName(b []byte) string {
	if s, ok := commonNames[string(b)]; ok {
		return s
	}
	return string(b)
}

func wellKnown(name []byte) bool {
	return len(name) < 40 && wellKnownNames[strings.ToLower(string(name))]
}
