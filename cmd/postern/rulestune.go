package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"postern/filters"
	"postern/filters/message"
	"postern/filters/model"
	"postern/proxy"
	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
	"postern/rules/tune"
)

var rulesTuneCommand = &command{
	name:    "rules tune",
	args:    "[-ham PATH] [-spam PATH] [-max-fp PERCENT] [-reach POINTS] [-times N] [-keep LIST] [-by-folder] [-parts N] [-seed N] [-write] [-config FILE] [-no-packs] [-dns] [-authserv-id NAME] [FILE...]",
	summary: "propose scores from stored mail, as a patch of the rule files",
	help: `
Looks for the scores with which the rules best tell stored spam from stored ham at the tag threshold, while no more ham than
-max-fp reaches it; ham is to stay a point below it, and spam to come a little above, since mail to come is never quite like
mail that was. A score keeps its sign, moves at most -reach points and within -times, and stays below the threshold, so that no
rule tags alone. Scores of rules that hit little hardly move. Rules in shadow mode, without a score, with an action, with a score
that the configuration overrides, or named by -keep stay as they are: keep those that know how the mail was gathered rather than
what it is.

The mail is divided into parts by -seed, and each part is judged by the scores that the others propose: what is printed as held
out is how the proposal does on mail that it was not made from. The same mail and seed propose the same. With -by-folder each
folder below the given ones is judged, too, by what all others propose: how the scores do on kinds of mail that they never met.

The proposal is printed as a unified diff of the rule files, in which nothing but scores changes; -write applies it. Scores of
packs, which are part of the program, are printed as what to put under filters.content.overrides. The figures, the reason for
each change and the ham that would be tagged anew go to the standard error output.

With FILE, a rule file or a folder of them, these stand in for the configured rule files, and only their rules are tuned. No
network is used, as in rules backtest. Exits 1 when more ham than allowed would be tagged, which -write then does not
write, or when a message could not be read.

  postern rules tune -ham ~/Maildir -spam ~/Maildir/.Junk > scores.patch
  postern rules tune -ham ham.mbox -spam spam.mbox -max-fp 0.05 -write rules/`,
	run: runRulesTune,
}

type tuneFlags struct {
	ruleFlags
	corpusFlags
	maxFP, reach float64
	times        float64
	byFolder     bool
	keep         string
	parts        int
	seed         uint64
	write        bool
}

func runRulesTune(ctx context.Context, c *call) int {
	var f tuneFlags
	f.ruleFlags.register(c)
	f.corpusFlags.register(c)
	c.flags.Float64Var(&f.maxFP, "max-fp", 0.1, "let at most this `PERCENT` of the ham reach the tag threshold")
	c.flags.Float64Var(&f.reach, "reach", 2, "move no score by more than `POINTS`")
	c.flags.Float64Var(&f.times, "times", 1.6, "let no score become more than `N` times what it is, or less than one part in N; 0 for no such bound")
	c.flags.StringVar(&f.keep, "keep", "", "leave the scores of these rules, a `LIST` with commas, as they are")
	c.flags.BoolVar(&f.byFolder, "by-folder", false, "say also how the messages of each folder are judged by what the other folders propose")
	c.flags.IntVar(&f.parts, "parts", 5, "cross-validate in `N` parts")
	c.flags.Uint64Var(&f.seed, "seed", 1, "the number `N` by which mail is divided")
	c.flags.BoolVar(&f.write, "write", false, "write the scores into the rule files")
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	switch {
	case len(f.paths[ham]) == 0 || len(f.paths[spam]) == 0:
		return c.misuse("expected -ham PATH and -spam PATH")
	case f.maxFP < 0 || f.maxFP > 100:
		return c.misuse("-max-fp %g, expected a percentage", f.maxFP)
	case f.reach <= 0:
		return c.misuse("-reach %g, expected more than 0 points", f.reach)
	case f.times != 0 && f.times <= 1:
		return c.misuse("-times %g, expected more than 1, or 0", f.times)
	case f.parts < 2 || f.parts > maxParts:
		return c.misuse("-parts %d, expected 2 to %d", f.parts, maxParts)
	}
	rt, err := f.open(ctx, c, paths, f.options)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	t, err := newTuner(rt, &f, unjudged{c: c})
	if err != nil {
		return c.fail(err)
	}
	if len(t.rules) == 0 {
		return c.fail(errors.New("no rule has a score that may change"))
	}
	defer f.tell(c)()
	return t.run(ctx, c, &f)
}

const (
	maxParts = 100
	below    = 0.5 // of a point: how far every score stays below the tag threshold
)

// A tuner gathers what rules hit and has scores proposed.
type tuner struct {
	rt     *ruleSet
	rules  []*rules.Rule // those whose scores may change
	byID   map[string]int
	limits filters.Thresholds
	opt    tune.Options
	mail   []tune.Mail
	paths  []string
	in     []string // the folder that a message was met in
	bad    unjudged
}

func newTuner(rt *ruleSet, f *tuneFlags, bad unjudged) (*tuner, error) {
	t := &tuner{rt: rt, byID: map[string]int{}, limits: rt.Thresholds(), bad: bad}
	var ids []string
	kept := list(f.keep)
	for _, r := range rt.Rules.Rules() {
		ids = append(ids, r.ID)
		if slices.Contains(kept, r.ID) {
			continue
		}
		if rt.asked(r) && r.Mode == rules.Enforce && r.Score != 0 && r.Action == "" && !r.Malware && !r.ScoreOverridden {
			t.byID[r.ID] = len(t.rules)
			t.rules = append(t.rules, r)
		}
	}
	for _, id := range kept {
		if !slices.Contains(ids, id) {
			return nil, fmt.Errorf("-keep: %s", strict.Unknown("rule", id, ids))
		}
	}
	tag := float64(t.limits.Tag) / 100
	t.opt = tune.Options{Tag: tag, Ham: f.maxFP / 100, Reach: f.reach, Times: f.times, Most: max(tag-below, tag/2)}
	return t, nil
}

