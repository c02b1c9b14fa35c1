package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"

	"postern/filters/model/measure"
	"postern/rules"
	"postern/rules/tune"
)

// A tuneReport says what a proposal does, and why.
type tuneReport struct {
	rules, spam, ham, silent int // silent rules hit nothing
	tag                      float64
	weight                   float64
	before, held             []measure.Scored
	folders                  []folderRow // where that is asked for
	changes                  []scoreChange
	flagged                  []string // ham that is tagged by the proposal and was not
}

// A scoreChange is a score that is to be another.
type scoreChange struct {
	rule       *rules.Rule
	from, to   float64
	spam, ham  int // messages that the rule hits
	missed     int // of the spam, that stay below the threshold with the present scores
	threatened int // of the ham, that come within a point of it or above
	share      [2]float64
}

func (s scoreChange) hundredths() int32 { return int32(math.Round(s.to * 100)) }

func (t *tuner) report(p *tune.Proposal) *tuneReport {
	r := &tuneReport{rules: len(t.rules), tag: t.opt.Tag, weight: p.Weight}
	all := make([]scoreChange, len(t.rules))
	for i, rule := range t.rules {
		all[i] = scoreChange{rule: rule, from: float64(rule.Score) / 100, to: p.Scores[i]}
	}
	for j, m := range t.mail {
		r.before = append(r.before, measure.Scored{Score: p.Before[j], Spam: m.Spam})
		r.held = append(r.held, measure.Scored{Score: p.HeldOut[j], Spam: m.Spam})
		if m.Spam {
			r.spam++
		} else {
			r.ham++
			if p.Before[j] < t.opt.Tag && p.HeldOut[j] >= t.opt.Tag {
				r.flagged = append(r.flagged, t.paths[j])
			}
		}
		for _, i := range m.Hits {
			all[i].count(m.Spam, p.Before[j], t.opt.Tag)
		}
	}
	for _, ch := range all {
		ch.share = [2]float64{rate(ch.spam, r.spam), rate(ch.ham, r.ham)}
		switch {
		case ch.spam+ch.ham == 0:
			r.silent++
		case ch.hundredths() != ch.rule.Score:
			r.changes = append(r.changes, ch)
		}
	}
	slices.SortStableFunc(r.changes, func(a, b scoreChange) int {
		return cmp.Compare(math.Abs(b.to-b.from), math.Abs(a.to-a.from))
	})
	return r
}

// A folderRow is how the messages of a folder are judged.
type folderRow struct {
	folder       string
	spam         bool
	n            int
	before, held int // messages at the threshold and above
}

// byFolder counts what is tagged, by folder and class, with the present scores and with those that were made without it.
func (t *tuner) byFolder(before, held []float64) []folderRow {
	rows := map[string]*folderRow{}
	for j, m := range t.mail {
		key := strconv.FormatBool(m.Spam) + t.in[j]
		if rows[key] == nil {
			rows[key] = &folderRow{folder: t.in[j], spam: m.Spam}
		}
		row := rows[key]
		row.n++
		row.before += atLeast(before[j], t.opt.Tag)
		row.held += atLeast(held[j], t.opt.Tag)
	}
	var list []folderRow
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		list = append(list, *rows[key])
	}
	return list
}

func atLeast(points, threshold float64) int {
	if points >= threshold-1e-9 {
		return 1
	}
	return 0
}

func (s *scoreChange) count(isSpam bool, points, tag float64) {
	switch {
	case isSpam:
		s.spam++
		if points < tag {
			s.missed++
		}
	default:
		s.ham++
		if points >= tag-1 {
			s.threatened++
		}
	}
}

// reason says in figures why a score is to change.
func (s *scoreChange) reason(tag float64) string {
	hits := fmt.Sprintf("hits %.2f %% of the spam and %.2f %% of the ham", 100*s.share[0], 100*s.share[1])
	switch {
	case s.to > s.from && s.missed > 0:
		return fmt.Sprintf("%s; %d of the %d spam stay below %g now", hits, s.missed, s.spam, tag)
	case s.to < s.from && s.threatened > 0:
		return fmt.Sprintf("%s; %d of the %d ham come within a point of %g now, or above", hits, s.threatened, s.ham, tag)
	case s.to < s.from && s.spam > 0 && 2*s.missed < s.spam:
		return fmt.Sprintf("%s; %d of the %d spam reach %g now, other rules hit them too", hits, s.spam-s.missed, s.spam, tag)
	}
	return hits
}

func (r *tuneReport) print(w io.Writer) {
	fmt.Fprintf(w, "%d rules, %d spam, %d ham; ham weighs %g times what spam does\n\n", r.rules, r.spam, r.ham, r.weight)
	fmt.Fprintf(w, "%-30s %10s  %10s\n", "", "before", "held out")
	for _, row := range r.rows() {
		fmt.Fprintf(w, "%-30s %10s  %10s\n", row.what, row.before, row.after)
	}
	for i, row := range r.folders {
		if i == 0 {
			fmt.Fprintf(w, "\nFrom %g points on, each folder judged by what the others propose:\n\n%-46s %8s %10s %10s\n", r.tag, "", "messages", "before", "held out")
		}
		class := ham
		if row.spam {
			class = spam
		}
		fmt.Fprintf(w, "%-46s %8d %8.2f %% %8.2f %%\n", printable(string(class)+" "+row.folder), row.n, 100*rate(row.before, row.n), 100*rate(row.held, row.n))
	}
	for i, path := range r.flagged {
		if i == 0 {
			fmt.Fprintf(w, "\nHam that would be tagged and is not now: %d\n", len(r.flagged))
		}
		if i == shownPaths {
			fmt.Fprintf(w, "  and %d more\n", len(r.flagged)-shownPaths)
			break
		}
		fmt.Fprintf(w, "  %s\n", printable(path))
	}
	fmt.Fprintf(w, "\n%d scores change", len(r.changes))
	if r.silent > 0 {
		fmt.Fprintf(w, "; %d rules hit nothing and stay as they are", r.silent)
	}
	fmt.Fprintln(w)
	for _, ch := range r.changes {
		fmt.Fprintf(w, "  %s: %s to %s: %s\n", ch.rule.ID, points(ch.rule.Score), points(ch.hundredths()), ch.reason(r.tag))
	}
}

// shownPaths is how many messages are named.
const shownPaths = 20

type tuneRow struct{ what, before, after string }

// rows are the figures with the present scores, and of held-out mail.
func (r *tuneReport) rows() []tuneRow {
	var rows []tuneRow
	add := func(what string, figure func([]measure.Scored) string) {
		rows = append(rows, tuneRow{what: what, before: figure(r.before), after: figure(r.held)})
	}
	percent := func(s measure.Share) string { return fmt.Sprintf("%.2f %%", 100*s.Rate()) }
	add(fmt.Sprintf("spam from %g points on", r.tag), func(l []measure.Scored) string {
		spam, _ := measure.At(l, r.tag)
		return percent(spam)
	})
	add(fmt.Sprintf("ham from %g points on", r.tag), func(l []measure.Scored) string {
		_, ham := measure.At(l, r.tag)
		return percent(ham)
	})
	for _, allowed := range []float64{0.001, 0.01} {
		add(fmt.Sprintf("spam with at most %g %% of ham", 100*allowed), func(l []measure.Scored) string {
			return percent(measure.Caught(l, allowed).Spam)
		})
	}
	add("area under the ROC curve", func(l []measure.Scored) string { return fmt.Sprintf("%.5f", measure.Area(l)) })
	return rows
}
