package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"postern/filters"
	"postern/rules"
)

var rulesTestCommand = &command{
	name:    "rules test",
	args:    "[-config FILE] [-no-packs] [-run PATTERN] [-v] [-json] [-junit FILE] [FILE...]",
	summary: "run the tests that stand in the rule files",
	help: `
Runs the tests of the configured rule files and packs, the same that postern check runs; a start and a reload
run those of the files only, as packs are part of the program. With FILE, which is a rule
file or a folder of them, these stand in for the configured rule files, and only their tests are run; the packs of the
configuration stay in force beside them, as their lists and symbols may be asked for.

Of a test that fails it prints what was expected and what happened, and the conditions of the rule: the line at which each
stands, whether it was true, false or unknown, and what it saw. Those that decided are marked with what they had to be.

Exits 0 when all tests pass, 1 when one fails or a file is broken, 2 when no rule has a name that PATTERN matches.

  postern rules test
  postern rules test -run 'FREEMAIL|BANK' rules/local.yaml
  postern rules test -junit report.xml rules/`,
	run: runRulesTest,
}

type rulesTestFlags struct {
	ruleFlags
	pattern, junit string
	json, verbose  bool
}

func runRulesTest(ctx context.Context, c *call) int {
	var f rulesTestFlags
	f.register(c)
	c.flags.StringVar(&f.pattern, "run", "", "run the tests only of rules whose id this regular expression, a `PATTERN`, matches")
	c.flags.StringVar(&f.junit, "junit", "", "write a report in JUnit's XML to `FILE`; - for the standard output")
	c.flags.BoolVar(&f.json, "json", false, "print one object of JSON")
	c.flags.BoolVar(&f.verbose, "v", false, "name the tests that pass too")
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	only, err := regexp.Compile(f.pattern)
	switch {
	case err != nil:
		return c.misuse("-run %q is no regular expression: %v", f.pattern, err)
	case f.json && f.junit == "-":
		return c.misuse("-json and -junit - both write to the standard output")
	}
	rt, err := f.open(ctx, c, paths, untested)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	report := &testReport{started: time.Now()}
	if report.add(ctx, rt, only); report.Rules == 0 && f.pattern != "" {
		return c.misuse("-run %q matches the id of no rule", f.pattern)
	}
	if err := report.print(c.stdout, &f); err != nil {
		return c.fail(err)
	}
	if report.Failed > 0 {
		return exitBad
	}
	return exitFine
}

// A testReport is what came of the tests; its exported part is what -json prints.
type testReport struct {
	Rules    int          `json:"rules"`
	Tests    int          `json:"tests"`
	Failed   int          `json:"failed"`
	Untested []string     `json:"untested"` // rules without a test
	Results  []testResult `json:"results"`

	outcomes []rules.Outcome
	took     []time.Duration
	started  time.Time
}

type testResult struct {
	Rule       string    `json:"rule"`
	File       string    `json:"file"`
	Line       int       `json:"line"`
	Expected   string    `json:"expected"` // hit or miss
	Got        string    `json:"got"`      // hit, miss, unknown or error
	Passed     bool      `json:"passed"`
	Why        string    `json:"why,omitempty"`
	Conditions *stepJSON `json:"conditions,omitempty"`
	Unanswered []string  `json:"unanswered,omitempty"` // asked of DNS and not in the test
}

// add runs the tests of the rules that were asked for and whose id only matches.
func (r *testReport) add(ctx context.Context, set *ruleSet, only *regexp.Regexp) {
	r.Untested, r.Results = []string{}, []testResult{}
	asked := func(rule *rules.Rule) bool {
		return only.MatchString(rule.ID) && set.asked(rule)
	}
	for _, rule := range set.Rules.Rules() {
		if !asked(rule) {
			continue
		}
		r.Rules++
		if len(rule.Tests) == 0 {
			r.Untested = append(r.Untested, rule.ID)
		}
	}
	tester := filters.NewRuleTester(set.Config.Filters, r.started)
	for _, test := range set.Rules.Tests() {
		if !asked(test.Rule) {
			continue
		}
		began := time.Now()
		o := set.Rules.RunTest(ctx, test, tester.Build(ctx))
		r.took = append(r.took, time.Since(began))
		r.outcomes = append(r.outcomes, o)
		r.Tests++
		if !o.Passed {
			r.Failed++
		}
		r.Results = append(r.Results, testResult{
			Rule: test.Rule.ID, File: test.Pos.File, Line: test.Pos.Line, Expected: string(test.Want), Got: o.Got,
			Passed: o.Passed, Why: o.Why, Conditions: newStepJSON(o.When), Unanswered: o.Unanswered,
		})
	}
}

