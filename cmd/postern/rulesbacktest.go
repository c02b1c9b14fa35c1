package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy"
)

var rulesBacktestCommand = &command{
	name:    "rules backtest",
	args:    "[-before PATH] [-after PATH] [-ham PATH] [-spam PATH] [-allow-fp N] [-config FILE] [-no-packs] [-dns] [-authserv-id NAME] [-json]",
	summary: "compare two sets of rules on stored mail: which verdicts change, and by which rules",
	help: `
Judges the same stored mail by two sets of rules. PATH of -before and -after is a rule file or a folder of them, which stand in
for the rule files of the configuration, its packs, checks and thresholds staying as they are; or it is a configuration of
its own. One that is not given is the configuration in force.

Prints how many messages each set accepts, tags, quarantines and refuses at the configured thresholds, and every message
whose verdict changes with the rules that changed it. A new false positive is ham that is treated more severely than before.

No network is used. What this host recorded of SPF, DKIM, ARC and DMARC in Authentication-Results when a message came in counts
(-authserv-id names another host); else conditions on these, and on DNS lists, are unknown, and their scores are missing on both
sides. With -dns they are asked, of the DNS of today.

Exits 0 when there are no more new false positives than -allow-fp says, 1 when there are more, or when a message could not
be read.

  postern rules backtest -after rules.new/ -ham ~/Maildir -spam ~/Maildir/.Junk
  postern rules backtest -before old.yaml -after new.yaml -ham ham.mbox -spam spam.mbox -allow-fp 2`,
	run: runRulesBacktest,
}

type backtestFlags struct {
	ruleFlags
	corpusFlags
	before, after string
	allow         int
	json          bool
}

func runRulesBacktest(ctx context.Context, c *call) int {
	var f backtestFlags
	f.ruleFlags.register(c)
	f.corpusFlags.register(c)
	c.flags.StringVar(&f.before, "before", "", "the rules as they were: rule files or a configuration at `PATH` (default the configuration in force)")
	c.flags.StringVar(&f.after, "after", "", "the rules as they are to be, at `PATH` (default the configuration in force)")
	c.flags.IntVar(&f.allow, "allow-fp", 0, "take up to `N` new false positives (default none)")
	c.flags.BoolVar(&f.json, "json", false, "print one object of JSON")
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	switch {
	case f.before == "" && f.after == "":
		return c.misuse("nothing to compare, expected -before PATH or -after PATH")
	case !f.given():
		return c.misuse("no mail to judge, expected -ham PATH or -spam PATH")
	case f.allow < 0:
		return c.misuse("-allow-fp %d, expected 0 or more", f.allow)
	}
	t := &backtest{bad: unjudged{c: c}}
	for i, path := range []string{f.before, f.after} {
		rt, err := f.side(ctx, c, path)
		if err != nil {
			return c.explain(err)
		}
		defer rt.Close()
		t.runtimes[i] = rt
	}
	defer f.tell(c)()
	t.report.describe(&f, t.runtimes)
	failed := t.run(ctx, &f.corpusFlags, newProgress(c.stderr))
	for _, err := range failed {
		fmt.Fprintf(c.stderr, "postern rules backtest: %v\n", err)
	}
	t.report.finish(f.allow)
	if err := t.report.print(c.stdout, f.json); err != nil {
		return c.fail(err)
	}
	if len(failed) > 0 || t.bad.n > 0 || t.report.NewFalsePositives > f.allow {
		return exitBad
	}
	return exitFine
}

// side builds one of the two sets of rules.
func (f *backtestFlags) side(ctx context.Context, c *call, path string) (*proxy.Runtime, error) {
	cfg, err := f.sideConfig(path)
	if err != nil {
		return nil, err
	}
	return c.build(ctx, cfg, f.options(cfg))
}

func (f *backtestFlags) sideConfig(path string) (*proxy.Config, error) {
	config := f.config
	var files []string
	if src, err := os.ReadFile(path); err == nil && proxy.IsConfig(src) {
		config = path
	} else if path != "" {
		if files, err = ruleFiles([]string{path}); err != nil {
			return nil, err
		}
	}
	cfg, err := loadConfig(config)
	if err != nil {
		return nil, err
	}
	return f.choose(cfg, files), nil
}

// A backtest judges each message by both sets of rules.
type backtest struct {
	runtimes [2]*proxy.Runtime
	report   backtestReport
	bad      unjudged
}

// A pair is a message's verdicts before and after.
type pair [2]filters.Verdict

func (t *backtest) run(ctx context.Context, f *corpusFlags, p *progress) []error {
	defer p.end()
	var failed []error
	for _, k := range classes {
		take := func(path string, verdicts pair) {
			t.report.add(k, path, verdicts)
			p.step()
		}
		failed = append(failed, judgeCorpus(ctx, f, k, func(msg *message.Message) pair { return t.judge(ctx, msg) }, take, &t.bad)...)
	}
	if err := ctx.Err(); err != nil && len(failed) == 0 {
		failed = append(failed, errors.New("interrupted"))
	}
	return failed
}

func (t *backtest) judge(ctx context.Context, msg *message.Message) pair {
	var verdicts pair
	for i, rt := range t.runtimes {
		x := rt.Examine(ctx, msg, proxy.Envelope{})
		verdicts[i] = x.Verdict
		x.Close()
	}
	return verdicts
}

