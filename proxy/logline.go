package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// LogHandler writes log records as one line each: logfmt, or the same keys as JSON. It implements slog.Handler.
//
// The message of a record is the value of the key event. Keys keep the order in which they were given. A value
// that needs it is quoted as Go quotes a string, so no byte that a stranger sends can end a line or begin a key; a
// [Foreign] value is quoted always, so that a pattern of fail2ban or grep can tell it from ours.
type LogHandler struct {
	out   *LogOutput
	json  bool
	level slog.Level
	attrs []slog.Attr
}

// Foreign is a value that a stranger controls.
type Foreign string

// NewLogHandler writes to out in the format logfmt or json, from the level on.
func NewLogHandler(out *LogOutput, format string, level slog.Level) *LogHandler {
	return &LogHandler{out: out, json: format == "json", level: level}
}

// NewLogger makes the logger that the configuration asks for, and the output to reopen and close.
func NewLogger(cfg Log) (*slog.Logger, *LogOutput, error) {
	out, err := OpenLog(cfg.Output)
	if err != nil {
		return nil, nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(NewLogHandler(out, cfg.Format, level)), out, nil
}

// Enabled reports whether records of the level are written.
func (h *LogHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// WithAttrs gives a handler whose records carry attrs first.
func (h *LogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	derived := *h
	derived.attrs = append(append([]slog.Attr(nil), h.attrs...), attrs...)
	return &derived
}

// WithGroup gives h: the log has no groups, its keys are one flat list.
func (h *LogHandler) WithGroup(string) slog.Handler { return h }

var lineBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Handle writes one record.
func (h *LogHandler) Handle(_ context.Context, r slog.Record) error {
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	line := lineWriter{b: (*buf)[:0], json: h.json}
	line.begin()
	line.add("time", slog.StringValue(r.Time.Format("2006-01-02T15:04:05.000Z07:00")))
	line.add("level", slog.StringValue(strings.ToLower(r.Level.String())))
	line.add("event", slog.StringValue(r.Message))
	for _, a := range h.attrs {
		line.add(a.Key, a.Value.Resolve())
	}
	r.Attrs(func(a slog.Attr) bool {
		line.add(a.Key, a.Value.Resolve())
		return true
	})
	line.end()
	*buf = line.b
	_, err := h.out.Write(line.b)
	return err
}

// A lineWriter appends one line in one of the two formats.
type lineWriter struct {
	b    []byte
	json bool
	keys int
}

func (l *lineWriter) begin() {
	if l.json {
		l.b = append(l.b, '{')
	}
}

func (l *lineWriter) end() {
	if l.json {
		l.b = append(l.b, '}')
	}
	l.b = append(l.b, '\n')
}

func (l *lineWriter) add(key string, v slog.Value) {
	if l.keys++; l.keys > 1 {
		if l.json {
			l.b = append(l.b, ',')
		} else {
			l.b = append(l.b, ' ')
		}
	}
	if l.json {
		l.b = appendJSON(append(appendJSON(l.b, key), ':'), plain(v))
		return
	}
	l.b = append(append(l.b, key...), '=')
	l.b = appendLogfmt(l.b, v)
}

// plain makes a value one that JSON writes as a number, a boolean or a string.
func plain(v slog.Value) any {
	switch v.Kind() {
	case slog.KindInt64:
		return v.Int64()
	case slog.KindUint64:
		return v.Uint64()
	case slog.KindFloat64:
		return v.Float64()
	case slog.KindBool:
		return v.Bool()
	case slog.KindAny:
		switch a := v.Any().(type) {
		case Foreign:
			return string(a)
		case json.Number:
			return a
		}
	}
	return v.String()
}

func appendJSON(b []byte, v any) []byte {
	if s, ok := v.(string); ok {
		v = strings.ToValidUTF8(s, "\uFFFD")
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // addresses are full of < and >, and this is no web page
	if err := enc.Encode(v); err != nil {
		return strconv.AppendQuote(b, "unreadable")
	}
	return append(b, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

func appendLogfmt(b []byte, v slog.Value) []byte {
	if v.Kind() == slog.KindAny {
		if f, ok := v.Any().(Foreign); ok {
			return strconv.AppendQuote(b, string(f))
		}
	}
	text := v.String()
	if needsQuotes(text) {
		return strconv.AppendQuote(b, text)
	}
	return append(b, text...)
}

func needsQuotes(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			return true
		}
	}
	return false
}

// LogOutput is where lines go: standard error, or a file that can be reopened after it was rotated.
type LogOutput struct {
	path string

	mu sync.Mutex
	w  io.Writer
	f  *os.File
}

// OpenLog opens "stderr" or a file, which is created with mode 0640.
func OpenLog(output string) (*LogOutput, error) {
	if output == "" || output == "stderr" {
		return &LogOutput{w: os.Stderr}, nil
	}
	o := &LogOutput{path: output}
	if err := o.Reopen(); err != nil {
		return nil, err
	}
	return o, nil
}

// LogTo writes lines to w; Reopen and Close leave it alone.
func LogTo(w io.Writer) *LogOutput { return &LogOutput{w: w} }

// Reopen opens the file anew under its name. When that fails the old one stays in use.
func (o *LogOutput) Reopen() error {
	if o.path == "" {
		return nil
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot open the log %s: %w", o.path, cause(err))
	}
	o.mu.Lock()
	old := o.f
	o.f, o.w = f, f
	o.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// Write writes one line, whole.
func (o *LogOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(line)
}

// Close closes the file, if it is one.
func (o *LogOutput) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil {
		return nil
	}
	return o.f.Close()
}

// points writes a score as a number in both formats.
func points(s fmt.Stringer) slog.Value { return slog.AnyValue(json.Number(s.String())) }

// milliseconds writes a duration as whole milliseconds.
func milliseconds(d time.Duration) slog.Value { return slog.Int64Value(d.Milliseconds()) }
