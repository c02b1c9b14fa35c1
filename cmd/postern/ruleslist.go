package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"postern/rules"
)

var rulesListCommand = &command{
	name:    "rules list",
	args:    "[-config FILE] [-no-packs] [-json] [FILE...]",
	summary: "list the rules: score and mode in force, tests, where they stand",
	help: `
Lists the rules of the configured packs and files, in their order: the score or action that is in force, the mode, how many tests
each has, and where it is defined. Scores and modes that the configuration overrides are marked with *. With FILE, a rule file
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
			list = append(list, newRuleJSON(r))
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

	scoreElsewhere, modeElsewhere bool
}

func newRuleJSON(r *rules.Rule) ruleJSON {
	mode := r.ModePos
	if mode == r.Pos {
		mode = rules.Pos{} // the default
	}
	return ruleJSON{
		Rule: r.ID, File: r.Pos.File, Line: r.Pos.Line, Score: points(r.Score), ScoreFrom: place(r.ScorePos), Action: r.Action,
		Mode: r.Mode.String(), ModeFrom: place(mode), Tests: len(r.Tests), Description: r.Description,
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
		weight := r.Score.String() + star(r.scoreElsewhere)
		switch {
		case r.Action != "" && r.Score != 0:
			weight += " " + r.Action
		case r.Action != "":
			weight = r.Action
		}
		fmt.Fprintf(table, "%s\t%s\t%s%s\t%d\t%s:%d\t%s\n", r.Rule, weight, r.Mode, star(r.modeElsewhere), r.Tests, r.File, r.Line, brief(r.Description))
	}
	return table.Flush()
}

func star(overridden bool) string {
	if overridden {
		return "*"
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