// A backtestReport is what -json prints.
type backtestReport struct {
	Before            sideReport `json:"before"`
	After             sideReport `json:"after"`
	NewFalsePositives int        `json:"new_false_positives"`
	Allowed           int        `json:"allowed"`
	Flips             []flip     `json:"flips"`
}

// A sideReport is what one set of rules did.
type sideReport struct {
	Rules      string          `json:"rules"` // where they come from
	Count      int             `json:"count"`
	Tag        json.Number     `json:"tag"`
	Quarantine json.Number     `json:"quarantine"`
	Reject     json.Number     `json:"reject"`
	Ham        map[string]int  `json:"ham"` // messages by action
	Spam       map[string]int  `json:"spam"`
	counts     map[class][]int // by action
	limits     filters.Thresholds
}

// A flip is a message whose verdict changed.
type flip struct {
	Path   string   `json:"path"`
	Class  class    `json:"class"`
	Before side     `json:"before"`
	After  side     `json:"after"`
	Worse  bool     `json:"worse"` // ham treated more severely, or spam less
	Rules  []change `json:"rules"`
	from   filters.Action
	to     filters.Action
}

type side struct {
	Action string      `json:"action"`
	Score  json.Number `json:"score"`
	By     string      `json:"by"`
}

// A change is a finding that one side has and the other has not, or has with another weight.
type change struct {
	Symbol string      `json:"symbol"`
	What   string      `json:"what"` // new, gone, changed
	Before json.Number `json:"before"`
	After  json.Number `json:"after"`
	File   string      `json:"file"`
	Line   int         `json:"line"`
	Action string      `json:"action,omitempty"` // that the finding asks for whatever the score
	weight filters.Score
}

func (r *backtestReport) describe(f *backtestFlags, runtimes [2]*proxy.Runtime) {
	r.Flips = []flip{}
	for i, s := range []*sideReport{&r.Before, &r.After} {
		rt := runtimes[i]
		s.Rules = cmp.Or([]string{f.before, f.after}[i], rt.Config.File, "embedded configuration")
		if rt.Rules != nil {
			s.Count = len(rt.Rules.Rules())
		}
		s.limits = rt.Thresholds()
		s.Tag, s.Quarantine, s.Reject = number(s.limits.Tag), number(s.limits.Quarantine), number(s.limits.Reject)
		s.counts = map[class][]int{ham: make([]int, filters.Reject+1), spam: make([]int, filters.Reject+1)}
	}
}

func number(s filters.Score) json.Number { return json.Number(s.String()) }

func (r *backtestReport) add(k class, path string, v pair) {
	r.Before.counts[k][v[0].Action]++
	r.After.counts[k][v[1].Action]++
	if v[0].Action == v[1].Action {
		return
	}
	severer := v[1].Action > v[0].Action
	if k == ham && severer {
		r.NewFalsePositives++
	}
	r.Flips = append(r.Flips, flip{
		Path: path, Class: k, Before: newSide(v[0]), After: newSide(v[1]),
		Worse: severer == (k == ham), Rules: changes(v[0].Findings, v[1].Findings), from: v[0].Action, to: v[1].Action,
	})
}

func newSide(v filters.Verdict) side {
	return side{Action: v.Action.String(), Score: number(v.Score), By: v.By}
}

// changes compares findings, the weightiest difference first.
func changes(before, after []filters.Finding) []change {
	type weight struct {
		found bool
		score filters.Score
		force filters.Action
		at    filters.Finding
	}
	sums := map[string]*[2]weight{}
	var order []string
	for i, findings := range [][]filters.Finding{before, after} {
		for _, f := range findings {
			if f.Shadow {
				continue
			}
			if sums[f.Symbol] == nil {
				sums[f.Symbol] = &[2]weight{}
				order = append(order, f.Symbol)
			}
			w := &sums[f.Symbol][i]
			w.found, w.score, w.force, w.at = true, w.score+f.Score, max(w.force, f.Force), f
		}
	}
	list := []change{}
	for _, symbol := range order {
		b, a := sums[symbol][0], sums[symbol][1]
		c := change{Symbol: symbol, Before: number(b.score), After: number(a.score), weight: a.score - b.score}
		at, force := a.at, a.force
		switch {
		case b == a || b.found && a.found && b.score == a.score && b.force == a.force:
			continue
		case !b.found:
			c.What = "new"
		case !a.found:
			c.What = "gone"
			at, force = b.at, b.force
		default:
			c.What = "changed"
		}
		c.File, c.Line = at.Pos.File, at.Pos.Line
		if force != filters.NoAction {
			c.Action = force.String()
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b change) int { return cmp.Compare(max(b.weight, -b.weight), max(a.weight, -a.weight)) })
	return list
}

// finish puts what got worse first, ham before spam, and fills what is derived.
func (r *backtestReport) finish(allowed int) {
	r.Allowed = allowed
	slices.SortStableFunc(r.Flips, func(a, b flip) int { return cmp.Compare(a.rank(), b.rank()) })
	for _, s := range []*sideReport{&r.Before, &r.After} {
		s.Ham, s.Spam = map[string]int{}, map[string]int{}
		for a := filters.Accept; a <= filters.Reject; a++ {
			s.Ham[a.String()], s.Spam[a.String()] = s.counts[ham][a], s.counts[spam][a]
		}
	}
}

func (f *flip) rank() int {
	switch {
	case f.Worse && f.Class == ham:
		return 0
	case f.Worse:
		return 1
	case f.Class == spam:
		return 2
	}
	return 3
}
