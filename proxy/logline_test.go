package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-logfmt/logfmt"
	"github.com/google/go-cmp/cmp"

	"postern/filters"
)

// logOne writes one record in a format.
func logOne(format string, attrs ...slog.Attr) string {
	var out bytes.Buffer
	h := NewLogHandler(LogTo(&out), format, slog.LevelInfo)
	r := slog.NewRecord(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), slog.LevelInfo, "message", 0)
	r.AddAttrs(attrs...)
	if err := h.Handle(context.Background(), r); err != nil {
		panic(err)
	}
	return out.String()
}

// TestFormats: both formats have the same keys in the same order, and numbers are numbers.
func TestFormats(t *testing.T) {
	attrs := []slog.Attr{
		slog.Int("v", 1),
		slog.String("action", "reject"),
		{Key: "score", Value: points(filters.Score(1240))},
		slog.Bool("early_talk", true),
		slog.String("errors", ""),
		slog.String("reason", "client closed"),
		slog.Any("helo", Foreign(`a"b <c>`)),
	}
	wantText := `time=2026-11-23T12:00:00.000Z level=info event=message v=1 action=reject score=12.4 early_talk=true errors= reason="client closed" helo="a\"b <c>"` + "\n"
	if got := logOne("logfmt", attrs...); got != wantText {
		t.Errorf("logfmt\ngot  %swant %s", got, wantText)
	}
	wantJSON := `{"time":"2026-11-23T12:00:00.000Z","level":"info","event":"message","v":1,"action":"reject","score":12.4,"early_talk":true,"errors":"","reason":"client closed","helo":"a\"b <c>"}` + "\n"
	if got := logOne("json", attrs...); got != wantJSON {
		t.Errorf("JSON\ngot  %swant %s", got, wantJSON)
	}
}

// FuzzLogLine: whatever a stranger sends, a line is one line, and readers of logfmt and JSON that are not ours find in it
// the keys that were logged, in their order, each with the value that it was given.
func FuzzLogLine(f *testing.F) {
	f.Add("plain", "a b")
	f.Add("\n time=x event=message action=accept", "\"")
	f.Add("\x00\xff\u2028\\", "=")
	f.Add(`" action=accept "`, "\r\n")
	f.Add("\u202egpj.exe \U0001f600 \U000e0001", "\x1b[31m\u009b1m")
	f.Add("\xff\xfe a \xc3", "{}")
	f.Fuzz(func(t *testing.T, foreign, ours string) {
		want := []string{
			"time=2026-11-23T12:00:00.000Z", "level=info", "event=message", "ours=" + strings.ToValidUTF8(ours, "\uFFFD"),
			"helo=" + strings.ToValidUTF8(foreign, "\uFFFD"), "last=",
		}
		for format, read := range map[string]func(string) ([]string, error){"logfmt": readLogfmt, "json": readJSON} {
			line := logOne(format, slog.String("ours", ours), slog.Any("helo", Foreign(foreign)), slog.Any("last", Foreign("")))
			if strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 || !strings.HasSuffix(line, "\n") {
				t.Errorf("%s: not one line that prints: %q", format, line)
			}
			got, err := read(line)
			if err != nil {
				t.Fatalf("%s: %q: %v", format, line, err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: %q: -want +got\n%s", format, line, d)
			}
		}
		if line := logOne("logfmt", slog.Any("helo", Foreign(foreign))); !strings.Contains(line, ` helo="`) {
			t.Errorf("a stranger's value is not quoted: %q", line)
		}
	})
}

// readLogfmt reads a line by the library of go-logfmt.
func readLogfmt(line string) (pairs []string, err error) {
	d := logfmt.NewDecoder(strings.NewReader(line))
	for d.ScanRecord() {
		for d.ScanKeyval() {
			pairs = append(pairs, string(d.Key())+"="+string(d.Value()))
		}
	}
	return pairs, d.Err()
}

// readJSON reads a line token by token, since a map would keep no order and hide a key that comes twice.
func readJSON(line string) (pairs []string, err error) {
	d := json.NewDecoder(strings.NewReader(line))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, err := d.Token()
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, fmt.Sprintf("%v=%v", key, value))
	}
	_, err = d.Token()
	return pairs, err
}

func TestLogFileIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.log")
	out, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	write := func(s string) {
		if err := out.put(logEntry{}, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write("two\n")
	if err := out.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	for file, want := range map[string]string{path + ".1": "one\ntwo\n", path: "three\n"} {
		if got, err := os.ReadFile(file); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v, want %q", filepath.Base(file), got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others can read the log: %v %v", info.Mode(), err)
	}
}
