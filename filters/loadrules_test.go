package filters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/rules/strict"
)

// TestLoadRulesTellsAllAtOnce: what can't be read in one rule hides no unknown name in it, in other rules or in other files.
func TestLoadRulesTellsAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	for name, src := range map[string]string{
		"a.yaml": "rules:\n  - {id: ONE, score: x, when: {all: [{is: nothere}, {bdy: text, contains: a}, {header: From, in: nolist}]}}\n",
		"b.yaml": "rules:\n  - {id: TWO, score: 1, when: {symbol: spf.fial}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() string {
		_, err := LoadRules(ContentConfig{Rules: []string{filepath.Join(dir, "*.yaml")}}, RuleOptions{
			Path:    func(p string) string { return p },
			Pos:     func(...any) strict.Pos { return strict.Pos{File: "postern.yaml", Line: 1, Col: 1} },
			Symbols: []string{"spf.fail"},
		})
		if err == nil {
			t.Fatal("no error")
		}
		return err.Error()
	}
	got := load()
	for _, want := range []string{
		`a.yaml:2:22: expected a score`, `a.yaml:2:39: unknown condition "nothere"`, `unknown subject "bdy"`, `unknown list "nolist"`, `b.yaml:2:32: unknown symbol "spf.fial"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in:\n%s", want, got)
		}
	}
	// A file that is no YAML may hold any name: then none is called unknown.
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte("rules: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := load(); strings.Contains(got, "unknown list") || !strings.Contains(got, "c.yaml") || !strings.Contains(got, "expected a score") {
		t.Errorf("with a file that can't be read at all:\n%s", got)
	}
}
