package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"postern/filters"
	"postern/filters/message"
	"postern/filters/model"
	"postern/filters/model/measure"
	"postern/proxy"
	"postern/rules/strict"
)

var rulesScoreCommand = &command{
	name:    "rules score",
	args:    "[-ham PATH] [-spam PATH] [-dsn PATH] [-model FILE] [-learn HOW] [-json] [-config FILE] [-no-packs] [-dns] [-authserv-id NAME] [FILE...]",
	summary: "tell how well rules and classifier know spam from ham in stored mail",
	help: `
Judges stored mail and prints how much of the spam and of the ham reaches each threshold of the policy, how much spam can be
caught with at most 0.1 % and 1 % of the ham, each with its 95 % interval (Wilson), and the area under the ROC curve; then the
same by folder. A PATH's folders are those directly in it: of -ham mail/ham they are mail/ham/lists, mail/ham/shops and so on.
Mail of -dsn, bounces and other reports, is neither ham nor spam; it is told how much of it is flagged.

All this for the rules alone (with all other checks that need no learning), and where there is a classifier, also for it
alone and for both together. The classifier is the model of the configuration, or of -model; mail that it has learned from says
nothing about it. With -learn the given mail itself teaches one, which judges what it has not learned:

  tenths    each tenth of the mail is judged by what the other nine teach
  folders   each folder is judged by what the other folders teach: how kinds fare that were never seen

With FILE, a rule file or a folder of them, these stand in for the configured rule files. No network is used: conditions on
SPF, DKIM, DMARC and DNS lists are unknown, and their scores are missing. With -dns they are asked, of the DNS of today.
Exits 1 when a message could not be read.

  postern rules score -ham mail/ham -spam mail/spam -dsn mail/bounces
  postern rules score -ham mail/ham -spam mail/spam -learn folders -json`,
	run: runRulesScore,
}

// dsn is mail that is neither ham nor spam: reports on deliveries.
const dsn class = "dsn"

type scoreFlags struct {
	ruleFlags
	corpusFlags
	model, learn string
	json         bool
}

func runRulesScore(ctx context.Context, c *call) int {
	var f scoreFlags
	f.ruleFlags.register(c)
	f.corpusFlags.register(c)
	f.corpusFlags.add(c, dsn, "bounces and other reports")
	c.flags.StringVar(&f.model, "model", "", "the classifier's model is this `FILE`, not the configured one")
	c.flags.StringVar(&f.learn, "learn", "", "have the mail itself teach a classifier: by `HOW`, tenths or folders, it is divided")
	c.flags.BoolVar(&f.json, "json", false, "print one object of JSON")
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	switch {
	case !f.given():
		return c.misuse("no mail to judge, expected -ham PATH or -spam PATH")
	case f.learn != "" && f.model != "":
		return c.misuse("-learn beside -model, expected one of them")
	case f.learn != "" && f.learn != "tenths" && f.learn != "folders":
		return c.misuse("%s", strict.Unknown("-learn", f.learn, []string{"tenths", "folders"}))
	}
	s, err := newScorer(ctx, c, &f, paths)
	if err != nil {
		return c.explain(err)
	}
	defer s.rt.Close()
	defer f.tell(c)()
	failed := s.run(ctx, &f.corpusFlags, newProgress(c.stderr))
	for _, err := range failed {
		fmt.Fprintf(c.stderr, "postern rules score: %v\n", err)
	}
	if f.learn != "" && len(failed) == 0 {
		if err := s.crossValidate(ctx, f.learn == "folders"); err != nil {
			return c.fail(err)
		}
	}
	if err := s.report().print(c.stdout, f.json); err != nil {
		return c.fail(err)
	}
	if len(failed) > 0 || s.bad.n > 0 {
		return exitBad
	}
	return exitFine
}

// A scorer judges mail by rules and classifier apart.
type scorer struct {
	rt     *proxy.Runtime // with no model
	limits filters.Thresholds
	table  filters.ClassifierScores
	model  *model.Model // nil: none
	learns bool         // keep what the mail teaches
	mail   []scoredMail
	bad    unjudged
}

// A scoredMail is what was found of one message.
type scoredMail struct {
	class       class
	folder      string
	rules       float64 // points, of all checks but the classifier
	probability float64 // of spam, as the classifier says
	example     model.Example
	strange     bool // nothing can be learned from it, and nothing said
}