func (r *testReport) print(w io.Writer, f *rulesTestFlags) error {
	if f.junit == "-" {
		return r.writeJUnit(w)
	}
	if f.junit != "" {
		file, err := os.Create(f.junit)
		if err != nil {
			return err
		}
		if err := errors.Join(r.writeJUnit(file), file.Close()); err != nil {
			return fmt.Errorf("writing %s: %w", f.junit, err)
		}
	}
	if f.json {
		return encodeJSON(w, r)
	}
	for i := range r.outcomes {
		if o := &r.outcomes[i]; !o.Passed || f.verbose {
			printOutcome(w, o)
		}
	}
	if len(r.Untested) > 0 {
		shown := r.Untested[:min(len(r.Untested), 10)]
		fmt.Fprintf(w, "%d without a test: %s%s\n", len(r.Untested), strings.Join(shown, ", "), ellipsis(len(r.Untested) > len(shown)))
	}
	if r.Failed > 0 {
		fmt.Fprintf(w, "FAIL: %d of %d tests of %d rules failed\n", r.Failed, r.Tests, r.Rules)
		return nil
	}
	fmt.Fprintf(w, "OK: %d tests of %d rules passed\n", r.Tests, r.Rules)
	return nil
}

func ellipsis(more bool) string {
	if more {
		return " …"
	}
	return ""
}

func printOutcome(w io.Writer, o *rules.Outcome) {
	if o.Passed {
		fmt.Fprintf(w, "%s: %s: %s, as expected\n", o.Case.Pos, o.Case.Rule.ID, o.Got)
		return
	}
	if o.When == nil {
		fmt.Fprintf(w, "%s: %s: the test could not be run: %s\n", o.Case.Pos, o.Case.Rule.ID, printable(o.Why))
		return
	}
	fmt.Fprintf(w, "%s: %s: expected %s, got %s\n", o.Case.Pos, o.Case.Rule.ID, o.Case.Want, o.Got)
	writeFailure(w, marksFor(w), o)
}

func writeFailure(w io.Writer, m marks, o *rules.Outcome) {
	want := rules.True
	if o.Case.Want == rules.Miss {
		want = rules.False
	}
	t := &treeWriter{w: w, file: o.Case.Rule.Pos.File, blamed: map[*rules.Step]rules.Truth{}, marks: m}
	blame(o.When, want, t.blamed)
	t.write(o.When, 0)
	if len(o.Unanswered) > 0 {
		fmt.Fprintf(w, "  asked of DNS and not in the test: %s\n", printable(strings.Join(o.Unanswered, ", ")))
	}
}

// The elements of JUnit's reports, as far as build servers read them.
type (
	junitSuites struct {
		XMLName  xml.Name      `xml:"testsuites"`
		Tests    int           `xml:"tests,attr"`
		Failures int           `xml:"failures,attr"`
		Suites   []*junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`

		took time.Duration
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure,omitempty"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes a suite a file and a case a test.
func (r *testReport) writeJUnit(w io.Writer) error {
	all := junitSuites{Tests: r.Tests, Failures: r.Failed}
	suites := map[string]*junitSuite{}
	for i := range r.outcomes {
		o := &r.outcomes[i]
		s := suites[o.Case.Pos.File]
		if s == nil {
			s = &junitSuite{Name: o.Case.Pos.File}
			suites[s.Name] = s
			all.Suites = append(all.Suites, s)
		}
		test := junitCase{
			Class: o.Case.Rule.ID, Name: fmt.Sprintf("%s (line %d)", o.Case.Want, o.Case.Pos.Line),
			File: o.Case.Pos.File, Line: o.Case.Pos.Line, Time: seconds(r.took[i]),
		}
		if !o.Passed {
			var text strings.Builder
			if o.When != nil {
				writeFailure(&text, plainMarks, o)
			}
			test.Failure = &junitFailure{Type: o.Got, Message: fmt.Sprintf("expected %s, got %s: %s", o.Case.Want, o.Got, printable(o.Why)), Text: text.String()}
			s.Failures++
		}
		s.Tests++
		s.took += r.took[i]
		s.Cases = append(s.Cases, test)
	}
	for _, s := range all.Suites {
		s.Time = seconds(s.took)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }
