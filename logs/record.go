// Package logs reads what Postern logged and makes sense of it: counts for a report, the story of one message, what
// shadow rules would have done. Postern's log has one line an event, in logfmt (key=value, values quoted as JSON quotes
// strings) or as a flat JSON object with the same keys; docs/log.md tells what the keys mean.
//
// It stands beside proxy in the layout and imports nothing of ours: the log is the contract between the two. Commands
// import it. What it reads may come from strangers, in part: all that is kept is bounded, however long the log is.
package logs

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// A Record is one line. It is valid until the next one is read, its strings for good.
type Record struct {
	fields []field
}

type field struct {
	key   []byte
	value []byte
	kind  encoding
}

// An encoding is how a value stands in its line.
type encoding uint8

const (
	bare encoding = iota
	quoted
)

// maxFields bounds the keys of one line.
const maxFields = 200

// Get is the value of a key, "" where the line has none.
func (r *Record) Get(key string) string {
	for i := range r.fields {
		if string(r.fields[i].key) == key {
			return r.fields[i].text()
		}
	}
	return ""
}

// raw is Get without the copy where the value needs no decoding.
func (r *Record) raw(key string) []byte {
	for i := range r.fields {
		if f := &r.fields[i]; string(f.key) == key {
			if f.kind == bare || bytes.IndexByte(f.value, '\\') < 0 {
				return f.inner()
			}
			return []byte(f.text())
		}
	}
	return nil
}

// Int is the value of a key as a number, 0 where it is none.
func (r *Record) Int(key string) int64 {
	n, err := strconv.ParseInt(string(r.raw(key)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Float is the value of a key as a number, 0 where it is none.
func (r *Record) Float(key string) float64 {
	f, err := strconv.ParseFloat(string(r.raw(key)), 64)
	if err != nil {
		return 0
	}
	return f
}

// Time is when the line was written; zero where it doesn't say.
func (r *Record) Time() time.Time {
	t, err := time.Parse(time.RFC3339, string(r.raw("time")))
	if err != nil {
		return time.Time{}
	}
	return t
}

func (f *field) inner() []byte {
	if f.kind == bare {
		return f.value
	}
	return f.value[1 : len(f.value)-1]
}

func (f *field) text() string {
	switch {
	case f.kind == bare || bytes.IndexByte(f.value, '\\') < 0:
		return string(f.inner())
	}
	var s string
	if json.Unmarshal(f.value, &s) == nil {
		return s
	}
	if s, err := strconv.Unquote(string(f.value)); err == nil { // logs of earlier versions
		return s
	}
	return string(f.inner())
}

// parse reads one line of either form. What a syslog daemon or journald wrote in front of it is passed over. It is
// false where the line is none of Postern's.
func (r *Record) parse(line []byte) bool {
	r.fields = r.fields[:0]
	line = bytes.TrimSpace(line)
	if start := bytes.IndexByte(line, '{'); start >= 0 && bytes.HasPrefix(line[start:], []byte(`{"time":`)) {
		return r.parseJSON(line[start:])
	}
	if !bytes.HasPrefix(line, []byte("time=")) {
		at := bytes.Index(line, []byte(" time="))
		if at < 0 {
			return false
		}
		line = line[at+1:]
	}
	return r.parseLogfmt(line)
}

func (r *Record) parseLogfmt(b []byte) bool {
	for len(b) > 0 {
		if b[0] == ' ' {
			b = b[1:]
			continue
		}
		eq := bytes.IndexByte(b, '=')
		if eq <= 0 || len(r.fields) == maxFields {
			return false
		}
		f := field{key: b[:eq]}
		b = b[eq+1:]
		if len(b) > 0 && b[0] == '"' {
			end := closingQuote(b)
			if end < 0 {
				return false
			}
			f.value, f.kind, b = b[:end+1], quoted, b[end+1:]
			if len(b) > 0 && b[0] != ' ' {
				return false
			}
		} else {
			end := bytes.IndexByte(b, ' ')
			if end < 0 {
				end = len(b)
			}
			f.value, b = b[:end], b[end:]
		}
		r.fields = append(r.fields, f)
	}
	return len(r.fields) > 2 && string(r.fields[2].key) == "event"
}

// parseJSON reads a flat object: strings, numbers and booleans.
func (r *Record) parseJSON(b []byte) bool {
	b = bytes.TrimPrefix(b, []byte("{"))
	for {
		end := -1
		if len(b) > 0 && b[0] == '"' {
			end = closingQuote(b)
		}
		if end < 0 || len(b) < end+3 || b[end+1] != ':' || len(r.fields) == maxFields {
			return false
		}
		f := field{key: b[1:end]}
		b = b[end+2:]
		if b[0] == '"' {
			if end = closingQuote(b); end < 0 {
				return false
			}
			f.value, f.kind = b[:end+1], quoted
			b = b[end+1:]
		} else {
			if end = bytes.IndexAny(b, ",}"); end < 0 {
				return false
			}
			f.value, b = b[:end], b[end:]
		}
		r.fields = append(r.fields, f)
		if len(b) == 1 && b[0] == '}' {
			return len(r.fields) > 2 && string(r.fields[2].key) == "event"
		}
		if len(b) == 0 || b[0] != ',' {
			return false
		}
		b = b[1:]
	}
}

// closingQuote is where the string that begins b ends, -1 where it does not.
func closingQuote(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
