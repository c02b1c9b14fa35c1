package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The page of the commands shows of each what its --help says, in the order of the overview, and no other command.
func TestCommandsPage(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "commands.md")
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	intro, rest, _ := strings.Cut(string(raw), "\n## ")
	sections := strings.Split(rest, "\n## ")
	all := commandsAndVerbs()
	if len(sections) != len(all) {
		t.Fatalf("%d sections for %d commands", len(sections), len(all))
	}
	written := intro
	for i, cmd := range all {
		title, body, _ := strings.Cut(sections[i], "\n\n```text\n")
		shown, more, ok := strings.Cut(body, "```\n")
		if title != "`postern "+cmd.name+"`" || !ok {
			t.Fatalf("section %d is %q, expected `postern %s` and a block of text", i+1, title, cmd.name)
		}
		help := helpOf(t, cmd.name)
		written += "\n## " + title + "\n\n```text\n" + help + "```\n" + more
		if d := cmp.Diff(help, shown); d != "" && !*update {
			t.Errorf("%s: %s", cmd.name, d)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commandsAndVerbs lists all commands, and behind each its verbs.
func commandsAndVerbs() []*command {
	var all []*command
	for _, cmd := range commands() {
		all = append(append(all, cmd), cmd.verbs...)
	}
	return all
}

func helpOf(t *testing.T, name string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append(strings.Fields(name), "--help"), strings.NewReader(""), &stdout, &stderr); code != exitFine || stderr.Len() > 0 {
		t.Fatalf("%s --help ends with %d: %s", name, code, stderr.String())
	}
	return stdout.String()
}

// The usage line of a command names each of its flags, and no flag that it does not have.
func TestUsageNamesTheFlags(t *testing.T) {
	for _, cmd := range commandsAndVerbs() {
		usage, flags, _ := strings.Cut(helpOf(t, cmd.name), "\nFlags:\n")
		usage, _, _ = strings.Cut(usage, "\n")
		known := make(map[string]bool)
		for line := range strings.Lines(flags) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			known[name] = true
			if !strings.Contains(usage, "["+name+"]") && !strings.Contains(usage, "["+name+" ") && !strings.Contains(usage, "["+name+"=") {
				t.Errorf("%q does not name %s", usage, name)
			}
		}
		for word := range strings.FieldsSeq(usage) {
			name, isFlag := strings.CutPrefix(word, "[-")
			name, _, _ = strings.Cut(name, "=")
			if isFlag && !known["-"+strings.TrimSuffix(name, "]")] {
				t.Errorf("%q names -%s, which is no flag", usage, name)
			}
		}
	}
}
