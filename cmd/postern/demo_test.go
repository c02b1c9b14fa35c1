package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/postern/samples"
)

// A demoLine is what the log says of one sample.
type demoLine struct {
	messageLine
	ID    string `json:"id"`
	SPF   string `json:"spf"`
	DKIM  string `json:"dkim"`
	DMARC string `json:"dmarc"`
	RDNS  string `json:"rdns"`
}

// found reports whether the log line, or the Authentication-Results of the delivered message, tells of a symbol.
func (l demoLine) found(symbol, delivered string) bool {
	for rule := range strings.SplitSeq(l.Rules, ",") {
		if strings.HasPrefix(rule, symbol+":") {
			return true
		}
	}
	method, result, _ := strings.Cut(symbol, ".")
	switch {
	case method == "spf" && l.SPF == result, method == "dkim" && l.DKIM == result, method == "dmarc" && l.DMARC == result, method == "iprev" && l.RDNS == result:
		return true
	}
	return regexp.MustCompile(`(?m)^(Authentication-Results:|\s).*\b` + method + `=` + result + `\b`).MatchString(delivered)
}

// Every sample meets what its index expects: the verdict, the reply and the findings; and the table shows it.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	unexpected, err := demo(t.Context(), &out, dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if unexpected != 0 || strings.Contains(out.String(), "BUT") {
		t.Errorf("%d verdicts are not the expected ones:\n%s", unexpected, out.String())
	}
	list, err := samples.All()
	if err != nil {
		t.Fatal(err)
	}
	table, log, ok := strings.Cut(out.String(), "\nThe log:\n")
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if !ok || len(lines) != len(list) {
		t.Fatalf("%d lines of log for %d samples:\n%s", len(lines), len(list), out.String())
	}
	delivered := deliveredMail(t, dir)
	for i, s := range list {
		var line demoLine
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
			t.Fatalf("%s: %v in %s", s.File, err, lines[i])
		}
		if !line.meets(s.Expect) {
			t.Errorf("%s: %s with %d, expected %s with %d", s.File, line.Action, line.Code, s.Expect.Action, s.Expect.Code)
		}
		for _, symbol := range s.Expect.Symbols {
			if !line.found(symbol, delivered[line.ID]) {
				t.Errorf("%s: nothing tells of %s:\n%s\n%s", s.File, symbol, lines[i], delivered[line.ID])
			}
		}
		if kept := delivered[line.ID] != ""; kept != (s.Expect.Code == 250) {
			t.Errorf("%s: stored is %v after a reply of %d", s.File, kept, s.Expect.Code)
		}
		if !strings.Contains(table, s.Title) {
			t.Errorf("the table lacks %q", s.Title)
		}
	}
}

// deliveredMail reads what was stored below the demo's folder, by the id in our Received field.
func deliveredMail(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`\(Postern\) with \S+ id (\S+?);?\s`)
	mail := make(map[string]string, len(files))
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := id.FindSubmatch(raw)
		if m == nil {
			t.Fatalf("%s has no Received field of ours:\n%s", file, raw)
		}
		mail[string(m[1])] = string(raw)
	}
	return mail
}

// A second run into the same folder shows only its own mail.
func TestDemoTwiceInOneFolder(t *testing.T) {
	dir := t.TempDir()
	count := func() int {
		t.Helper()
		var out bytes.Buffer
		if _, err := demo(t.Context(), &out, dir, false); err != nil {
			t.Fatal(err)
		}
		return strings.Count(out.String(), " mail   ")
	}
	if first, second := count(), count(); first == 0 || first != second {
		t.Errorf("%d deliveries at first, then %d", first, second)
	}
}

// The command itself prints where the mail is, and cleans up nothing that the reader may want to see.
func TestDemoCommand(t *testing.T) {
	p := spawn(t, t.TempDir(), "demo", "-dir", "mail")
	code, stderr := p.end()
	if code != exitFine || len(stderr) > 0 {
		t.Errorf("it ended with %d: %q", code, stderr)
	}
	if stored, err := filepath.Glob(filepath.Join(p.dir, "mail", "*", "new", "*")); err != nil || len(stored) == 0 {
		t.Errorf("stored: %q, %v", stored, err)
	}
}
