package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// LogHandler writes log records as one line each: logfmt, or the same keys as JSON. It implements slog.Handler.
//
// The message of a record is the value of the key event. Keys keep the order in which they were given. A value
// that needs it is quoted as JSON quotes a string, so no byte that a stranger sends can end a line or begin a key, and
// any reader of logfmt reads it back; a [Foreign] value is quoted always, so that a pattern of fail2ban or grep can tell
// it from ours.
type LogHandler struct {
	out    *LogOutput
	json   bool
	level  slog.Level
	redact Redaction
	attrs  []slog.Attr
}

// Foreign is a value that a stranger controls.
type Foreign string

// NewLogHandler writes to out in the format logfmt or json, from the level on.
func NewLogHandler(out *LogOutput, format string, level slog.Level) *LogHandler {
	return &LogHandler{out: out, json: format == "json", level: level}
}

// Handler writes to out as the configuration asks for.
func (l Log) Handler(out *LogOutput) *LogHandler {
	h := NewLogHandler(out, l.Format, l.MinLevel())
	h.redact = l.Redact
	return h
}

// NewLogger makes the logger that the configuration asks for, and the output to reopen and close.
func NewLogger(cfg Log) (*slog.Logger, *LogOutput, error) {
	out, err := OpenLog(cfg.Output)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(cfg.Handler(out)), out, nil
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

// A logEntry is what a line of the log tells.
type logEntry struct {
	at    time.Time
	level slog.Level
	event string
	keys  []slog.Attr // beside those that each line of the logger has
}

// A keyWriter is a handler that can write a line of keys without a record of slog's, which copies them.
type keyWriter interface {
	write(at time.Time, level slog.Level, event string, keys []slog.Attr) error
}

var (
	_ keyWriter = (*LogHandler)(nil)
	_ keyWriter = (*LogSwitch)(nil)
)

// writeKeys has a handler write one line.
func writeKeys(h slog.Handler, at time.Time, level slog.Level, event string, keys []slog.Attr) error {
	if own, ok := h.(keyWriter); ok {
		return own.write(at, level, event, keys)
	}
	r := slog.NewRecord(at, level, event, 0)
	r.AddAttrs(keys...)
	return h.Handle(context.Background(), r)
}

var lineBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Handle writes one record.
func (h *LogHandler) Handle(_ context.Context, r slog.Record) error {
	keys := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		keys = append(keys, a)
		return true
	})
	return h.write(r.Time, r.Level, r.Message, keys)
}

// write writes one line.
func (h *LogHandler) write(at time.Time, level slog.Level, event string, keys []slog.Attr) error {
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	line := lineWriter{b: (*buf)[:0], json: h.json}
	line.begin()
	line.add("time", slog.StringValue(at.Format("2006-01-02T15:04:05.000Z07:00")))
	line.add("level", slog.StringValue(strings.ToLower(level.String())))
	line.add("event", slog.StringValue(event))
	for _, list := range [...][]slog.Attr{h.attrs, keys} {
		for _, a := range list {
			line.add(a.Key, h.redact.value(a.Key, a.Value.Resolve()))
		}
	}
	line.end()
	*buf = line.b
	return h.out.put(logEntry{at: at, level: level, event: event, keys: keys}, line.b)
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
		return appendQuoted(b, s)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return appendQuoted(b, "unreadable")
	}
	return append(b, text...)
}

func appendLogfmt(b []byte, v slog.Value) []byte {
	if v.Kind() == slog.KindAny {
		if f, ok := v.Any().(Foreign); ok {
			return appendQuoted(b, string(f))
		}
	}
	text := v.String()
	if needsQuotes(text) {
		return appendQuoted(b, text)
	}
	return append(b, text...)
}

// appendQuoted writes s as a string of JSON, in either format. What does not print, or would turn the direction of
// writing around, is escaped, so that a terminal shows the line as it is; a run of octets that is no UTF-8 becomes one
// U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	broken := false
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError && n == 1
		switch {
		case invalid && broken:
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r >= ' ' && r < 0x7f || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendEscaped(appendEscaped(b, high), low)
		default:
			b = appendEscaped(b, r)
		}
		broken = invalid
		i += n
	}
	return append(b, '"')
}

func appendEscaped(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&0xf], digits[r>>8&0xf], digits[r>>4&0xf], digits[r&0xf])
}

func needsQuotes(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= utf8.RuneSelf || c == 0x7f {
			return true
		}
	}
	return false
}

// points writes a score as a number in both formats.
func points(s fmt.Stringer) slog.Value { return slog.AnyValue(json.Number(s.String())) }

// milliseconds writes a duration as whole milliseconds.
func milliseconds(d time.Duration) slog.Value { return slog.Int64Value(d.Milliseconds()) }
