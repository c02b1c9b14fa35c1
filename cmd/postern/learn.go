package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/filters"
	"postern/filters/message"
	"postern/filters/message/mailbox"
	"postern/filters/model"
	"postern/filters/model/measure"
	"postern/proxy"
)

var learnCommand = &command{
	name:    "learn",
	args:    "[-config FILE] [-model FILE] [-check] [-spam PATH...] [-ham PATH...] [-forget PATH...]",
	summary: "teach the classifier what this site's spam and ham look like",
	help: `
Learns from stored messages: .eml files, folders (walked), Maildirs and mboxes; - is one message or an mbox on standard
input. A message that was learned before is not learned again; one that was learned as the other changes sides. The model is
then made anew and put in place of the old one; a running postern takes it up by itself within seconds.

The model is the file that filters.classifier.model names. Beside it, in the file with .examples behind its name, the
messages are kept as numbers, never as text. The classifier judges as soon as 50 ham and 50 spam are known; a few hundred of
each, of all the kinds of mail that the site gets, are a good start: above all its own newsletters, receipts and
notifications as ham.

With -check nothing is learned. It tells how well mail would be judged that was not learned: the messages given (else the
ones learned before) are divided into ten parts, and each part is judged by what the other nine teach; then, if they came from
several folders, each folder by what the other folders teach.

Exits 0 when all was learned, 1 when a message could not be read.`,
	run: runLearn,
}

var errNoModel = errors.New("no model is configured, expected filters: {classifier: {model: FILE}} in the configuration, or -model FILE")

// learnPaths are the paths given behind each of the flags.
type learnPaths struct{ spam, ham, forget []string }

func (p learnPaths) none() bool { return len(p.spam)+len(p.ham)+len(p.forget) == 0 }

// splitPaths takes the paths out of the arguments: those behind -spam, -ham and -forget, up to the next flag.
func splitPaths(args []string) (paths learnPaths, rest []string) {
	lists := map[string]*[]string{"spam": &paths.spam, "ham": &paths.ham, "forget": &paths.forget}
	var into *[]string
	for i, arg := range args {
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case arg == "--":
			return paths, append(rest, args[i:]...)
		case len(arg) < 2 || arg[0] != '-':
			if into == nil {
				rest = append(rest, arg)
			} else {
				*into = append(*into, arg)
			}
			continue
		case lists[name] == nil:
			into, rest = nil, append(rest, arg)
			continue
		}
		if into = lists[name]; given {
			*into = append(*into, value)
		}
	}
	return paths, rest
}

func runLearn(ctx context.Context, c *call) int {
	config := c.configFlag()
	file := c.flags.String("model", "", "learn into this `FILE` instead of the configured one")
	check := c.flags.Bool("check", false, "learn nothing, but tell how well it would work")
	for name, text := range map[string]string{"spam": "messages that are spam", "ham": "messages that are not", "forget": "messages to be forgotten"} {
		c.flags.String(name, "", text+", as many `PATH`s as follow")
	}
	var paths learnPaths
	paths, c.args = splitPaths(c.args)
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	if paths.none() && !*check {
		return c.misuse("nothing to learn, expected -spam PATH..., -ham PATH... or -forget PATH...")
	}
	scores := filters.DefaultConfig().Classifier.Own.Scores
	if *file == "" || *config != "" {
		cfg, err := loadConfig(*config)
		if err != nil {
			return c.explain(err)
		}
		scores = cfg.Filters.Classifier.Own.Scores
		if *file == "" {
			*file = cfg.Path(cfg.Filters.Classifier.Own.Model)
		}
	}
	l := &learner{call: c, ctx: ctx, file: *file, scores: scores}
	if *check && !paths.none() {
		return l.checkPaths(paths)
	}
	if *file == "" {
		return c.fail(errNoModel)
	}
	if *check {
		return l.checkLearned()
	}
	return l.learn(paths)
}

// A learner is one run of postern learn.
type learner struct {
	*call
	ctx    context.Context
	file   string
	scores filters.ClassifierScores
	unread int
}

