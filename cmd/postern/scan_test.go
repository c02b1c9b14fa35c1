package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/cmd/postern/samples"
	"postern/proxy/peertest"
)

// scanJSON runs `postern scan -json` and gives its lines.
func scanJSON(t *testing.T, dir string, args ...string) []map[string]any {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "postern", append([]string{"scan", "-config", "postern.yaml", "-json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var lines []map[string]any
	for line := range strings.Lines(stdout.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		lines = append(lines, m)
	}
	return lines
}

// A stored sample is judged as it is judged live: with the same envelope comes the same verdict.
func TestScanAgreesWithTheSamples(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t), "filters: {dnsbl: {lists: [{zone: dnsbl.example, score: 6}]}}\n",
		"quarantine: maildir:quarantine\npolicy: {tag: 5, quarantine: 8, reject: 12}\n")})
	list, err := samples.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Dialogue() || s.Expect.Action == "refuse" {
			continue // no message, or one that nobody would have been asked about
		}
		t.Run(s.File, func(t *testing.T) {
			file, err := filepath.Abs(filepath.Join("samples", s.File))
			if err != nil {
				t.Fatal(err)
			}
			lines := scanJSON(t, dir, "-ip", s.IP.String(), "-helo", s.Helo, "-from", "<"+s.From+">", "-rcpt", strings.Join(s.Rcpt, ","), file)
			if len(lines) != 1 || lines[0]["action"] != s.Expect.Action {
				t.Fatalf("got %v, expected %s", lines, s.Expect.Action)
			}
			findings := fmt.Sprint(lines[0]["findings"])
			for _, symbol := range s.Expect.Symbols {
				if !strings.Contains(findings, "symbol:"+symbol+"]") {
					t.Errorf("no %s in %s", symbol, findings)
				}
			}
		})
	}
}

// The score is the sum of the findings, to the hundredth.
func TestScanScoreIsTheSum(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": serveConfig("127.0.0.1:9")})
	all, err := filepath.Abs("samples")
	if err != nil {
		t.Fatal(err)
	}
	lines := scanJSON(t, dir, "-offline", all)
	if len(lines) < 10 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		sum := 0.0
		for _, f := range line["findings"].([]any) {
			finding := f.(map[string]any)
			if finding["shadow"] == false {
				sum += finding["score"].(float64)
			}
		}
		if got := line["score"].(float64); fmt.Sprintf("%.2f", sum) != fmt.Sprintf("%.2f", got) {
			t.Errorf("%v: score %v, the findings add up to %v", line["path"], got, sum)
		}
	}
}

// The keys of a line, which others read by name.
func TestScanKeys(t *testing.T) {
	dir := folder(t, map[string]string{
		"postern.yaml": serveConfig("127.0.0.1:9"),
		"a.eml":        "From: a@home.example\nSubject: one\n\nhello\n",
	})
	line := scanJSON(t, dir, "-offline", "a.eml")[0]
	keys := func(m any) []string {
		var names []string
		for name := range m.(map[string]any) {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	got := [][]string{keys(line), keys(line["findings"].([]any)[0]), keys(line["auth"])}
	want := [][]string{
		{"action", "auth", "by", "errors", "findings", "limit", "path", "score"},
		{"detail", "file", "line", "score", "shadow", "symbol"},
		{"arc", "dkim", "dmarc", "iprev", "spf"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// -offline asks nobody, even where a server is configured; without it the server is asked.
func TestScanOffline(t *testing.T) {
	names := peertest.StartNames(t, "$TTL 60\ncorp.example. TXT \"v=spf1 -all\"\n")
	dir := folder(t, map[string]string{
		"postern.yaml": serveConfig(names.Addr()),
		"a.eml":        "From: a@corp.example\nSubject: one\n\nhello\n",
	})
	envelope := []string{"-ip", "203.0.113.9", "-helo", "mail.corp.example", "-from", "a@corp.example", "a.eml"}
	offline := scanJSON(t, dir, append([]string{"-offline"}, envelope...)...)[0]
	if asked := names.Queries(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	if spf := offline["auth"].(map[string]any)["spf"]; spf != "temperror" {
		t.Errorf("offline spf is %v", spf)
	}
	online := scanJSON(t, dir, envelope...)[0]
	if spf := online["auth"].(map[string]any)["spf"]; spf != "fail" || len(names.Queries()) == 0 {
		t.Errorf("spf is %v after %d queries", spf, len(names.Queries()))
	}
}
