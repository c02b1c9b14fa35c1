package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The walk in docs/rules.md, from a missed spam to an enforced rule, is walked: its files are written where it says so,
// its commands are run in their order, and they print what the page shows; -update puts it there anew.
func TestWalkOfTheRulesPage(t *testing.T) {
	page, err := filepath.Abs(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, walk, found := strings.Cut(string(raw), "## From a missed spam to an enforced rule\n")
	walk, after, closed := strings.Cut(walk, "\n## ")
	if !found || !closed {
		t.Fatal("docs/rules.md has no walk")
	}
	t.Chdir(t.TempDir())
	blocks := regexp.MustCompile("(?s)(?:`([\\w./]+)`:\n\n)?```(\\w+)\n(.*?)```")
	commands := 0
	walked := blocks.ReplaceAllStringFunc(walk, func(block string) string {
		part := blocks.FindStringSubmatch(block)
		if part[2] != "console" {
			writeFile(t, part[1], part[3])
			return block
		}
		head, _, _ := strings.Cut(block, part[3])
		var out strings.Builder
		for line := range strings.Lines(part[3]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands++
				out.WriteString(line + walkCommand(t, strings.TrimSpace(command)))
			}
		}
		return head + out.String() + "```"
	})
	if commands < 8 {
		t.Errorf("the walk has only %d commands", commands)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+"## From a missed spam to an enforced rule\n"+walked+"\n## "+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(walk, walked); d != "" {
		t.Errorf("docs/rules.md shows something else (-shown +printed):\n%s", d)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if path == "" {
		t.Fatalf("a file without a name:\n%s", text)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// walkCommand runs a command of the page, ours in this process, and gives what it prints.
func walkCommand(t *testing.T, command string) string {
	t.Helper()
	ours, ok := strings.CutPrefix(command, "postern ")
	if !ok {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	var out bytes.Buffer
	if code := run(t.Context(), strings.Fields(ours), strings.NewReader(""), &out, &out); code != exitFine {
		t.Fatalf("%s ends with %d: %s", command, code, out.String())
	}
	return out.String()
}
