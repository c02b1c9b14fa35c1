package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"postern/proxy"
)

// What the log writes is read back from either format, whatever a stranger put into it; what is no UTF-8 is U+FFFD in both.
func FuzzParseLogLine(f *testing.F) {
	f.Add("plain", `a "quoted" id=X event=message`)
	f.Add("", "line\nbreak\x1b[31m \\ = \u00e9")
	f.Add("a b=c", "\xff\x00")
	f.Fuzz(func(t *testing.T, ours, foreign string) {
		for _, format := range []string{"logfmt", "json"} {
			var line bytes.Buffer
			log := slog.New(proxy.NewLogHandler(proxy.LogTo(&line), format, slog.LevelInfo))
			log.Info("message", "id", "9FF7F70E.1", "rules", ours, "from", proxy.Foreign(foreign))
			keys := parseLogLine(bytes.TrimSpace(line.Bytes()))
			if keys["event"] != "message" || keys["id"] != "9FF7F70E.1" {
				t.Fatalf("%s: %q is read as %q", format, line.String(), keys)
			}
			for key, want := range map[string]string{"rules": ours, "from": foreign} {
				if want = strings.ToValidUTF8(want, "\ufffd"); keys[key] != want {
					t.Errorf("%s: %s is %q, expected %q", format, key, keys[key], want)
				}
			}
		}
	})
}

// No bytes in a log break its reading.
func FuzzForeignLogLine(f *testing.F) {
	f.Add([]byte(`time=x a="unclosed b=c`))
	f.Add([]byte(`{"id":`))
	f.Add([]byte(`Nov 23 18:50:21 mx postern[1]: event=message id=1`))
	f.Fuzz(func(_ *testing.T, line []byte) {
		entry := newLogEntry(parseLogLine(line))
		for _, found := range entry.Findings {
			_ = found.Score.String()
		}
	})
}
