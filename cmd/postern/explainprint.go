package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"postern/filters"
	"postern/proxy"
	"postern/rules"
)

// An explanation is a verdict with all that led to it; its exported part is what -json prints.
type explanation struct {
	proxy.ScanResult
	Thresholds thresholdsJSON  `json:"thresholds"`
	Rules      []explainedJSON `json:"rules"`
	Shadow     []shadowJSON    `json:"shadow"`
	Log        *logEntry       `json:"log,omitempty"`

	verdict   filters.Verdict
	envelope  proxy.Envelope
	limits    filters.Thresholds
	subject   string
	explained map[string]rules.Explained
	unknown   []rules.Explained // a check that they ask for failed
	missed    []rules.Explained // that were named, and did not hit
	shadows   []proxy.Shadowed
}

type thresholdsJSON struct {
	Tag        json.Number `json:"tag"`
	Quarantine json.Number `json:"quarantine"`
	Reject     json.Number `json:"reject"`
}

// An explainedJSON is a rule that hit, that could not be decided, or that was asked for.
type explainedJSON struct {
	Rule        string    `json:"rule"`
	File        string    `json:"file"`
	Line        int       `json:"line"`
	Description string    `json:"description"`
	Mode        string    `json:"mode"`
	Score       points    `json:"score"`
	Value       string    `json:"value"` // true: it hit
	Conditions  *stepJSON `json:"conditions"`
}

// A shadowJSON is what a shadow rule would have changed.
type shadowJSON struct {
	Rule   string      `json:"rule"` // empty: all together
	Score  json.Number `json:"score"`
	Sum    json.Number `json:"sum"`
	Action string      `json:"action"`
}

func newShadowJSON(s proxy.Shadowed) shadowJSON {
	return shadowJSON{Rule: s.Rule, Score: number(s.Finding.Score), Sum: number(s.Verdict.Score), Action: s.Verdict.Action.String()}
}

func (e *explanation) fillJSON() {
	e.Thresholds = thresholdsJSON{Tag: number(e.limits.Tag), Quarantine: number(e.limits.Quarantine), Reject: number(e.limits.Reject)}
	e.Rules, e.Shadow = []explainedJSON{}, []shadowJSON{}
	add := func(r rules.Explained) {
		e.Rules = append(e.Rules, explainedJSON{
			Rule: r.Rule.ID, File: r.Rule.Pos.File, Line: r.Rule.Pos.Line, Description: r.Rule.Description,
			Mode: r.Rule.Mode.String(), Score: points(r.Score), Value: r.Truth.String(), Conditions: newStepJSON(r.When),
		})
	}
	for _, f := range e.verdict.Findings {
		if r, ok := e.explained[f.Symbol]; ok {
			add(r)
		}
	}
	for _, r := range e.unknown {
		add(r)
	}
	for _, r := range e.missed {
		add(r)
	}
	for _, s := range e.shadows {
		e.Shadow = append(e.Shadow, newShadowJSON(s))
	}
}

// An explainPrinter writes an explanation for people.
type explainPrinter struct {
	w         io.Writer
	marks     marks
	e         *explanation
	observing bool
}

func (p *explainPrinter) print() {
	e := p.e
	fmt.Fprintf(p.w, "%s%s: %s%s\n", p.marks.strong, printable(e.Path), e.Action, p.marks.off)
	p.circumstances()
	fmt.Fprintln(p.w)
	var light []string
	for _, f := range e.verdict.Findings {
		_, isRule := e.explained[f.Symbol]
		switch {
		case f.Shadow:
		case f.Score == 0 && f.Force == filters.NoAction && !isRule:
			light = append(light, f.Symbol)
		default:
			p.finding(f)
		}
	}
	fmt.Fprintf(p.w, "%8s\n%s%8s  sum%s\n", "------", p.marks.strong, e.verdict.Score, p.marks.off)
	fmt.Fprintf(p.w, "\n%s\n", decision(e.verdict, e.limits))
	if p.observing && e.verdict.Action > filters.Accept {
		fmt.Fprintln(p.w, "The configuration only observes: live mail would have been let through with this verdict in the log.")
	}
	p.shadow()
	if len(light) > 0 {
		fmt.Fprintf(p.w, "\nFound too, without weight: %s\n", strings.Join(light, ", "))
	}
	p.others("Not decided, because a check failed", e.unknown, rules.True)
	p.others("Did not hit", e.missed, rules.True)
	for i, err := range e.Errors {
		if i == 0 {
			fmt.Fprintln(p.w, "\nErrors:")
		}
		fmt.Fprintf(p.w, "  %s\n", printable(err))
	}
}

// circumstances tells how the message came in.
func (p *explainPrinter) circumstances() {
	e := p.e
	client := "client unknown"
	if e.envelope.IP.IsValid() {
		client = "client " + e.envelope.IP.String()
	}
	if e.envelope.Helo != "" {
		client += " (" + printable(e.envelope.Helo) + ")"
	}
	line := "  " + client
	if e.envelope.From != nil {
		line += fmt.Sprintf(", from <%s>", printable(e.envelope.From.String()))
	}
	var to []string
	for _, r := range e.envelope.Rcpts {
		to = append(to, "<"+printable(r.To.String())+">")
	}
	if len(to) > 0 {
		line += ", to " + strings.Join(to, ", ")
	}
	fmt.Fprintln(p.w, line)
	if e.subject != "" {
		fmt.Fprintf(p.w, "  subject %s\n", quoted(e.subject))
	}
	fmt.Fprintf(p.w, "  spf=%s dkim=%s dmarc=%s arc=%s iprev=%s\n",
		orNone(e.Auth.SPF), orNone(e.Auth.DKIM), orNone(e.Auth.DMARC), orNone(e.Auth.ARC), orNone(e.Auth.Iprev))
}

