package ledger

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// columns are the outcomes in the order of the table.
var columns = []outcome{atOnce, later, refused, doubled, lost, silent, falseRefuse, stuck}

// A tally counts the outcomes of faults, by row.
type tally struct {
	points map[string]int
	counts map[string]map[outcome]int
}

func newTally() *tally {
	return &tally{points: make(map[string]int), counts: make(map[string]map[outcome]int)}
}

func (t *tally) add(row string, outcomes []outcome) {
	t.points[row]++
	if t.counts[row] == nil {
		t.counts[row] = make(map[outcome]int)
	}
	for _, o := range outcomes {
		t.counts[row][o]++
	}
}

// table is the tally as Markdown.
func (t *tally) table(first, unit string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %s |", first, unit)
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", strings.ToLower(string(c)))
	}
	b.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(columns)+1) + "\n")
	total, points := make(map[outcome]int), 0
	line := func(name string, points int, counts map[outcome]int) {
		fmt.Fprintf(&b, "| %s | %d |", name, points)
		for _, c := range columns {
			fmt.Fprintf(&b, " %d |", counts[c])
		}
		b.WriteString("\n")
	}
	for _, row := range slices.Sorted(maps.Keys(t.points)) {
		line(row, t.points[row], t.counts[row])
		points += t.points[row]
		for c, n := range t.counts[row] {
			total[c] += n
		}
	}
	line("**all**", points, total)
	return b.String()
}

// merge adds another tally.
func (t *tally) merge(other *tally) {
	for row, n := range other.points {
		t.points[row] += n
		if t.counts[row] == nil {
			t.counts[row] = make(map[outcome]int)
		}
		for o, c := range other.counts[row] {
			t.counts[row][o] += c
		}
	}
}

// report judges all accounts, prints the tables, and fails the test where a promise was broken.
func (b *book) report(t *testing.T, title, unit, log string) {
	t.Helper()
	byPlace, byKind := b.judge(t, log)
	publish(t, title, byPlace.table("where", unit)+"\n"+byKind.table("fault", unit))
}

// judge judges all accounts and fails the test where a promise was broken.
func (b *book) judge(t *testing.T, log string) (byPlace, byKind *tally) {
	t.Helper()
	inDoubt := readDoubts(log)
	byPlace, byKind = newTally(), newTally()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(b.accounts)) {
		a := b.accounts[id]
		if a.abandoned {
			continue
		}
		var outcomes []outcome
		for n, r := range a.rcpts {
			o := a.judge(n, inDoubt)
			outcomes = append(outcomes, o)
			if o.bad() {
				t.Errorf("%s: %s, recipient %s: told %d at try %d of %d, %d copies (%d torn)\n%s",
					a.cause.name, o, r, a.told[r].code, a.told[r].try, a.tries, a.copies[r], a.torn, linesOf(log, id))
			}
		}
		if a.cause.kind != none.kind {
			byPlace.add(a.cause.where, outcomes)
			byKind.add(a.cause.kind, outcomes)
		}
	}
	for _, s := range b.strays {
		t.Errorf("a next hop took a message that nobody had sent: %s", s)
	}
	for _, name := range b.missed {
		t.Errorf("%s: the fault was not met", name)
	}
	for _, c := range b.vanished {
		c.Close()
	}
	b.vanished = nil
	return byPlace, byKind
}

// publish prints tables and, where POSTERN_TABLE names a file, appends them to it.
func publish(t *testing.T, title, tables string) {
	text := fmt.Sprintf("### %s (seed %d)\n\n%s\n", title, seed, tables)
	t.Logf("outcomes by recipient:\n%s", text)
	writeTable(t, text)
}

var tableFile sync.Mutex

func writeTable(t *testing.T, text string) {
	path := os.Getenv("POSTERN_TABLE")
	if path == "" {
		return
	}
	tableFile.Lock()
	defer tableFile.Unlock()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// linesOf gives the lines of a log that tell of a message.
func linesOf(log, id string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, id+"@") {
			b.WriteString(line)
		}
	}
	return b.String()
}
