package proxy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The tests that docs/reliability.md names are there, and its tables of faults are whole: the rows add up to the last one,
// and no promise was broken.
func TestReliabilityPage(t *testing.T) {
	page, err := os.ReadFile("../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	there := testNames(t)
	named := regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Errorf("the page names only %d tests", len(named))
	}
	for _, name := range named {
		if !there[name[1]] {
			t.Errorf("the page names %s, which there is not", name[1])
		}
	}
	for _, path := range regexp.MustCompile("`((?:proxy|cmd|filters)/[\\w/]+(?:\\.go)?)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join("..", path[1])); err != nil {
			t.Errorf("the page names a file: %v", err)
		}
	}
	_, tables, _ := strings.Cut(string(page), "## The table of faults")
	var sum []int
	sums := 0
	for line := range strings.Lines(tables) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 10 {
			continue
		}
		row := make([]int, 0, 9)
		for _, cell := range cells[1:] {
			if n, err := strconv.Atoi(strings.TrimSpace(cell)); err == nil {
				row = append(row, n)
			}
		}
		switch {
		case len(row) == 0: // the heading of a table
			sum = make([]int, 9)
			continue
		case len(row) != 9 || sum == nil:
			t.Fatalf("a row that is not one: %s", line)
		case row[5]+row[6]+row[7]+row[8] != 0:
			t.Errorf("a promise is broken: %s", line)
		}
		if strings.TrimSpace(cells[0]) != "**all**" {
			for i, n := range row {
				sum[i] += n
			}
			continue
		}
		sums++
		for i, n := range row {
			if n != sum[i] {
				t.Errorf("the rows add up to %v, not to %v", sum, row)
				break
			}
		}
	}
	if sums != 9 {
		t.Errorf("the page has %d tables of faults", sums)
	}
}

// testNames are the names of all tests of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range declared.FindAllStringSubmatch(string(src), -1) {
			names[name[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
