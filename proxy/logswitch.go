package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A LogSwitch is a slog.Handler that passes records on to another one, which a reload can replace.
type LogSwitch struct {
	target *switchTarget
	attrs  []slog.Attr
}

type switchTarget struct {
	mu  sync.RWMutex
	now slog.Handler
}

var _ slog.Handler = (*LogSwitch)(nil)

// NewLogSwitch passes records on to h.
func NewLogSwitch(h slog.Handler) *LogSwitch { return &LogSwitch{target: &switchTarget{now: h}} }

// Turn passes records on to h from now on. When it returns, none is on its way to the old one.
func (s *LogSwitch) Turn(h slog.Handler) {
	s.target.mu.Lock()
	defer s.target.mu.Unlock()
	s.target.now = h
}

// Enabled reports whether records of the level are written.
func (s *LogSwitch) Enabled(ctx context.Context, level slog.Level) bool {
	s.target.mu.RLock()
	defer s.target.mu.RUnlock()
	return s.target.now.Enabled(ctx, level)
}

// Handle writes one record.
func (s *LogSwitch) Handle(ctx context.Context, r slog.Record) error {
	s.target.mu.RLock()
	defer s.target.mu.RUnlock()
	h := s.target.now
	if len(s.attrs) > 0 {
		h = h.WithAttrs(s.attrs)
	}
	return h.Handle(ctx, r)
}

func (s *LogSwitch) write(at time.Time, level slog.Level, event string, keys []slog.Attr) error {
	s.target.mu.RLock()
	defer s.target.mu.RUnlock()
	h := s.target.now
	if len(s.attrs) > 0 {
		h = h.WithAttrs(s.attrs)
	}
	return writeKeys(h, at, level, event, keys)
}

// WithAttrs gives a handler whose records carry attrs first, and which is switched with this one.
func (s *LogSwitch) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &LogSwitch{target: s.target, attrs: append(append([]slog.Attr(nil), s.attrs...), attrs...)}
}

// WithGroup gives s: the log has no groups, its keys are one flat list.
func (s *LogSwitch) WithGroup(string) slog.Handler { return s }

// MinLevel is the level from which on records are written.
func (l Log) MinLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return slog.LevelInfo
	}
	return level
}