func newScorer(ctx context.Context, c *call, f *scoreFlags, paths []string) (*scorer, error) {
	files, err := ruleFiles(paths)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	s := &scorer{table: cfg.Filters.Classifier.Own.Scores, learns: f.learn != "", bad: unjudged{c: c}}
	file := cfg.Path(cfg.Filters.Classifier.Own.Model)
	if f.model != "" {
		file = f.model
	}
	if file != "" && !s.learns && cfg.Filters.Classifier.Enabled {
		if s.model, err = model.Load(file); err != nil {
			return nil, err
		}
		if !s.model.Ready() {
			return nil, fmt.Errorf("%s: learned from %d ham and %d spam, expected at least %d of each", file, s.model.Ham, s.model.Spam, model.Least)
		}
	}
	cfg = f.choose(cfg, files)
	cfg.Filters.Classifier.Own.Model = ""
	s.rt, err = c.build(ctx, cfg, f.options(cfg))
	if err == nil {
		s.limits = s.rt.Thresholds()
	}
	return s, err
}

func (s *scorer) run(ctx context.Context, f *corpusFlags, p *progress) []error {
	defer p.end()
	var failed []error
	for _, k := range []class{ham, spam, dsn} {
		take := func(path string, m scoredMail) {
			m.class, m.folder = k, folderOf(path, f.paths[k])
			s.mail = append(s.mail, m)
			p.step()
		}
		failed = append(failed, judgeCorpus(ctx, f, k, func(msg *message.Message) scoredMail { return s.judge(ctx, msg, k) }, take, &s.bad)...)
	}
	if ctx.Err() != nil && len(failed) == 0 {
		failed = append(failed, errors.New("interrupted"))
	}
	return failed
}

func (s *scorer) judge(ctx context.Context, msg *message.Message, k class) scoredMail {
	x := s.rt.Examine(ctx, msg, proxy.Envelope{})
	m := scoredMail{rules: worth(x.Verdict.Findings, s.limits)}
	x.Close()
	switch {
	case s.model != nil:
		m.probability = s.model.Probability(model.Extract(msg))
	case s.learns:
		e, err := model.NewExample(msg, k == spam)
		m.example, m.strange = e, err != nil
	}
	return m
}

// worth is the sum of findings in points. A finding that asks for an action whatever the score counts as the threshold of
// that action, and one that accepts as no points.
func worth(findings []filters.Finding, limits filters.Thresholds) float64 {
	var sum, least filters.Score
	accepted := false
	for _, f := range findings {
		if f.Shadow {
			continue
		}
		sum += f.Score
		switch f.Force {
		case filters.Accept:
			accepted = true
		case filters.Tag:
			least = max(least, limits.Tag)
		case filters.Quarantine:
			least = max(least, limits.Tag, limits.Quarantine)
		case filters.Defer, filters.Reject:
			least = max(least, limits.Tag, limits.Quarantine, limits.Reject)
		}
	}
	switch {
	case least > sum && !accepted:
		sum = least
	case accepted:
		sum = min(sum, 0)
	}
	return float64(sum) / 100
}

// folderOf is the folder of a message directly below the path under which it was found.
func folderOf(path string, roots []string) string {
	for _, root := range roots {
		below, ok := strings.CutPrefix(filepath.Clean(path), filepath.Clean(root))
		if !ok || below != "" && below[0] != filepath.Separator && below[0] != ':' {
			continue
		}
		first, _, deeper := strings.Cut(strings.TrimPrefix(below, string(filepath.Separator)), string(filepath.Separator))
		if !deeper {
			return root
		}
		return filepath.Join(root, first)
	}
	return filepath.Dir(path)
}

// crossValidate has each part of the mail judged by what the others teach. Bounces are judged by what all the mail teaches.
func (s *scorer) crossValidate(ctx context.Context, byFolder bool) error {
	var taught []model.Example
	var parts, at []int
	folders := s.folders()
	counts := map[class]int{}
	for i := range s.mail {
		m := &s.mail[i]
		counts[m.class]++
		m.probability = 0.5
		if m.class == dsn || m.strange {
			continue
		}
		part := int(m.example.ID[0]) % tenParts // by the ID, so that copies of a message come into one part
		if byFolder {
			part = slices.IndexFunc(folders, func(f mailFolder) bool { return f.path == m.folder && f.class == m.class })
		}
		taught, parts, at = append(taught, m.example), append(parts, part), append(at, i)
	}
	if counts[ham] < model.Least || counts[spam] < model.Least {
		return fmt.Errorf("%d ham and %d spam, expected at least %d of each to learn from", counts[ham], counts[spam], model.Least)
	}
	judged, err := model.CrossValidate(ctx, taught, parts, nil)
	if err != nil {
		return err
	}
	for i, j := range judged {
		s.mail[at[i]].probability = j.Probability
	}
	whole := model.Train(taught)
	for i := range s.mail {
		if m := &s.mail[i]; m.class == dsn && !m.strange {
			m.probability = whole.Judge(m.example)
		}
	}
	return nil
}

