package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxLine bounds a line; Postern's own are far shorter. A longer one is passed over.
const maxLine = 256 << 10

// A Span is the time that is asked about; a zero end is open. Since is within it, Until is not.
type Span struct {
	Since, Until time.Time
}

func (s Span) bounded() bool { return !s.Since.IsZero() || !s.Until.IsZero() }

func (s Span) holds(t time.Time) bool {
	return (s.Since.IsZero() || !t.Before(s.Since)) && (s.Until.IsZero() || t.Before(s.Until))
}

// Read gives each line of r to visit, plain or compressed by gzip, as far as it is Postern's and within the span. It
// returns how many lines are not Postern's.
func Read(ctx context.Context, r io.Reader, span Span, visit func(*Record)) (unreadable int, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return 0, fmt.Errorf("cannot decompress: %w", err)
		}
		defer z.Close()
		in = bufio.NewReaderSize(z, maxLine)
	}
	var rec Record
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return unreadable, ctx.Err()
		}
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			unreadable++
			if err := skipLine(in); err != nil {
				return unreadable, err
			}
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return unreadable, fmt.Errorf("cannot read: %w", err)
		}
		switch {
		case len(bytes.TrimSpace(line)) == 0:
		case !rec.parse(line):
			unreadable++
		case !span.bounded() || span.holds(rec.Time()):
			visit(&rec)
		}
		if err != nil {
			return unreadable, nil
		}
	}
}

// skipLine passes over the rest of a line; the end of the input ends it too.
func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		switch {
		case err == nil, errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("cannot read: %w", err)
		}
	}
}