func (l *learner) learn(paths learnPaths) int {
	examples, err := model.OpenExamples(examplesOf(l.file))
	if err != nil {
		return l.fail(err)
	}
	defer examples.Close()
	var added, moved, known, forgotten, strange int
	take := func(spam bool) func(string, model.Example) {
		return func(_ string, e model.Example) {
			switch examples.Learn(e) {
			case model.Added:
				added++
			case model.Relabel:
				moved++
			case model.Known:
				known++
			}
		}
	}
	forget := func(_ string, e model.Example) {
		if examples.Forget(e.ID) {
			forgotten++
		} else {
			strange++
		}
	}
	err = l.each(paths.spam, true, take(true))
	if err == nil {
		err = l.each(paths.ham, false, take(false))
	}
	if err == nil {
		err = l.each(paths.forget, false, forget)
	}
	if err != nil {
		return l.fail(err)
	}
	m, err := saveModel(l.file, examples)
	if err != nil {
		return l.fail(err)
	}
	fmt.Fprintf(l.stdout, "%d learned, %d known before, %d changed sides", added, known, moved)
	if len(paths.forget) > 0 {
		fmt.Fprintf(l.stdout, ", %d forgotten, %d of those to be forgotten never learned", forgotten, strange)
	}
	fmt.Fprintf(l.stdout, "; in all %d spam and %d ham\n", m.Spam, m.Ham)
	if !m.Ready() {
		fmt.Fprintf(l.stdout, "the classifier judges when there are %d of each\n", model.Least)
	}
	if l.unread > 0 {
		return exitBad
	}
	return exitFine
}

func examplesOf(file string) string { return file + ".examples" }

// saveModel saves the examples and the model that they make.
func saveModel(file string, examples *model.Examples) (*model.Model, error) {
	if err := examples.Save(); err != nil {
		return nil, err
	}
	m := model.Train(examples.All())
	return m, m.Save(file)
}

// each reads the messages of all paths on all cores and hands them over one by one, in their order.
func (l *learner) each(paths []string, spam bool, take func(path string, e model.Example)) error {
	bar := newProgress(l.stderr)
	defer bar.end()
	type read struct {
		path string
		e    model.Example
		err  error
	}
	queue := make(chan chan read, readAhead)
	var walk error
	go func() {
		defer close(queue)
		for _, path := range paths {
			if path == "-" {
				path, walk = l.spoolInput()
				defer os.Remove(path)
			}
			if walk == nil {
				walk = mailbox.Walk(l.ctx, path, func(item mailbox.Item) error {
					slot := make(chan read, 1)
					queue <- slot
					go func() {
						e, err := exampleOf(item, spam)
						slot <- read{path: item.Path, e: e, err: err}
					}()
					return l.ctx.Err()
				})
			}
			if walk != nil {
				walk = fmt.Errorf("%s: %w", path, walk)
				return
			}
		}
	}()
	for slot := range queue {
		r := <-slot
		if r.err != nil {
			fmt.Fprintf(l.stderr, "postern %s: %s: %v\n", l.cmd.name, r.path, r.err)
			l.unread++
			continue
		}
		take(r.path, r.e)
		bar.step()
	}
	return walk
}

// readAhead is how many messages are read at a time.
const readAhead = 16

func exampleOf(item mailbox.Item, spam bool) (model.Example, error) {
	if item.Err != nil {
		return model.Example{}, item.Err
	}
	msg, err := message.Read(item.Data, item.Size)
	if err != nil {
		return model.Example{}, err
	}
	return model.NewExample(msg, spam)
}

// spoolInput puts standard input into a file, for a mailbox is read in no fixed order.
func (l *learner) spoolInput() (path string, err error) {
	f, err := os.CreateTemp("", "postern-learn-*")
	if err != nil {
		return "-", err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(l.stdin, maxInput+1))
	if err == nil && n > maxInput {
		err = fmt.Errorf("more than %d MiB on standard input, expected a file of that size by its name", maxInput>>20)
	}
	return f.Name(), err
}

// maxInput bounds what is read from standard input.
const maxInput = 1 << 30

func (l *learner) checkLearned() int {
	examples, err := model.OpenExamples(examplesOf(l.file))
	if err != nil {
		return l.fail(err)
	}
	all := examples.All()
	examples.Close()
	return l.report(all, nil)
}

