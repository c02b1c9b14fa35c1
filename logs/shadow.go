package logs

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Thresholds are points from which mail is tagged, diverted and refused; 0 for never.
type Thresholds struct {
	Tag        float64 `json:"tag"`
	Quarantine float64 `json:"quarantine"`
	Reject     float64 `json:"reject"`
}

// action is what these make of a score.
func (t Thresholds) action(score float64) string {
	switch {
	case t.Reject > 0 && score >= t.Reject:
		return "reject"
	case t.Quarantine > 0 && score >= t.Quarantine:
		return "quarantine"
	case t.Tag > 0 && score >= t.Tag:
		return "tag"
	}
	return "accept"
}

// severity orders actions.
var severity = map[string]int{"accept": 1, "tag": 2, "quarantine": 3, "defer": 4, "reject": 5}

// A ShadowReport is what rules in shadow mode, and observe mode, would have changed.
type ShadowReport struct {
	First    time.Time      `json:"first"`
	Last     time.Time      `json:"last"`
	Messages int            `json:"messages"`
	Rules    []ShadowRule   `json:"rules"`    // by how many messages they would have changed
	Observed map[string]int `json:"observed"` // messages that observe mode let through, by what would have been done
	Examples []Example      `json:"observed_examples"`
}

// A ShadowRule is what one rule would have changed, alone, by its points.
type ShadowRule struct {
	Name     string         `json:"rule"`
	Hits     int            `json:"hits"`
	Share    float64        `json:"share"` // of all messages
	Points   float64        `json:"points"`
	Severer  map[string]int `json:"severer"` // messages that it would have made fare worse, by what would have been done
	Milder   map[string]int `json:"milder"`  // and better
	Alone    int            `json:"alone"`   // of those that would fare worse, with less than half of the tag threshold without it
	Proved   int            `json:"proved"`  // and of these with a DMARC pass
	Advice   string         `json:"advice"`  // enforce, look, wait
	Examples []Example      `json:"examples"`

	ranked []rankedExample
}

// An Example is a message.
type Example struct {
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	From  string    `json:"from"`
	Rcpts string    `json:"rcpt_to"`
	Score string    `json:"score"` // as it was
	Would string    `json:"would"`
}

type rankedExample struct {
	score float64
	Example
}

const (
	maxExamples    = 5
	maxShadowRules = 10000
	fewHits        = 10 // too few to judge a rule by
)

// A ShadowReporter gathers a [ShadowReport].
type ShadowReporter struct {
	limits Thresholds
	rep    ShadowReport
	rules  map[string]*ShadowRule
}

// NewShadowReporter judges by these thresholds.
func NewShadowReporter(limits Thresholds) *ShadowReporter {
	return &ShadowReporter{limits: limits, rep: ShadowReport{Observed: map[string]int{}, Examples: []Example{}}, rules: map[string]*ShadowRule{}}
}

// Add looks at a line.
func (s *ShadowReporter) Add(r *Record) {
	if string(r.raw("event")) != "message" || string(r.raw("action")) == "abort" {
		return
	}
	at := r.Time()
	if s.rep.First.IsZero() || at.Before(s.rep.First) {
		s.rep.First = at
	}
	if at.After(s.rep.Last) {
		s.rep.Last = at
	}
	s.rep.Messages++
	would := r.Get("would")
	if would != "" {
		bump(s.rep.Observed, would)
		if len(s.rep.Examples) < maxExamples {
			s.rep.Examples = append(s.rep.Examples, exampleOf(r, at, would))
		}
	}
	was := cmp.Or(would, r.Get("action"))
	score := r.Float("score")
	by, _, _ := strings.Cut(r.Get("by"), ",")
	for name, points := range Findings(r.Get("shadow")) {
		rule := s.rules[name]
		if rule == nil {
			if len(s.rules) == maxShadowRules {
				continue
			}
			rule = &ShadowRule{Name: name, Severer: map[string]int{}, Milder: map[string]int{}}
			s.rules[name] = rule
		}
		rule.Hits++
		rule.Points = points
		if by != "score" {
			continue // the sum did not decide, nor would it have
		}
		switch now := s.limits.action(score + points); {
		case severity[now] > severity[was]:
			bump(rule.Severer, now)
			if score < s.limits.Tag/2 {
				rule.Alone++
				if string(r.raw("dmarc")) == "pass" {
					rule.Proved++
				}
			}
			rule.example(score, exampleOf(r, at, now))
		case severity[now] < severity[was]:
			bump(rule.Milder, now)
			rule.example(score, exampleOf(r, at, now))
		}
	}
}

