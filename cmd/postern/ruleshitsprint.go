package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

func (r *hitReport) print(w io.Writer, f *hitsFlags) error {
	switch {
	case f.json:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	case f.csv:
		return r.printCSV(w)
	}
	fmt.Fprintf(w, "%d rules, %d ham and %d spam\n\n", len(r.Rules), r.Ham, r.Spam)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  SPAM\tSPAM %\tHAM\tHAM %\tS/O\tSCORE\tµs\tRULE\tHITS WITH")
	var never, off, undecided []string
	for i := range r.Rules {
		h := &r.Rules[i]
		if h.Unknown > 0 {
			undecided = append(undecided, fmt.Sprintf("%s (%d)", h.Rule, h.Unknown))
		}
		switch {
		case h.Mode == "off":
			off = append(off, h.Rule)
		case h.SO == nil && h.Unknown > 0:
		case h.SO == nil:
			never = append(never, h.Rule)
		default:
			fmt.Fprintf(table, "%6d\t%6.2f\t%d\t%5.2f\t%.3f\t%s\t%.1f\t%s\t%s\n",
				h.Spam, 100*h.SpamRate, h.Ham, 100*h.HamRate, *h.SO, h.weight(), h.Cost, h.Rule, h.with())
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	printNames(w, "Never hit", never)
	printNames(w, "Not decided on some messages, as a check failed", undecided)
	printNames(w, "Off", off)
	if n := r.Ham + r.Spam; n > 0 {
		fmt.Fprintf(w, "\nAll rules together take %.0f µs a message (%.1f KB); µs is what a rule adds to that.\n", r.Together, float64(r.Bytes)/1024/float64(n))
	}
	return nil
}

// weight is the score, or the action of a rule that has one, and whether it counts.
func (h *ruleHit) weight() string {
	s := h.Score.String()
	if h.Action != "" {
		s = h.Action
	}
	if h.Mode == "shadow" {
		s = "(" + s + ")"
	}
	return s
}

// with names the other rule that hit most of the same messages.
func (h *ruleHit) with() string {
	if len(h.Overlap) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %.0f %%", h.Overlap[0].Rule, 100*h.Overlap[0].Share)
}

func printNames(w io.Writer, what string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(w, "\n%s: %s\n", what, strings.Join(names, ", "))
	}
}

func (r *hitReport) printCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	head := []string{"rule", "file", "line", "mode", "score", "action", "spam", "ham", "spam_rate", "ham_rate", "s_o", "unknown", "us", "overlap_rule", "overlap_share"}
	if err := out.Write(head); err != nil {
		return err
	}
	for i := range r.Rules {
		h := &r.Rules[i]
		so, other, shared := "", "", ""
		if h.SO != nil {
			so = decimal(*h.SO)
		}
		if len(h.Overlap) > 0 {
			other, shared = h.Overlap[0].Rule, decimal(h.Overlap[0].Share)
		}
		err := out.Write([]string{
			h.Rule, h.File, strconv.Itoa(h.Line), h.Mode, h.Score.String(), h.Action, strconv.Itoa(h.Spam), strconv.Itoa(h.Ham),
			decimal(h.SpamRate), decimal(h.HamRate), so, strconv.Itoa(h.Unknown), decimal(h.Cost), other, shared,
		})
		if err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func decimal(x float64) string { return strconv.FormatFloat(x, 'f', 4, 64) }
