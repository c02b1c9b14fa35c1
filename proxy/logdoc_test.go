package proxy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLogIsDocumented: every key of every line in the goldens stands in docs/log.md, and every optional key of the
// code.
func TestLogIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("eventlog.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, m := range regexp.MustCompile(`line\.\w+\("(\w+)"`).FindAllStringSubmatch(string(src), -1) {
		keys[m[1]] = true
	}
	files, err := filepath.Glob("../testdata/sessions/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if log, ok := strings.CutPrefix(line, "log: "); ok {
				for _, m := range regexp.MustCompile(`(?:^| )(\w+)=`).FindAllStringSubmatch(unquoted(log), -1) {
					keys[m[1]] = true
				}
			}
		}
	}
	if len(keys) < 40 {
		t.Fatalf("only %d keys found", len(keys))
	}
	for key := range keys {
		if !strings.Contains(string(doc), "`"+key+"`") {
			t.Errorf("docs/log.md does not tell of %s", key)
		}
	}
}

// unquoted drops what stands in quotes.
func unquoted(line string) string {
	return regexp.MustCompile(`"(?:[^"\\]|\\.)*"`).ReplaceAllString(line, `""`)
}
