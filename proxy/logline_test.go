package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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

// FuzzLogLine: whatever a stranger sends, a line is one line, and each value is read back as it was.
func FuzzLogLine(f *testing.F) {
	f.Add("plain", "a b")
	f.Add("\n time=x event=message action=accept", "\"")
	f.Add("\x00\xff\u2028\\", "=")
	f.Add(`" action=accept "`, "\r\n")
	f.Fuzz(func(t *testing.T, foreign, ours string) {
		line := logOne("logfmt", slog.String("ours", ours), slog.Any("helo", Foreign(foreign)), slog.Any("last", Foreign("")))
		if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\r\x00") {
			t.Fatalf("not one line: %q", line)
		}
		rest, ok := strings.CutPrefix(line, "time=2026-11-23T12:00:00.000Z level=info event=message ours=")
		if !ok {
			t.Fatalf("the keys are not in place: %q", line)
		}
		rest = readBack(t, rest, ours)
		rest, ok = strings.CutPrefix(rest, " helo=")
		if !ok || rest == "" || rest[0] != '"' {
			t.Fatalf("a stranger's value is not quoted: %q", line)
		}
		if rest = readBack(t, rest, foreign); rest != " last=\"\"\n" {
			t.Fatalf("%q is left of %q", rest, line)
		}
		var values map[string]any
		if err := json.Unmarshal([]byte(logOne("json", slog.String("ours", ours), slog.Any("helo", Foreign(foreign)))), &values); err != nil {
			t.Fatal(err)
		}
		if values["helo"] != strings.ToValidUTF8(foreign, "\uFFFD") || values["ours"] != strings.ToValidUTF8(ours, "\uFFFD") {
			t.Fatalf("JSON has %q", values)
		}
	})
}

// readBack reads one value, quoted or not, and gives what follows it.
func readBack(t *testing.T, s, want string) (rest string) {
	t.Helper()
	if s != "" && s[0] == '"' {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if got, err := strconv.Unquote(quoted); err != nil || got != want {
			t.Fatalf("%q reads back as %q, %v", want, got, err)
		}
		return s[len(quoted):]
	}
	end := strings.IndexAny(s, " \n")
	if got := s[:end]; got != want {
		t.Fatalf("%q reads back as %q", want, got)
	}
	return s[end:]
}

func TestLogFileIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.log")
	out, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	write := func(s string) {
		if _, err := out.Write([]byte(s)); err != nil {
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
