package mailbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// separatorLine is what the line before each message looks like: an address, and a date with time and year. Sentences that
// begin with "From" seldom have these.
var separatorLine = regexp.MustCompile(`^From \S.*\b\d\d:\d\d\b.*\b(19|20)\d\d\b`)

// maxSeparator is how much of a line is looked at.
const maxSeparator = 512

// separator reports whether line divides the messages of an mbox.
func separator(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("From ")) {
		return false
	}
	line, _, _ = bytes.Cut(line[:min(len(line), maxSeparator)], []byte("\n"))
	return separatorLine.Match(line)
}

// An mboxMessage is the message of an mbox that is being read.
type mboxMessage struct {
	path     string
	number   int   // from 1; 0 before the first
	start    int64 // where its separator stands in the file
	max      int64 // the size of the largest message
	data     []byte
	blank    bool // the last line was empty
	body     bool // there was an empty line: the header section is whole
	tooLarge bool
}

// add takes a line, or a piece of a long one. One ">" goes that was put before "From " (the mboxrd way, which undoes
// the older mboxo as well).
func (m *mboxMessage) add(line []byte, begins bool) {
	if begins && line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
		line = line[1:]
	}
	m.blank = begins && len(bytes.TrimRight(line, "\r\n")) == 0
	m.body = m.body || m.blank
	if m.tooLarge || int64(len(m.data)+len(line)) > m.max {
		m.tooLarge, m.data = true, nil
		return
	}
	m.data = append(m.data, line...)
}

// errCutOff is the error of an mbox that ends within a message.
var errCutOff = errors.New("the mbox is cut off within this message")

// item is the message, without the empty line that follows it in an mbox.
func (m *mboxMessage) item(err error) Item {
	if err == nil && m.tooLarge {
		err = fmt.Errorf("%w: more than %d bytes", errTooLarge, m.max)
	}
	item := Item{Path: m.path + ":" + strconv.Itoa(m.number)}
	if err != nil {
		item.Err = fmt.Errorf("%s: offset %d: message %d: %w", m.path, m.start, m.number, err)
		return item
	}
	data := toCRLF(m.data)
	if m.blank {
		data = bytes.TrimSuffix(data, []byte("\r\n"))
	}
	item.Data, item.Size = bytes.NewReader(data), int64(len(data))
	return item
}

// mbox gives the messages of an mbox, which f reads from its start.
func (w *walker) mbox(path string, f io.Reader) error {
	r := bufio.NewReaderSize(f, 64<<10)
	m := mboxMessage{path: path, max: w.max, blank: true}
	offset := int64(0)
	begins := true      // the next piece begins a line
	separating := false // the rest of a long separator line is to come
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return w.give(m.item(err))
		}
		if len(line) == 0 {
			break // the end
		}
		ends := line[len(line)-1] == '\n'
		switch {
		case begins && m.blank && (offset == 0 || separator(line)):
			if m.number > 0 {
				if err := w.give(m.item(nil)); err != nil {
					return err
				}
			}
			m = mboxMessage{path: path, number: m.number + 1, start: offset, max: w.max}
			separating = !ends
		case separating:
			separating = !ends
		default:
			m.add(line, begins)
		}
		begins = ends
		offset += int64(len(line))
	}
	if !begins || !m.body {
		return w.give(m.item(errCutOff))
	}
	return w.give(m.item(nil))
}
