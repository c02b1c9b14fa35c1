package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scoreMail writes folders of ham and spam of which rules know half of the spam, and words tell all of it apart.
func scoreMail(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for i := range n {
		for _, k := range []string{"ham", "spam"} {
			folder := filepath.Join(dir, k, fmt.Sprintf("part%d", i%3))
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			subject := "minutes of the meeting"
			if k == "spam" {
				subject = []string{"you have won the lottery", "cheap pills at our shop"}[i%2]
			}
			mail := fmt.Sprintf("From: a%d@%s.example\nSubject: %s\nMessage-ID: <%d@%s.example>\n\n%s, number %d\n", i, k, subject, i, k, subject, i)
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%d.eml", i)), []byte(mail), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := "hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: \":2525\"}]\nupstream: [{address: smtp://192.0.2.25}]\n" +
		"filters: {defects: {enabled: false}, content: {packs: [], rules: [rules.yaml]}}\n"
	rules := "rules:\n  - {id: LOTTERY, score: 6, when: {header: Subject, contains: lottery}}\n"
	for name, text := range map[string]string{"postern.yaml": config, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func scored(t *testing.T, args ...string) scoreReport {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"rules", "score", "-json"}, args...), strings.NewReader(""), &stdout, &stderr); code != exitFine {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	var r scoreReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The classifier is scored by mail that it has not learned, and both together know what either knows.
func TestRulesScoreLearning(t *testing.T) {
	dir := scoreMail(t, 75)
	config, hamDir, spamDir := filepath.Join(dir, "postern.yaml"), filepath.Join(dir, "ham"), filepath.Join(dir, "spam")
	for _, how := range []string{"tenths", "folders"} {
		r := scored(t, "-config", config, "-ham", hamDir, "-spam", spamDir, "-dsn", filepath.Join(hamDir, "part0"), "-learn", how)
		if len(r.Figures) != 3 || r.Spam != 75 || r.Ham != 75 || r.Reports != 25 {
			t.Fatalf("%s: %+v", how, r)
		}
		rules, classifier, both := r.Figures[0], r.Figures[1], r.Figures[2]
		if k := rules.Thresholds[0].Spam.K; k != 38 {
			t.Errorf("%s: the rules tag %d spam, want 38", how, k)
		}
		if classifier.Area < 0.99 || both.Caught[0].Spam.K != 75 {
			t.Errorf("%s: the classifier's area is %v, and both catch %d of 75", how, classifier.Area, both.Caught[0].Spam.K)
		}
		if len(both.Folders) != 7 || both.Folders[0].Folder != filepath.Join(spamDir, "part0") {
			t.Errorf("%s: folders %+v", how, both.Folders)
		}
	}
}

// A model that was learned before is asked as it stands.
func TestRulesScoreModel(t *testing.T) {
	dir := scoreMail(t, 60)
	file, hamDir, spamDir := filepath.Join(dir, "model"), filepath.Join(dir, "ham"), filepath.Join(dir, "spam")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"learn", "-model", file, "-ham", hamDir, "-spam", spamDir}, strings.NewReader(""), &stdout, &stderr); code != exitFine {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	r := scored(t, "-config", filepath.Join(dir, "postern.yaml"), "-ham", hamDir, "-spam", spamDir, "-model", file)
	if len(r.Figures) != 3 || r.Figures[1].Area != 1 {
		t.Errorf("%+v", r.Figures)
	}
}