func (t *tuner) run(ctx context.Context, c *call, f *tuneFlags) int {
	failed := t.gather(ctx, f, newProgress(c.stderr))
	for _, err := range failed {
		fmt.Fprintf(c.stderr, "postern rules tune: %v\n", err)
	}
	if len(failed) > 0 {
		return exitBad
	}
	bar := newProgress(c.stderr)
	bar.noun = "parts fitted"
	tuned := make([]tune.Rule, len(t.rules))
	for i, r := range t.rules {
		tuned[i] = tune.Rule{ID: r.ID, Score: float64(r.Score) / 100}
	}
	p, err := tune.Propose(ctx, tuned, t.mail, t.opt, bar.step)
	var alone []float64
	if err == nil && f.byFolder {
		alone, err = t.leaveOut(ctx, tuned, p.Weight, bar.step)
	}
	bar.end()
	if err != nil {
		return c.fail(err)
	}
	r := t.report(&p)
	if f.byFolder {
		r.folders = t.byFolder(p.Before, alone)
	}
	r.print(c.stderr)
	if code := t.put(c.stdout, c, f.write && p.Met, r.changes); code != exitFine {
		return code
	}
	if !p.Met {
		fmt.Fprintf(c.stderr, "FAIL: more than %g %% of the ham would be tagged, whatever ham weighs\n", f.maxFP)
		return exitBad
	}
	if t.bad.n > 0 {
		return exitBad
	}
	return exitFine
}

// leaveOut gives each message's points with what all folders but its own propose.
func (t *tuner) leaveOut(ctx context.Context, tuned []tune.Rule, weight float64, progress func()) ([]float64, error) {
	names := slices.Compact(slices.Sorted(slices.Values(t.in)))
	parts := make([]int, len(t.in))
	for j, folder := range t.in {
		parts[j], _ = slices.BinarySearch(names, folder)
	}
	return tune.HeldOut(ctx, tuned, t.mail, parts, t.opt, weight, progress)
}

// gather judges the mail.
func (t *tuner) gather(ctx context.Context, f *tuneFlags, p *progress) []error {
	defer p.end()
	var failed []error
	for _, k := range classes {
		take := func(path string, m tune.Mail) {
			m.Spam = k == spam
			folder := folderOf(path, f.paths[k])
			t.mail, t.paths, t.in = append(t.mail, m), append(t.paths, path), append(t.in, folder)
			p.step()
		}
		judge := func(msg *message.Message) tune.Mail { return t.judge(ctx, msg, f) }
		failed = append(failed, judgeCorpus(ctx, &f.corpusFlags, k, judge, take, &t.bad)...)
	}
	if ctx.Err() != nil && len(failed) == 0 {
		failed = append(failed, errors.New("interrupted"))
	}
	return failed
}

func (t *tuner) judge(ctx context.Context, msg *message.Message, f *tuneFlags) tune.Mail {
	x := t.rt.Examine(ctx, msg, proxy.Envelope{})
	defer x.Close()
	var m tune.Mail
	var rest []filters.Finding
	for _, finding := range x.Verdict.Findings {
		i, known := t.byID[finding.Symbol]
		// A score that a list entry gave stays.
		if known && !finding.Shadow && int32(finding.Score) == t.rules[i].Score && !slices.Contains(m.Hits, i) {
			m.Hits = append(m.Hits, i)
			continue
		}
		rest = append(rest, finding)
	}
	m.Base = worth(rest, t.limits)
	m.Part = part(msg, f.seed, f.parts)
	return m
}

// part divides mail by what its authors wrote, so that copies of a message come into one part.
func part(msg *message.Message, seed uint64, parts int) int {
	h := fnv.New64a()
	h.Write(strconv.AppendUint(nil, seed, 10))
	if id, err := model.IDOf(msg); err == nil {
		h.Write(id[:])
	}
	return int(h.Sum64() >> 8 % uint64(parts))
}

// put prints the proposal as a diff, and writes it into the files if it is to.
func (t *tuner) put(w io.Writer, c *call, write bool, changes []scoreChange) int {
	var files []string
	byFile := map[string][]tune.Change{}
	var shipped []scoreChange
	for _, ch := range changes {
		file := ch.rule.ScorePos.File
		if packs.Shipped(file) {
			shipped = append(shipped, ch)
			continue
		}
		if byFile[file] == nil {
			files = append(files, file)
		}
		byFile[file] = append(byFile[file], tune.Change{Rule: ch.rule, Points: ch.to})
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return c.fail(err)
		}
		edited, err := tune.Edit(file, src, byFile[file])
		if err != nil {
			return c.fail(err)
		}
		fmt.Fprint(w, tune.Diff(file, src, edited))
		if write {
			if err := replaceText(file, edited); err != nil {
				return c.fail(fmt.Errorf("write %s: %w", file, err))
			}
		}
	}
	if len(shipped) > 0 {
		fmt.Fprintf(w, "# For the configuration, under filters.content:\noverrides:\n")
		for _, ch := range shipped {
			fmt.Fprintf(w, "  %s: {score: %s}\n", ch.rule.ID, points(ch.hundredths()))
		}
	}
	return exitFine
}

// replaceText puts a new version of a file in its place, with the rights of the old one.
func replaceText(path string, text []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tune-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
