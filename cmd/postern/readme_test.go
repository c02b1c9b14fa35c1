package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What differs from run to run in what the demo prints.
var demoMasks = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\(id [0-9A-F]{8}\.1\)`), "(id ID)"},
	{regexp.MustCompile(`\d+\.M\d+P\d+Q\d+`), "FILE"},
	{regexp.MustCompile(`\d+ messages in \d+ ms`), "N messages in N ms"},
}

func maskDemo(s string) string {
	for _, m := range demoMasks {
		s = m.find.ReplaceAllString(s, m.put)
	}
	return s
}

// The README shows what the demo prints today; -update puts it there anew.
func TestReadmeShowsTheDemo(t *testing.T) {
	page := filepath.Join("..", "..", "README.md")
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), "<!-- demo -->\n```text\n")
	shown, after, closed := strings.Cut(rest, "```\n<!-- /demo -->")
	if !found || !closed {
		t.Fatal("README.md has no place for the demo's output")
	}
	dir := t.TempDir()
	var out bytes.Buffer
	if unexpected, err := demo(t.Context(), &out, dir, false); err != nil || unexpected != 0 {
		t.Fatalf("%d unexpected, %v", unexpected, err)
	}
	printed := strings.ReplaceAll(out.String(), dir, "/tmp/postern-demo-1234567890")
	if *update {
		text := before + "<!-- demo -->\n```text\n" + printed + "```\n<!-- /demo -->" + after
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(maskDemo(shown), maskDemo(printed)); diff != "" {
		t.Errorf("README.md shows another demo (-shown +printed):\n%s", diff)
	}
}

// The examples of the README are what `postern check` takes.
func TestReadmeExamples(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(raw), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want the configuration and a rule", len(blocks))
	}
	dir := t.TempDir()
	pair, err := filepath.Abs(filepath.Join("..", "..", "testdata", "config", "tls"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("/etc/ssl/mx.pem", filepath.Join(pair, "mx.cert.pem"), "/etc/ssl/mx.key", filepath.Join(pair, "mx.key.pem")).Replace(blocks[0][1]) +
		"  content: {rules: [local.yaml]}\n"
	for name, text := range map[string]string{"postern.yaml": config, "local.yaml": blocks[1][1]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"check", "-config", filepath.Join(dir, "postern.yaml")}, strings.NewReader(""), &stdout, &stderr); code != exitFine {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}
