package filters

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/filters/model"
	"postern/rules/strict"
)

// ClassifierConfig is the configuration of the check that was taught by `postern learn`.
type ClassifierConfig struct {
	Model  string           `yaml:"model"`  // the file that postern learn writes; empty: the check does nothing
	Scores ClassifierScores `yaml:"scores"` // from probability to score
}

// ClassifierScores is a table: from each probability on, up to the next, the score is that of the row.
type ClassifierScores []ClassifierRow

// ClassifierRow is one row of the table.
type ClassifierRow struct {
	From  float64 `yaml:"from"`  // probability of spam in percent
	Score float64 `yaml:"score"` // points
}

func defaultClassifierConfig() ClassifierConfig {
	return ClassifierConfig{Scores: ClassifierScores{
		{From: 0, Score: -2},
		{From: 1, Score: -1},
		{From: 10, Score: 0},
		{From: 50, Score: 3},
		{From: 80, Score: 5},
		{From: 95, Score: 6},
		{From: 99, Score: 7},
	}}
}

// UnmarshalStrict wants the rows in rising order, beginning at 0.
func (s *ClassifierScores) UnmarshalStrict(n *strict.Node) strict.Problems {
	var rows []ClassifierRow
	problems := n.Decode(&rows)
	if len(problems) > 0 {
		return problems
	}
	for i, row := range rows {
		pos := n.Items()[i].Pos()
		switch {
		case i == 0 && row.From != 0:
			problems.Addf(pos, "the first row begins at %v percent, expected 0", row.From)
		case i > 0 && row.From <= rows[i-1].From || row.From > 100:
			problems.Addf(pos, "from: %v, expected percents in rising order up to 100", row.From)
		}
		if wrong := BadPoints(row.Score); wrong != "" {
			problems.Addf(pos, "%s", wrong)
		}
	}
	if len(rows) == 0 {
		problems.Addf(n.Pos(), "no rows, expected such as [{from: 0, score: 0}, {from: 80, score: 5}]")
	}
	*s = rows
	return problems
}

// String writes the table as it stands in the configuration.
func (s ClassifierScores) String() string {
	rows := make([]string, len(s))
	for i, row := range s {
		rows[i] = fmt.Sprintf("{from: %g, score: %g}", row.From, row.Score)
	}
	return "[" + strings.Join(rows, ", ") + "]"
}

// At gives the score for a probability, 0 to 1.
func (s ClassifierScores) At(probability float64) Score {
	i, found := slices.BinarySearchFunc(s, probability*100, func(row ClassifierRow, percent float64) int {
		switch {
		case row.From < percent:
			return -1
		case row.From > percent:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	return Points(s[max(i, 0)].Score)
}

// classifier makes a finding of the probability that a site's own mail gives a message: "classifier.spam" from one half on,
// else "classifier.ham".
type classifier struct {
	cfg ClassifierConfig
	log *slog.Logger

	current atomic.Pointer[loadedModel]
	loading sync.Mutex
}

// loadedModel is a model and the file that it was read from.
type loadedModel struct {
	model   *model.Model // nil: there was none to be read
	err     error        // why there is none, though there is a file
	info    fs.FileInfo  // nil: there was no file
	checked time.Time
}

// modelCheck is how often the file is looked at.
const modelCheck = 2 * time.Second

func newClassifier(cfg ClassifierConfig, log *slog.Logger) *classifier {
	return &classifier{cfg: cfg, log: log}
}

func (c *classifier) Name() string      { return "classifier" }
func (c *classifier) Scope() Scope      { return PerMessage }
func (c *classifier) Needs() []string   { return nil }
func (c *classifier) Symbols() []string { return []string{"classifier.spam", "classifier.ham"} }

// Run says nothing as long as too little was learned.
func (c *classifier) Run(_ context.Context, in Input) Report {
	m, err := c.load(in.Now)
	if err != nil {
		return Report{Err: err}
	}
	if !m.Ready() {
		return Report{}
	}
	p := m.Probability(model.Extract(in.Message))
	f := Finding{Symbol: "classifier.ham", Score: c.cfg.Scores.At(p)}
	if p >= 0.5 {
		f.Symbol = "classifier.spam"
	}
	f.Detail = percent(p)
	if f.Score != 0 {
		with, against := m.Explain(in.Message, reasonsShown)
		f.Detail += reasons("; for it: ", with) + reasons("; against it: ", against)
	}
	return Report{Findings: []Finding{f}}
}

// reasonsShown is how many features are named for a verdict, and how many against it.
const reasonsShown = 4

// percent writes a probability so that 99.97 % does not look like certainty.
func percent(p float64) string {
	digits := 1
	if p > 0.99 || p < 0.01 {
		digits = 2
	}
	shown := math.Min(99.99, math.Max(0.01, p*100))
	return strconv.FormatFloat(shown, 'f', digits, 64) + " % likely spam by what was learned"
}

// reasons lists features with what they add to the margin, times 100.
func reasons(title string, list []model.Reason) string {
	var b strings.Builder
	for i, r := range list {
		if i > 0 {
			title = ", "
		}
		fmt.Fprintf(&b, "%s%s %q %+.0f", title, r.Kind, r.Text, r.Weight*100)
	}
	return b.String()
}

// load gives the model, and reads it again when the file has changed. A file that can't be read leaves the last model in
// force, and is an error only where there is none.
func (c *classifier) load(now time.Time) (*model.Model, error) {
	last := c.current.Load()
	if last != nil && (now.Sub(last.checked) < modelCheck && !now.Before(last.checked) || !c.loading.TryLock()) {
		return last.model, last.err
	}
	if last == nil {
		c.loading.Lock()
	}
	defer c.loading.Unlock()
	if last = c.current.Load(); last == nil {
		last = &loadedModel{}
	}
	next := c.look(*last)
	next.checked = now
	c.current.Store(&next)
	return next.model, next.err
}

// look reads the file if it is another one than last time.
func (c *classifier) look(last loadedModel) loadedModel {
	info, err := os.Stat(c.cfg.Model)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing was learned yet
		return last
	case err == nil && last.info != nil && os.SameFile(info, last.info) && info.ModTime().Equal(last.info.ModTime()):
		return last
	}
	var m *model.Model
	if err == nil {
		m, err = model.Load(c.cfg.Model)
	}
	if err == nil {
		c.log.Info("the model was read", "event", "model_read", "file", c.cfg.Model, "ham", m.Ham, "spam", m.Spam, "ready", m.Ready())
		return loadedModel{model: m, info: info}
	}
	c.log.Warn("the model can't be read", "event", "model_unreadable", "file", c.cfg.Model, "error", err)
	next := loadedModel{model: last.model, info: info}
	if next.model == nil {
		next.err = err
	}
	return next
}