// A mailFolder is a folder of mail of one class.
type mailFolder struct {
	class class
	path  string
}

// folders lists those of the mail: spam, ham, then reports.
func (s *scorer) folders() []mailFolder {
	var list []mailFolder
	for _, k := range []class{spam, ham, dsn} {
		var of []mailFolder
		for _, m := range s.mail {
			if f := (mailFolder{class: k, path: m.folder}); m.class == k && !slices.Contains(of, f) {
				of = append(of, f)
			}
		}
		slices.SortFunc(of, func(a, b mailFolder) int { return strings.Compare(a.path, b.path) })
		list = append(list, of...)
	}
	return list
}

// figures are those of one way to score mail. points are what thresholds are compared with; rank orders mail more finely
// where points are a table's.
func (s *scorer) figures(name string, points, rank func(*scoredMail) float64) figures {
	f := figures{Name: name}
	var by []measure.Scored
	var ranked []measure.Scored
	var reports []float64
	for i := range s.mail {
		m := &s.mail[i]
		if m.class == dsn {
			reports = append(reports, points(m))
			continue
		}
		by = append(by, measure.Scored{Score: points(m), Spam: m.class == spam})
		ranked = append(ranked, measure.Scored{Score: rank(m), Spam: m.class == spam})
	}
	for _, l := range []struct {
		action filters.Action
		limit  filters.Score
	}{{filters.Tag, s.limits.Tag}, {filters.Quarantine, s.limits.Quarantine}, {filters.Reject, s.limits.Reject}} {
		if l.limit == 0 {
			continue
		}
		row := thresholdFigures{Action: l.action.String(), Points: float64(l.limit) / 100}
		caught, flagged := measure.At(by, row.Points)
		row.Spam, row.Ham = newPortion(caught), newPortion(flagged)
		if len(reports) > 0 {
			row.Reports = newPortion(above(reports, row.Points))
		}
		f.Thresholds = append(f.Thresholds, row)
	}
	limits := []float64{float64(s.limits.Tag) / 100}
	for _, allowed := range []float64{0.001, 0.01} {
		best := measure.Caught(ranked, allowed)
		f.Caught = append(f.Caught, caughtFigures{Allowed: allowed, Threshold: finite(best.Threshold), Spam: newPortion(best.Spam), Ham: newPortion(best.Ham)})
		limits = append(limits, best.Threshold)
	}
	f.Area = measure.Area(ranked)
	for _, folder := range s.folders() {
		row := folderFigures{Class: folder.class, Folder: folder.path}
		var own, fine []float64
		for i := range s.mail {
			if m := &s.mail[i]; m.class == folder.class && m.folder == folder.path {
				own, fine = append(own, points(m)), append(fine, rank(m))
			}
		}
		row.Tagged, row.AtTenth, row.AtWhole = newPortion(above(own, limits[0])), newPortion(above(fine, limits[1])), newPortion(above(fine, limits[2]))
		f.Folders = append(f.Folders, row)
	}
	return f
}

func above(list []float64, threshold float64) measure.Share {
	share := measure.Share{N: len(list)}
	for _, x := range list {
		if x >= threshold {
			share.K++
		}
	}
	return share
}

func (s *scorer) report() *scoreReport {
	r := &scoreReport{Rules: 0}
	if s.rt.Rules != nil {
		r.Rules = len(s.rt.Rules.Rules())
	}
	for _, m := range s.mail {
		switch m.class {
		case spam:
			r.Spam++
		case ham:
			r.Ham++
		default:
			r.Reports++
		}
	}
	byRules := func(m *scoredMail) float64 { return m.rules }
	r.Figures = append(r.Figures, s.figures("rules", byRules, byRules))
	if s.model == nil && !s.learns {
		return r
	}
	learned := func(m *scoredMail) float64 { return float64(s.table.At(m.probability)) / 100 }
	both := func(m *scoredMail) float64 { return m.rules + learned(m) }
	r.Figures = append(r.Figures,
		s.figures("classifier", learned, func(m *scoredMail) float64 { return m.probability }),
		s.figures("both", both, both))
	return r
}
