package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"postern/filters"
	"postern/rules"
)

var rulesListCommand = &command{
	name:    "rules list",
	args:    "[-config FILE] [-no-packs] [-json] [FILE...]",
	summary: "list the rules: score and mode in force, tests, where they stand",
	help: `
Lists the rules of the configured packs and files, in their order: the score or action that is in force, the mode, how many tests
each has, and where it is defined. Scores and modes that the configuration overrides are marked with *, and what it has otherwise
for some recipient domain with +; postern rules doc tells more. With FILE, a rule file
or a folder of them, these stand in for the configured rule files, and only their rules are listed.

  postern rules list
  postern rules list -json rules/`,
	run: runRulesList,
}

func runRulesList(ctx context.Context, c *call) int {
	var f ruleFlags
	f.register(c)
	asJSON := c.flags.Bool("json", false, "print one array of JSON")
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	rt, err := f.open(ctx, c, paths, untested)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	list := []ruleJSON{}
	for _, r := range rt.Rules.Rules() {
		if rt.asked(r) {
			list = append(list, rt.newRuleJSON(r))
		}
	}
	if *asJSON {
		err = encodeJSON(c.stdout, list)
	} else {
		err = printRules(c.stdout, list)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitFine
}

func encodeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// A ruleJSON is a rule as -json prints it.
type ruleJSON struct {
	Rule        string `json:"rule"`
	File        string `json:"file"`
	Line        int    `json:"line"`
	Score       points `json:"score"`
	ScoreFrom   string `json:"score_from,omitempty"` // file:line
	Action      string `json:"action,omitempty"`
	Mode        string `json:"mode"`
	ModeFrom    string `json:"mode_from,omitempty"` // file:line; none for the default
	Tests       int    `json:"tests"`
	Description string `json:"description"`

	Domains []domainRuleJSON `json:"domains,omitempty"` // that have it with another score or mode

	scoreElsewhere, modeElsewhere bool
}

// A domainRuleJSON is what the configuration says of a rule for the mail to one domain.
type domainRuleJSON struct {
	Domain string  `json:"domain"`
	Score  *points `json:"score,omitempty"` // none: as for all mail
	Mode   string  `json:"mode,omitempty"`  // likewise
	From   string  `json:"from"`            // file:line
}

func (d domainRuleJSON) String() string {
	var parts []string
	if d.Score != nil {
		parts = append(parts, "score "+d.Score.String())
	}
	if d.Mode != "" {
		parts = append(parts, "mode "+d.Mode)
	}
	return fmt.Sprintf("%s: %s, %s", d.Domain, strings.Join(parts, ", "), d.From)
}

// domains tells which recipient domains have the rule otherwise.
func (s *ruleSet) domains(r *rules.Rule) []domainRuleJSON {
	var list []domainRuleJSON
	for _, domain := range slices.Sorted(maps.Keys(s.Config.Policies)) {
		o, ok := s.Config.Policies[domain].Rules[r.ID]
		if !ok {
			continue
		}
		d := domainRuleJSON{Domain: domain, From: place(o.Pos)}
		if o.Score != nil {
			score := points(filters.Points(*o.Score))
			d.Score = &score
		}
		if o.Mode != nil {
			d.Mode = rules.Mode(*o.Mode).String()
		}
		list = append(list, d)
	}
	return list
}

func (s *ruleSet) newRuleJSON(r *rules.Rule) ruleJSON {
	mode := r.ModePos
	if mode == r.Pos {
		mode = rules.Pos{} // the default
	}
	return ruleJSON{
		Rule: r.ID, File: r.Pos.File, Line: r.Pos.Line, Score: points(r.Score), ScoreFrom: place(r.ScorePos), Action: r.Action,
		Mode: r.Mode.String(), ModeFrom: place(mode), Tests: len(r.Tests), Description: r.Description, Domains: s.domains(r),
		scoreElsewhere: r.ScoreOverridden, modeElsewhere: !r.ModePos.IsZero() && r.ModePos.File != r.Pos.File,
	}
}

// place is where something stands, as file:line; "" for nowhere.
func place(p rules.Pos) string {
	if p.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

func printRules(w io.Writer, list []ruleJSON) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tSCORE\tMODE\tTESTS\tWHERE\tDESCRIPTION")
	for i := range list {
		r := &list[i]
		scored := func(d domainRuleJSON) bool { return d.Score != nil }
		moded := func(d domainRuleJSON) bool { return d.Mode != "" }
		weight := r.Score.String() + mark(r.scoreElsewhere, "*") + mark(slices.ContainsFunc(r.Domains, scored), "+")
		switch {
		case r.Action != "" && r.Score != 0:
			weight += " " + r.Action
		case r.Action != "":
			weight = r.Action
		}
		mode := r.Mode + mark(r.modeElsewhere, "*") + mark(slices.ContainsFunc(r.Domains, moded), "+")
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s:%d\t%s\n", r.Rule, weight, mode, r.Tests, r.File, r.Line, brief(r.Description))
	}
	return table.Flush()
}

// mark is a sign behind a value that has one.
func mark(marked bool, sign string) string {
	if marked {
		return sign
	}
	return ""
}

// maxBrief bounds a description in a table, in characters.
const maxBrief = 70

// brief is the beginning of a description.
func brief(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxBrief {
		return string(r[:maxBrief-1]) + "…"
	}
	return s
}