func (l *learner) checkPaths(paths learnPaths) int {
	if len(paths.forget) > 0 {
		return l.misuse("-forget has no meaning with -check")
	}
	var all []model.Example
	var folders []string
	add := func(path string, e model.Example) {
		file, _, _ := strings.Cut(path, ":")
		all, folders = append(all, e), append(folders, filepath.Dir(file))
	}
	err := l.each(paths.spam, true, add)
	if err == nil {
		err = l.each(paths.ham, false, add)
	}
	if err != nil {
		return l.fail(err)
	}
	return l.report(all, folders)
}

// tenParts is by how many parts mail is cross-validated.
const tenParts = 10

func (l *learner) report(all []model.Example, folders []string) int {
	var ham, spam int
	parts := make([]int, len(all))
	for i, e := range all {
		parts[i] = int(e.ID[0]) % tenParts // by the ID, so that copies of a message come into one part
		if e.Spam {
			spam++
		} else {
			ham++
		}
	}
	if ham < model.Least || spam < model.Least {
		return l.fail(fmt.Errorf("%d ham and %d spam, expected at least %d of each", ham, spam, model.Least))
	}
	fmt.Fprintf(l.stdout, "%d spam and %d ham\n\neach tenth judged by what the other nine teach:\n", spam, ham)
	judged, err := model.CrossValidate(l.ctx, all, parts, nil)
	if err != nil {
		return l.fail(err)
	}
	l.print(probabilities(judged))
	if len(folders) == 0 {
		return exitFine
	}
	l.printFolders(probabilities(judged), folders)
	names := slices.Compact(slices.Sorted(slices.Values(folders)))
	if len(names) < 3 {
		return exitFine
	}
	for i, f := range folders {
		parts[i], _ = slices.BinarySearch(names, f)
	}
	if judged, err = model.CrossValidate(l.ctx, all, parts, nil); err != nil {
		return l.fail(err)
	}
	fmt.Fprintf(l.stdout, "\neach folder judged by what the other %d teach:\n", len(names)-1)
	l.print(probabilities(judged))
	l.printFolders(probabilities(judged), folders)
	return exitFine
}

// probabilities are how much each example was taken for spam.
func probabilities(judged []model.Judged) []measure.Scored {
	list := make([]measure.Scored, len(judged))
	for i, j := range judged {
		list[i] = measure.Scored{Score: j.Probability, Spam: j.Spam}
	}
	return list
}

// print gives the figures of all.
func (l *learner) print(judged []measure.Scored) {
	for _, row := range l.scores {
		if row.Score <= 0 {
			continue
		}
		spam, ham := measure.At(judged, row.From/100)
		fmt.Fprintf(l.stdout, "  at least %g points (%g %%): spam %s, ham %s\n", row.Score, row.From, interval(spam), interval(ham))
	}
	for _, rate := range []float64{0.001, 0.01} {
		fmt.Fprintf(l.stdout, "  with at most %g %% of the ham: spam %s\n", rate*100, interval(measure.Caught(judged, rate).Spam))
	}
	fmt.Fprintf(l.stdout, "  area under the ROC curve: %.5f\n", measure.Area(judged))
}

func interval(s measure.Share) string {
	low, high := s.Interval()
	return fmt.Sprintf("%.2f %% (%d of %d, 95 %% interval %.2f to %.2f)", 100*s.Rate(), s.K, s.N, 100*low, 100*high)
}

// printFolders gives the figures of each folder at the row of the table that is the first to tag.
func (l *learner) printFolders(judged []measure.Scored, folders []string) {
	tag := proxy.DefaultConfig().Policy.Tag
	from := 50.0
	for _, row := range l.scores {
		if row.Score >= tag {
			from = row.From
			break
		}
	}
	by := make(map[string][]measure.Scored)
	for i, f := range folders {
		by[f] = append(by[f], judged[i])
	}
	fmt.Fprintf(l.stdout, "  by folder, at %g points:\n", tag)
	for _, f := range slices.Sorted(maps.Keys(by)) {
		spam, ham := measure.At(by[f], from/100)
		if spam.N > 0 {
			fmt.Fprintf(l.stdout, "    spam %s %s\n", interval(spam), printable(f))
		}
		if ham.N > 0 {
			fmt.Fprintf(l.stdout, "    ham  %s %s\n", interval(ham), printable(f))
		}
	}
}
