package tune

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"postern/rules"
)

// A Change is another score for a rule.
type Change struct {
	Rule   *rules.Rule
	Points float64
}

// scoreForm is a number as it stands in YAML, plain or in quotes.
var scoreForm = regexp.MustCompile(`^(?:"[^"]*"|'[^']*'|[-+.0-9]+)`)

// Edit writes other scores into a rule file and touches nothing else: comments, order and spaces stay. The scores are those of
// rules that were read from this file and are overridden nowhere. An error says which score could not be written.
func Edit(name string, src []byte, changes []Change) ([]byte, error) {
	lines := bytes.SplitAfter(slices.Clone(src), []byte("\n"))
	slices.SortFunc(changes, func(a, b Change) int { return b.Rule.ScorePos.Compare(a.Rule.ScorePos) }) // from the back
	want := map[string]int32{}
	for _, c := range changes {
		pos := c.Rule.ScorePos
		at, ok := offset(lines, pos)
		if !ok {
			return nil, fmt.Errorf("%s: the score of %s does not stand there any more", pos, c.Rule.ID)
		}
		line := lines[pos.Line-1]
		old := scoreForm.Find(line[at:])
		if old == nil {
			return nil, fmt.Errorf("%s: the score of %s is not written as a number that can be replaced", pos, c.Rule.ID)
		}
		lines[pos.Line-1] = slices.Concat(line[:at], []byte(rules.FormatScore(hundredths(c.Points))), line[at+len(old):])
		want[c.Rule.ID] = hundredths(c.Points)
	}
	edited := bytes.Join(lines, nil)
	return edited, verify(name, src, edited, want)
}

func hundredths(points float64) int32 {
	if points < 0 {
		return -hundredths(-points)
	}
	return int32(points*100 + 0.5)
}

// offset finds the byte of a line at which a position is.
func offset(lines [][]byte, pos rules.Pos) (int, bool) {
	if pos.Line < 1 || pos.Line > len(lines) {
		return 0, false
	}
	line, at := lines[pos.Line-1], 0
	for range pos.Col - 1 {
		_, size := utf8.DecodeRune(line[at:])
		at += size
	}
	return at, at < len(line)
}

// verify reads a file again: the rules whose scores were to change have these, and all others what they had.
func verify(name string, src, edited []byte, want map[string]int32) error {
	before, err := rules.Parse(name, src)
	if err != nil {
		return err
	}
	after, err := rules.Parse(name, edited)
	if err != nil {
		return fmt.Errorf("the edited file can't be read: %w", err)
	}
	for i, r := range before.Rules {
		expected, changed := want[r.ID]
		if !changed {
			expected = r.Score
		}
		if got := after.Rules[i].Score; got != expected {
			return fmt.Errorf("%s: the score of %s would be %s, expected %s: does it share an anchor with another rule?",
				r.ScorePos, r.ID, rules.FormatScore(got), rules.FormatScore(expected))
		}
	}
	return nil
}

// around is how many lines that stay stand before and behind those that change.
const around = 3

// Diff is the unified diff of two versions of a file that differ within lines only.
func Diff(name string, before, after []byte) string {
	old, now := strings.SplitAfter(string(before), "\n"), strings.SplitAfter(string(after), "\n")
	if len(old) != len(now) {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(old); i++ {
		if old[i] == now[i] {
			continue
		}
		last := i // of the changed lines that are near enough for one hunk
		for j := i; j < len(old) && j <= last+2*around+1; j++ {
			if old[j] != now[j] {
				last = j
			}
		}
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
		}
		hunk(&b, old, now, max(0, i-around), min(len(old), last+1+around))
		i = last
	}
	return b.String()
}

// hunk writes the lines from one number up to another.
func hunk(b *strings.Builder, old, now []string, from, to int) {
	if to == len(old) && old[to-1] == "" {
		to-- // behind the last line end is no line
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", from+1, to-from, from+1, to-from)
	for i := from; i < to; {
		if old[i] == now[i] {
			b.WriteString(ended(" " + old[i]))
			i++
			continue
		}
		first := i
		for ; i < to && old[i] != now[i]; i++ {
			b.WriteString(ended("-" + old[i]))
		}
		for _, line := range now[first:i] {
			b.WriteString(ended("+" + line))
		}
	}
}

// ended ends the last line of a file that has no line end.
func ended(line string) string {
	if strings.HasSuffix(line, "\n") {
		return line
	}
	return line + "\n\\ No newline at end of file\n"
}
