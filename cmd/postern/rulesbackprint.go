package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"postern/filters"
)

func (r *backtestReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return encodeJSON(w, r)
	}
	fmt.Fprintf(w, "before: %s (%d rules; %s)\n", r.Before.Rules, r.Before.Count, limits(r.Before.limits))
	fmt.Fprintf(w, "after:  %s (%d rules; %s)\n\n", r.After.Rules, r.After.Count, limits(r.After.limits))
	if err := r.printMatrix(w); err != nil {
		return err
	}
	if len(r.Flips) == 0 {
		fmt.Fprintf(w, "\nNo verdict changes.\n")
	}
	last := -1
	for i := range r.Flips {
		f := &r.Flips[i]
		if f.rank() != last {
			last = f.rank()
			fmt.Fprintf(w, "\n%s:\n", f.heading(r))
		}
		f.print(w)
	}
	word := "OK"
	if r.NewFalsePositives > r.Allowed {
		word = "FAIL"
	}
	fmt.Fprintf(w, "\n%s: %d new false positives, %d allowed; %d verdicts change\n", word, r.NewFalsePositives, r.Allowed, len(r.Flips))
	return nil
}

// limits names the thresholds that there are.
func limits(t filters.Thresholds) string {
	var parts []string
	for _, l := range []struct {
		name string
		at   filters.Score
	}{{name: "tag", at: t.Tag}, {name: "quarantine", at: t.Quarantine}, {name: "reject", at: t.Reject}} {
		if l.at != 0 {
			parts = append(parts, l.name+" at "+l.at.String())
		}
	}
	if len(parts) == 0 {
		return "no thresholds"
	}
	return strings.Join(parts, ", ")
}

// printMatrix prints the messages by class and action, before and after.
func (r *backtestReport) printMatrix(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tham before\tham after\tspam before\tspam after\t")
	columns := [][]int{r.Before.counts[ham], r.After.counts[ham], r.Before.counts[spam], r.After.counts[spam]}
	for a := filters.Accept; a <= filters.Reject; a++ {
		if sumAt(columns, a) == 0 && a != filters.Accept && a != filters.Tag {
			continue
		}
		fmt.Fprintf(table, "%s\t", a)
		for _, counts := range columns {
			fmt.Fprintf(table, "%d\t", counts[a])
		}
		fmt.Fprintln(table)
	}
	fmt.Fprint(table, "tag or worse\t")
	for _, counts := range columns {
		fmt.Fprintf(table, "%s\t", share(caught(counts), judgedOf(counts)))
	}
	fmt.Fprintln(table)
	return table.Flush()
}

func sumAt(columns [][]int, a filters.Action) int {
	n := 0
	for _, counts := range columns {
		n += counts[a]
	}
	return n
}

func judgedOf(counts []int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// caught is how many were not simply accepted.
func caught(counts []int) int {
	return judgedOf(counts) - counts[filters.NoAction] - counts[filters.Accept]
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(of))
}

func (f *flip) heading(r *backtestReport) string {
	n := 0
	for i := range r.Flips {
		if r.Flips[i].rank() == f.rank() {
			n++
		}
	}
	switch f.rank() {
	case 0:
		return fmt.Sprintf("New false positives: %d ham treated more severely", n)
	case 1:
		return fmt.Sprintf("New misses: %d spam treated less severely", n)
	case 2:
		return fmt.Sprintf("Better caught: %d spam treated more severely", n)
	}
	return fmt.Sprintf("Fewer false positives: %d ham treated less severely", n)
}

func (f *flip) print(w io.Writer) {
	fmt.Fprintf(w, "  %s: %s, now %s\n", printable(f.Path), f.Before.words(), f.After.words())
	for _, c := range f.Rules {
		line := ""
		switch c.What {
		case "new":
			line = fmt.Sprintf("    + %s %s", c.Symbol, c.After)
		case "gone":
			line = fmt.Sprintf("    - %s %s", c.Symbol, c.Before)
		default:
			line = fmt.Sprintf("    ~ %s %s, was %s", c.Symbol, c.After, c.Before)
		}
		if c.Action != "" {
			line += ", asks for " + c.Action
		}
		if c.File != "" {
			line += fmt.Sprintf("  %s:%d", c.File, c.Line)
		}
		fmt.Fprintln(w, line)
	}
	if len(f.Rules) == 0 {
		fmt.Fprintln(w, "    the same findings, other thresholds")
	}
}

// words says what was done and what decided.
func (s side) words() string {
	if s.By == "score" {
		return fmt.Sprintf("%s at %s", s.Action, s.Score)
	}
	return fmt.Sprintf("%s by %s", s.Action, s.By)
}
