package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"postern/cmd/postern/samples"
	"postern/filters"
	"postern/filters/message"
	"postern/proxy"
	"postern/rules"
	"postern/rules/strict"
)

var rulesDocCommand = &command{
	name:    "rules doc",
	args:    "RULE [-config FILE] [-no-packs] [-json]",
	summary: "tell all about one rule: what it asks for, where its score comes from, its cost, its tests",
	help: `
Tells what a rule is: its description, where it is defined, the score and the mode in force and where these come from, also for the
mail to single domains, what of a message it asks for, the lists that it reads, the checks and rules whose findings it needs, and which rules need it; what it
costs, measured on the sample messages that ship with Postern; and whether its tests pass.

Exits 1 when a test of the rule fails, 2 when there is no such rule.

  postern rules doc FREEMAIL_REPLYTO`,
	run: runRulesDoc,
}

func runRulesDoc(ctx context.Context, c *call) int {
	var f ruleFlags
	f.register(c)
	asJSON := c.flags.Bool("json", false, "print one object of JSON")
	ids, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	if len(ids) != 1 {
		return c.misuse("expected one RULE")
	}
	rt, err := f.open(ctx, c, nil, untested)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	d, ok := rt.Rules.Describe(ids[0])
	if !ok {
		return c.misuse("%s", noSuchRule(rt.Rules, ids[0]))
	}
	doc := newRuleDoc(ctx, rt, d)
	if err := doc.measure(ctx, rt.Runtime); err != nil {
		return c.fail(err)
	}
	if *asJSON {
		err = encodeJSON(c.stdout, doc)
	} else {
		doc.print(c.stdout)
	}
	if err != nil {
		return c.fail(err)
	}
	if doc.Failed > 0 {
		return exitBad
	}
	return exitFine
}

// noSuchRule names a near rule, where there is one; all of them would be too many.
func noSuchRule(set *rules.Set, id string) string {
	var known []string
	for _, r := range set.Rules() {
		known = append(known, r.ID)
	}
	if near := strict.Suggest(id, known); near != "" {
		return fmt.Sprintf("unknown rule %q, did you mean %q?", id, near)
	}
	return fmt.Sprintf("unknown rule %q: postern rules list names them", id)
}

// A ruleDoc is all about one rule; its exported part is what -json prints.
type ruleDoc struct {
	ruleJSON
	Reply      string        `json:"reply,omitempty"`
	Refuse     bool          `json:"refuse"`
	Malware    bool          `json:"malware"`
	Asks       []string      `json:"asks"`
	Auth       []string      `json:"auth"`
	Symbols    []string      `json:"symbols"`
	Rules      []string      `json:"rules"`
	UsedBy     []string      `json:"used_by"`
	Lists      []listUseJSON `json:"lists"`
	Named      []string      `json:"conditions"`
	Patterns   int           `json:"patterns"`
	Cost       float64       `json:"us"`       // microseconds a message
	Measured   int           `json:"measured"` // on so many messages
	Failed     int           `json:"failed"`   // tests
	tests      []rules.Outcome
	outline    []rules.Line
	conditions []rules.NameUse
	rule       *rules.Rule
}

type listUseJSON struct {
	List    string `json:"list"`
	Where   string `json:"where"`
	File    string `json:"file,omitempty"`
	Entries int    `json:"entries"`
}

func newRuleDoc(ctx context.Context, set *ruleSet, d rules.Description) *ruleDoc {
	r := d.Rule
	doc := &ruleDoc{
		ruleJSON: set.newRuleJSON(r), Reply: r.Reply, Refuse: r.Refuse, Malware: r.Malware,
		Asks: listOrEmpty(d.Asks), Auth: listOrEmpty(d.Auth), Symbols: listOrEmpty(d.Symbols), Rules: named(d.Rules), UsedBy: named(d.UsedBy),
		Lists: []listUseJSON{}, Named: named(d.Conditions), Patterns: d.Patterns,
		outline: d.Outline, conditions: d.Conditions, rule: r,
	}
	for _, l := range d.Lists {
		doc.Lists = append(doc.Lists, listUseJSON{List: l.Name, Where: place(l.Pos), File: l.Path, Entries: l.Entries})
	}
	tester := filters.NewRuleTester(set.Config.Filters, time.Now())
	for _, test := range set.Rules.Tests() {
		if test.Rule.ID != r.ID {
			continue
		}
		o := set.Rules.RunTest(ctx, test, tester.Build(ctx))
		doc.tests = append(doc.tests, o)
		if !o.Passed {
			doc.Failed++
		}
	}
	return doc
}

func listOrEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func named(uses []rules.NameUse) []string {
	list := []string{}
	for _, u := range uses {
		list = append(list, u.Name)
	}
	return list
}

// measureRounds is how often each sample is asked: one answer is too short for the clock.
const measureRounds = 20

// measure takes the time of the rule on the samples.
func (d *ruleDoc) measure(ctx context.Context, rt *proxy.Runtime) error {
	all, err := samples.All()
	if err != nil {
		return err
	}
	var costs rules.Costs
	for _, s := range all {
		if s.Dialogue() {
			continue
		}
		msg, err := message.Read(bytes.NewReader(s.Data), int64(len(s.Data)))
		if err != nil {
			return fmt.Errorf("sample %s: %w", s.File, err)
		}
		x := rt.Examine(ctx, msg, proxy.Envelope{IP: s.IP, Helo: s.Helo})
		for range measureRounds {
			x.Measure(ctx, &costs)
		}
		x.Close()
		d.Measured++
	}
	d.Cost = microseconds(costs.Own[d.rule], costs.Messages)
	return nil
}

func (d *ruleDoc) print(w io.Writer) {
	fmt.Fprintln(w, d.Rule)
	if d.Description != "" {
		fmt.Fprintf(w, "  %s\n", d.Description)
	}
	fmt.Fprintln(w)
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %-12s %s\n", what, text)
		}
	}
	line("defined", fmt.Sprintf("%s:%d", d.File, d.Line))
	line("score", d.Score.String()+from(d.ScoreFrom, d.scoreElsewhere))
	line("action", d.Action)
	line("reply", d.Reply)
	if d.ModeFrom == "" {
		line("mode", d.Mode+", the default")
	} else {
		line("mode", d.Mode+from(d.ModeFrom, d.modeElsewhere))
	}
	for _, domain := range d.Domains {
		line("for mail to", domain.String())
	}
	if d.Refuse {
		line("refuses", "before DATA")
	}
	if d.Malware {
		line("malware", "yes: it precedes what would accept the message")
	}
	line("asks for", strings.Join(d.Asks, ", "))
	line("needs auth", strings.Join(d.Auth, ", "))
	line("needs", strings.Join(append(append([]string{}, d.Symbols...), d.Rules...), ", "))
	for _, l := range d.Lists {
		text := fmt.Sprintf("%s, %s, %s", l.List, entries(l.Entries), l.Where)
		if l.File != "" {
			text += " in " + l.File
		}
		line("list", text)
	}
	for _, u := range d.conditions {
		line("condition", fmt.Sprintf("%s, %s", u.Name, place(u.Pos)))
	}
	line("needed by", strings.Join(d.UsedBy, ", "))
	if d.Mode == "off" && !d.rule.PerDomain {
		line("cost", "none, as it is off")
	} else {
		line("cost", fmt.Sprintf("%.1f µs a message beside what rules share, on %d samples; %s", d.Cost, d.Measured, plural(d.Patterns, "expression")))
	}
	d.printTests(line)
	fmt.Fprintln(w, "\n  when")
	for _, l := range d.outline {
		fmt.Fprintf(w, "  %5s  %s%s\n", outlinePlace(l.Pos), strings.Repeat("  ", l.Depth), l.What)
	}
}

func (d *ruleDoc) printTests(line func(what, text string)) {
	if len(d.tests) == 0 {
		line("tests", "none")
	}
	for _, o := range d.tests {
		text := fmt.Sprintf("%s, %s: passes", o.Case.Want, place(o.Case.Pos))
		if !o.Passed {
			text = fmt.Sprintf("%s, %s: FAILS with %s", o.Case.Want, place(o.Case.Pos), o.Got)
		}
		line("test", text)
	}
}

func outlinePlace(p rules.Pos) string {
	if p.IsZero() {
		return ""
	}
	return strconv.Itoa(p.Line)
}

// from says where a value stands.
func from(where string, overridden bool) string {
	switch {
	case where == "":
		return ""
	case overridden:
		return ", overridden at " + where
	}
	return ", " + where
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