func (p *explainPrinter) finding(f filters.Finding) {
	weight := f.Score.String()
	line := fmt.Sprintf("%s%8s  %s%s", p.marks.strong, weight, f.Symbol, p.marks.off)
	if f.Force != filters.NoAction {
		line += ", asks for " + f.Force.String()
	}
	if f.Pos.File != "" {
		line += fmt.Sprintf("  %s%s:%d%s", p.marks.dim, f.Pos.File, f.Pos.Line, p.marks.off)
	}
	fmt.Fprintln(p.w, line)
	r, isRule := p.e.explained[f.Symbol]
	if !isRule {
		if f.Detail != "" {
			fmt.Fprintf(p.w, "%10s%s\n", "", escaped(f.Detail))
		}
		return
	}
	p.rule(r, scoreOrigin(f, r), nil)
}

// scoreOrigin tells where the score of a finding stands, if not in its rule.
func scoreOrigin(f filters.Finding, r rules.Explained) string {
	switch at := place(f.ScorePos); {
	case int32(f.Score) == r.Score && r.Score != r.Rule.Score:
		return fmt.Sprintf("the score is that of a list entry, %s; the rule's own is %s", at, rules.FormatScore(r.Rule.Score))
	case f.ScorePos != r.Rule.ScorePos:
		return fmt.Sprintf("the score is that for the recipient's domain, %s; for other mail it is %s", at, rules.FormatScore(r.Score))
	case r.Rule.ScoreOverridden:
		return "the score is overridden at " + at
	}
	return ""
}

// rule writes a rule's description, what there is to say of its score, and what its conditions saw.
func (p *explainPrinter) rule(r rules.Explained, score string, blamed map[*rules.Step]rules.Truth) {
	if r.Rule.Description != "" {
		fmt.Fprintf(p.w, "%10s%s\n", "", r.Rule.Description)
	}
	if score != "" {
		fmt.Fprintf(p.w, "%10s%s\n", "", score)
	}
	if r.When == nil {
		fmt.Fprintf(p.w, "%10sthe rule is off\n", "")
		return
	}
	t := &treeWriter{w: p.w, file: r.Rule.Pos.File, indent: "     ", marks: p.marks, blamed: blamed}
	t.write(r.When, 0)
}

// others writes rules that made no finding.
func (p *explainPrinter) others(title string, list []rules.Explained, wanted rules.Truth) {
	for i, r := range list {
		if i == 0 {
			fmt.Fprintf(p.w, "\n%s:\n", title)
		}
		fmt.Fprintf(p.w, "%8s  %s%s%s  %s%s:%d%s\n", "("+rules.FormatScore(r.Score)+")", p.marks.strong, r.Rule.ID, p.marks.off,
			p.marks.dim, r.Rule.Pos.File, r.Rule.Pos.Line, p.marks.off)
		blamed := map[*rules.Step]rules.Truth{}
		blame(r.When, wanted, blamed)
		p.rule(r, "", blamed)
	}
}

// shadow tells what the rules in shadow mode would have changed.
func (p *explainPrinter) shadow() {
	for i, s := range p.e.shadows {
		if i == 0 {
			fmt.Fprintln(p.w, "\nRules in shadow mode, which do not count:")
		}
		change := fmt.Sprintf("the sum would be %s: %s", s.Verdict.Score, changed(p.e.verdict, s.Verdict))
		if s.Rule == "" {
			fmt.Fprintf(p.w, "%8s  all together: %s\n", "", change)
			continue
		}
		p.finding(s.Finding)
		fmt.Fprintf(p.w, "%10s%s\n", "", change)
	}
}

// changed says what another verdict would have been.
func changed(was, would filters.Verdict) string {
	if was.Action == would.Action {
		return "still " + would.Action.String()
	}
	return fmt.Sprintf("%s in place of %s", would.Action, was.Action)
}

// past words what was done.
var past = map[filters.Action]string{
	filters.Accept: "Accepted", filters.Tag: "Tagged", filters.Quarantine: "Quarantined", filters.Defer: "Deferred", filters.Reject: "Rejected",
}

// decision says what was decided and what decided it.
func decision(v filters.Verdict, t filters.Thresholds) string {
	done := past[v.Action]
	symbol, exception, _ := strings.Cut(v.By, ",")
	why := "because of " + symbol + ", whatever the sum"
	if symbol == "score" {
		why = "as " + comparison(v, t)
	}
	if exception != "" {
		why += "; made milder by the exception for " + exception
	}
	return fmt.Sprintf("%s, %s.", done, why)
}

// comparison sets the sum beside the thresholds.
func comparison(v filters.Verdict, t filters.Thresholds) string {
	levels := []struct {
		name string
		at   filters.Score
	}{{name: "tag", at: t.Tag}, {name: "quarantine", at: t.Quarantine}, {name: "reject", at: t.Reject}}
	reached, next := "", ""
	for _, l := range levels {
		switch {
		case l.at == 0:
		case v.Score >= l.at:
			reached = fmt.Sprintf("%s reaches %s (%s)", v.Score, l.at, l.name)
		case next == "":
			next = fmt.Sprintf("below %s (%s)", l.at, l.name)
		}
	}
	switch {
	case reached != "" && next != "":
		return reached + " and is " + next
	case reached != "":
		return reached
	}
	return fmt.Sprintf("%s is %s", v.Score, cmp.Or(next, "under no threshold"))
}
