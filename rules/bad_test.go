package rules_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/rules"
)

var update = flag.Bool("update", false, "rewrite the expected messages in testdata")

var checkSymbols = []string{"spf.fail", "spf.pass", "dkim.pass", "dmarc.fail"}

// Each file in testdata/bad is wrong in its own way; beside it stands what its writer is told.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	opt := rules.Options{
		Symbols: checkSymbols,
		KnownSymbol: func(name string) bool {
			return strings.Contains(" "+strings.Join(checkSymbols, " ")+" ", " "+name+" ")
		},
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			set, err := rules.Load([]rules.Source{{Name: file, Src: src}}, opt)
			if err == nil || set != nil {
				t.Fatal("accepted")
			}
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}
