package filters

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/filters/model"
	"postern/rules/strict"
)

// taught makes a model of 60 messages of each class that differ in their words, and of spam whose sender is given.
func taught(t *testing.T, path, spamWord string) {
	t.Helper()
	var all []model.Example
	for i := range 60 {
		for _, spam := range []bool{true, false} {
			word := "meeting"
			if spam {
				word = spamWord
			}
			m := parseMessage(t, fmt.Sprintf("From: a%d@x.example\r\nSubject: %s %d\r\n\r\n%s number %d and more of %s\r\n", i, word, i, word, i, word))
			e, err := model.NewExample(m, spam)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	if err := model.Train(all).Save(path); err != nil {
		t.Fatal(err)
	}
}

// The model is taken up when it appears, when it is replaced, and is kept when what replaces it is broken.
func TestClassifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	cfg := defaultClassifierConfig()
	cfg.Model = path
	var log bytes.Buffer
	c := newClassifier(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Unix(1e9, 0)
	judge := func(text string) Report {
		now = now.Add(modelCheck)
		return c.Run(t.Context(), Input{Message: parseMessage(t, text), Now: now})
	}
	const lottery = "From: b@x.example\r\nSubject: lottery 7\r\n\r\nlottery number and more of lottery\r\n"
	const meeting = "From: b@x.example\r\nSubject: meeting 7\r\n\r\nmeeting number and more of meeting\r\n"

	if r := judge(lottery); r.Err != nil || len(r.Findings) != 0 {
		t.Fatalf("without a model: %+v", r)
	}
	taught(t, path, "lottery")
	r := judge(lottery)
	if r.Err != nil || len(r.Findings) != 1 {
		t.Fatalf("%+v", r)
	}
	f := r.Findings[0]
	if f.Symbol != "classifier.spam" || f.Score < Points(5) || !strings.Contains(f.Detail, `"lottery"`) {
		t.Errorf("spam is judged %+v", f)
	}
	if f := judge(meeting).Findings[0]; f.Symbol != "classifier.ham" || f.Score >= 0 || !strings.Contains(f.Detail, `"meeting"`) {
		t.Errorf("ham is judged %+v", f)
	}

	if err := os.WriteFile(path+".new", []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if r := judge(lottery); r.Err != nil || r.Findings[0].Symbol != "classifier.spam" {
		t.Errorf("with a broken model in place of the good one: %+v", r)
	}
	if !strings.Contains(log.String(), "event=model_unreadable") {
		t.Errorf("log: %s", log.String())
	}

	taught(t, path, "meetup") // now lottery is unknown, and what spam and ham share
	if r := judge("From: b@x.example\r\nSubject: meetup 7\r\n\r\nmeetup number and more of meetup\r\n"); r.Findings[0].Symbol != "classifier.spam" {
		t.Errorf("the new model is not in use: %+v", r)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if r := judge(meeting); r.Err != nil || len(r.Findings) != 1 {
		t.Errorf("with the file gone: %+v", r)
	}
}

// A model that can't be read at all is an error of the check each time, never a silent pass.
func TestClassifierUnreadable(t *testing.T) {
	cfg := defaultClassifierConfig()
	cfg.Model = t.TempDir() // a folder
	c := newClassifier(cfg, slog.New(slog.DiscardHandler))
	for range 3 {
		if r := c.Run(t.Context(), Input{Message: parseMessage(t, "Subject: x\r\n\r\n"), Now: time.Now()}); r.Err == nil {
			t.Error("no error")
		}
	}
}

func TestClassifierScores(t *testing.T) {
	table := defaultClassifierConfig().Scores
	for p, want := range map[float64]float64{0: -2, 0.0099: -2, 0.01: -1, 0.0999: -1, 0.1: 0, 0.4999: 0, 0.5: 3, 0.8: 5, 0.9499: 5, 0.95: 6, 1: 7} {
		if got := table.At(p); got != Points(want) {
			t.Errorf("%v: %v, want %v", p, got, want)
		}
	}
	for _, c := range []struct{ yaml, want string }{
		{"[]", "f.yaml:1:9: no rows, expected such as [{from: 0, score: 0}, {from: 80, score: 5}]"},
		{"[{from: 5, score: 1}]", "f.yaml:1:10: the first row begins at 5 percent, expected 0"},
		{"[{from: 0, score: 1}, {from: 0, score: 2}]", "f.yaml:1:31: from: 0, expected percents in rising order up to 100"},
		{"[{from: 0, score: 1}, {from: 101, score: 2}]", "f.yaml:1:31: from: 101, expected percents in rising order up to 100"},
		{"[{from: 0, score: 1.234}]", "f.yaml:1:10: the score 1.234, expected at most two decimals"},
	} {
		var cfg ClassifierConfig
		doc, err := strict.Parse("f.yaml", []byte("scores: "+c.yaml))
		if err != nil {
			t.Fatal(err)
		}
		if got := doc.Decode(&cfg).Err(); got == nil || got.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.yaml, got, c.want)
		}
	}
}