func exampleOf(r *Record, at time.Time, would string) Example {
	return Example{ID: r.Get("id"), Time: at, From: cmp.Or(r.Get("from"), r.Get("mail_from")), Rcpts: r.Get("rcpt_to"), Score: r.Get("score"), Would: would}
}

// example keeps the messages with the least against them: they show best what a rule may do wrong.
func (rule *ShadowRule) example(score float64, e Example) {
	at, _ := slices.BinarySearchFunc(rule.ranked, score, func(a rankedExample, s float64) int { return cmp.Or(cmp.Compare(a.score, s), -1) })
	if at >= maxExamples {
		return
	}
	rule.ranked = slices.Insert(rule.ranked, at, rankedExample{score: score, Example: e})
	rule.ranked = rule.ranked[:min(len(rule.ranked), maxExamples)]
}

// Report ends the gathering.
func (s *ShadowReporter) Report() *ShadowReport {
	rep := &s.rep
	rep.Rules = []ShadowRule{}
	for _, rule := range s.rules {
		rule.Share = float64(rule.Hits) / float64(rep.Messages)
		rule.Advice = rule.advice()
		rule.Examples = []Example{}
		for _, e := range rule.ranked {
			rule.Examples = append(rule.Examples, e.Example)
		}
		rep.Rules = append(rep.Rules, *rule)
	}
	slices.SortFunc(rep.Rules, func(a, b ShadowRule) int {
		return cmp.Or(cmp.Compare(total(b.Severer), total(a.Severer)), cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.Name, b.Name))
	})
	return rep
}

func total(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// advice says whether a rule can be enforced: one that would only have been hard on mail that has much against it already is safe,
// as far as this log goes.
func (rule *ShadowRule) advice() string {
	switch {
	case rule.Alone > 0:
		return "look"
	case rule.Hits < fewHits:
		return "wait"
	}
	return "enforce"
}

// WriteText prints the report. Text of strangers goes through printable.
func (r *ShadowReport) WriteText(w io.Writer, printable func(string) string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages from %s to %s\n", r.Messages, stamp(r.First), stamp(r.Last))
	if len(r.Observed) > 0 {
		fmt.Fprintf(&b, "\nOBSERVE MODE let pass what else would have been: %s\n", counted(r.Observed))
		examples(&b, r.Examples, printable)
	}
	if len(r.Rules) == 0 {
		fmt.Fprintf(&b, "\nNo rule in shadow mode hit.\n")
	}
	for i := range r.Rules {
		rule := &r.Rules[i]
		fmt.Fprintf(&b, "\n%s  %s points, hit %d messages (%.2f %%)\n", printable(rule.Name), strconv.FormatFloat(rule.Points, 'f', -1, 64), rule.Hits, 100*rule.Share)
		switch {
		case len(rule.Severer)+len(rule.Milder) == 0:
			b.WriteString("  would have changed nothing\n")
		default:
			if len(rule.Severer) > 0 {
				fmt.Fprintf(&b, "  would have been severer: %s\n", counted(rule.Severer))
			}
			if len(rule.Milder) > 0 {
				fmt.Fprintf(&b, "  would have been milder: %s\n", counted(rule.Milder))
			}
		}
		switch rule.Advice {
		case "enforce":
			b.WriteString("  safe to enforce, as far as this log goes: what it is hard on has at least half of the tag threshold without it\n")
		case "wait":
			fmt.Fprintf(&b, "  too few hits to tell: fewer than %d\n", fewHits)
		case "look":
			fmt.Fprintf(&b, "  look before you enforce it: %d of these have little else against them, %d of which proved their sender (DMARC pass)\n", rule.Alone, rule.Proved)
		}
		examples(&b, rule.Examples, printable)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func examples(b *strings.Builder, list []Example, printable func(string) string) {
	for _, e := range list {
		fmt.Fprintf(b, "    %s  %s  %s to %s: at %s, would be %s\n", moment(e.Time), printable(e.ID), orNothing(printable(e.From)), orNothing(printable(e.Rcpts)), e.Score, e.Would)
	}
}

// counted words counts, the severest first: "2 reject, 5 tag".
func counted(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(severity[b]-severity[a], cmp.Compare(a, b)) })
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(words, ", ")
}
