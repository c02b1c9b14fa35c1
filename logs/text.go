package logs

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A table writes one section of the report on a terminal.
type table struct{ *tabwriter.Writer }

func section(w io.Writer, title string, head ...string) table {
	fmt.Fprintf(w, "\n%s\n", title)
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(head) > 0 {
		fmt.Fprintf(t, "  %s\n", strings.Join(head, "\t"))
	}
	return t
}

func (t table) row(cells ...any) {
	for i, c := range cells {
		sep := "\t"
		if i == 0 {
			sep = "  "
		}
		fmt.Fprintf(t, "%s%v", sep, c)
	}
	fmt.Fprintln(t)
}

// WriteText prints the report as tables. Text of strangers goes through printable.
func (r *Report) WriteText(w io.Writer, printable func(string) string) error {
	if r.Messages == 0 && r.Sessions == 0 {
		_, err := fmt.Fprintf(w, "0 messages and 0 sessions; %d lines are not Postern's or are broken\n", r.Unreadable)
		return err
	}
	fmt.Fprintf(w, "%d messages and %d sessions from %s to %s\n", r.Messages, r.Sessions, stamp(r.First), stamp(r.Last))
	if r.Unreadable > 0 {
		fmt.Fprintf(w, "%d lines are not Postern's or are broken\n", r.Unreadable)
	}
	r.textVerdicts(w)
	r.textRules(w)
	p := textPrinter{w: w, printable: printable}
	p.counts("REFUSED, BY CLIENT", r.Clients)
	p.counts("REFUSED, BY NETWORK", r.Networks)
	p.counts("REFUSED, BY DOMAIN", r.Domains)
	if r.RcptsRefused > 0 {
		p.counts(fmt.Sprintf("REFUSED RECIPIENTS, BY CLIENT (%d in all)", r.RcptsRefused), r.Harvesters)
	}
	p.auth(r.Auth)
	p.failures("DNS LISTS OUT OF USE", r.Parked)
	p.upstreams(r.Upstream)
	t := section(w, "TIME, IN MILLISECONDS", "STAGE", "P50", "P90", "P99", "MAX")
	for _, s := range r.Stages {
		t.row(s.Name, s.P50, s.P90, s.P99, s.Max)
	}
	t.Flush()
	p.failures("ERRORS", r.Errors)
	p.counts("ENDS OF SESSIONS", r.SessionEnds)
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func (r *Report) textVerdicts(w io.Writer) {
	t := section(w, "VERDICTS")
	for _, a := range slices.Sorted(maps.Keys(r.Actions)) {
		t.row(a, r.Actions[a], percent(r.Actions[a], r.Messages))
	}
	for _, a := range slices.Sorted(maps.Keys(r.Would)) {
		t.row("would "+a, r.Would[a], percent(r.Would[a], r.Messages))
	}
	t.Flush()
	most := 1
	for _, s := range r.Scores {
		most = max(most, s.Messages)
	}
	t = section(w, "SCORES")
	for _, s := range r.Scores {
		t.row(fmt.Sprintf("%3d", s.From), s.Messages, strings.Repeat("#", (s.Messages*40+most-1)/most))
	}
	t.Flush()
	// A terminal shows the last two days; the page shows the whole time.
	t = section(w, "BY HOUR (UTC)", "HOUR", "ACCEPT", "TAG", "QUARANTINE", "DEFER", "REJECT", "ABORT")
	for _, h := range r.Hours[max(0, len(r.Hours)-48):] {
		cells := []any{stamp(h.Hour)}
		for _, a := range actionOrder {
			cells = append(cells, h.Actions[a])
		}
		t.row(cells...)
	}
	t.Flush()
}

var actionOrder = []string{"accept", "tag", "quarantine", "defer", "reject", "abort"}

func percent(n, of int) string {
	if of == 0 {
		return "0.0%"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(of))
}

func (r *Report) textRules(w io.Writer) {
	t := section(w, "RULES (ALONE: MESSAGES WHOSE VERDICT WOULD BE MILDER WITHOUT IT)", "RULE", "HITS", "SHARE", "ALONE", "LAST")
	for _, rule := range r.Rules {
		name := rule.Name
		if rule.Shadow {
			name += " (shadow)"
		}
		t.row(name, rule.Hits, percent(rule.Hits, r.Messages), rule.Alone, stamp(rule.Last))
	}
	t.Flush()
	if len(r.NeverHit) > 0 {
		fmt.Fprintf(w, "\nRULES THAT NEVER HIT\n  %s\n", strings.Join(r.NeverHit, "\n  "))
	}
}

type textPrinter struct {
	w         io.Writer
	printable func(string) string
}

func (p textPrinter) counts(title string, list []Count) {
	if len(list) == 0 {
		return
	}
	t := section(p.w, title)
	for _, c := range list {
		t.row(p.printable(c.Name), c.Count)
	}
	t.Flush()
}

func (p textPrinter) failures(title string, list []Failure) {
	if len(list) == 0 {
		return
	}
	t := section(p.w, title)
	for _, f := range list {
		t.row(p.printable(f.Name), f.Count, p.printable(f.Last))
	}
	t.Flush()
}

func (p textPrinter) auth(list []AuthDomain) {
	t := section(p.w, "AUTHENTICATION, BY DOMAIN IN FROM", "DOMAIN", "MESSAGES", "SPF", "DKIM", "DMARC", "DMARC FAILS", "FROM")
	for _, d := range list {
		var from []string
		for _, c := range d.Failing {
			from = append(from, fmt.Sprintf("%s (%d)", c.Name, c.Count))
		}
		t.row(p.printable(d.Domain), d.Messages, d.SPF, d.DKIM, d.DMARC, d.DMARCFail, p.printable(strings.Join(from, ", ")))
	}
	t.Flush()
}

func (p textPrinter) upstreams(list []Upstream) {
	t := section(p.w, "SERVERS BEHIND", "SERVER", "MESSAGES", "P50 MS", "P99 MS", "DOWN", "REPLIES")
	for _, u := range list {
		var replies []string
		for _, c := range u.Replies {
			replies = append(replies, fmt.Sprintf("%s (%d)", c.Name, c.Count))
		}
		t.row(p.printable(u.Name), u.Count, u.P50, u.P99, u.Down, p.printable(strings.Join(replies, ", ")))
	}
	t.Flush()
}
