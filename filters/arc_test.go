package filters

import (
	"context"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// arcScenario is one document of ValiMail's suite. A name of a test can stand there twice, so tests are read as nodes.
type arcScenario struct {
	Description string            `yaml:"description"`
	Tests       yaml.Node         `yaml:"tests"`
	TXT         map[string]string `yaml:"txt-records"`
}

type arcCase struct {
	name    string
	Message string `yaml:"message"`
	CV      string `yaml:"cv"`
	Seal    string `yaml:"AS"`
	Sig     string `yaml:"AMS"`
	Results string `yaml:"AAR"`
}

// arcSuite calls run for each test of a file and gives their number.
func arcSuite(t *testing.T, file string, run func(t *testing.T, zone *fakeDNS, c arcCase)) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	count := 0
	for {
		var s arcScenario
		if err := dec.Decode(&s); errors.Is(err, io.EOF) {
			return count
		} else if err != nil {
			t.Fatal(err)
		}
		zone := &fakeDNS{txt: map[string][]string{}}
		for name, record := range s.TXT {
			zone.txt[name] = []string{record}
		}
		for i := 0; i+1 < len(s.Tests.Content); i += 2 {
			c := arcCase{name: s.Tests.Content[i].Value}
			if err := s.Tests.Content[i+1].Decode(&c); err != nil {
				t.Fatal(err)
			}
			count++
			t.Run(c.name, func(t *testing.T) { run(t, zone, c) })
		}
	}
}

func checkARC(t testing.TB, zone *fakeDNS, src string) *ARCResult {
	t.Helper()
	m := parseMessage(t, src)
	res, err := CheckARC(context.Background(), zone, m.Header, m.Body(), time.Now())
	if (err != nil) != (res.Result == "temperror") {
		t.Errorf("%s with error %v", res.Result, err)
	}
	return res
}

// TestARCSuite runs the published cases of validation. Where the suite has no state at all ("cv" empty), the chain had
// failed before, and so fails.
func TestARCSuite(t *testing.T) {
	count := arcSuite(t, "testdata/arc/arc-draft-validation-tests.part.yml", func(t *testing.T, zone *fakeDNS, c arcCase) {
		want := strings.ToLower(strings.TrimSpace(c.CV))
		if want == "" {
			want = "fail"
		}
		res := checkARC(t, zone, withCRLF(c.Message))
		if res.Result != want {
			t.Errorf("%s (%s), want %s", res.Result, res.Reason, want)
		}
		if len(zone.queries) > maxARCQueries {
			t.Errorf("%d queries", len(zone.queries))
		}
	})
	if count != 54 {
		t.Errorf("ran %d cases, the suite has 54", count)
	}
}

var arcSuiteB = regexp.MustCompile(`\bb=[^;]*;`)

// TestARCSigningSuite adds to each message the set that a sealer should, which is what the published cases of signing
// hold, and validates the chain: it passes, or fails where it is sealed as failed.
func TestARCSigningSuite(t *testing.T) {
	count := arcSuite(t, "testdata/arc/arc-draft-sign-tests.yml", func(t *testing.T, zone *fakeDNS, c arcCase) {
		if strings.TrimSpace(c.Seal) == "" { // the sealer must add nothing
			if res := checkARC(t, zone, withCRLF(c.Message)); res.Result != "fail" {
				t.Errorf("%s, want fail: there is nothing to add", res.Result)
			}
			return
		}
		var b strings.Builder
		for _, field := range []struct{ name, value string }{
			{name: "ARC-Seal", value: c.Seal},
			// It was sealed before it was folded for the suite.
			{name: "ARC-Message-Signature", value: arcSuiteB.ReplaceAllStringFunc(c.Sig, withoutSpace)},
			{name: "ARC-Authentication-Results", value: c.Results},
		} {
			b.WriteString(field.name + ": " + strings.ReplaceAll(strings.TrimSpace(field.value), "\n", "\n  ") + "\n")
		}
		want := "pass"
		if strings.Contains(c.Seal, "cv=fail") {
			want = "fail"
		}
		res := checkARC(t, zone, withCRLF(b.String()+c.Message))
		if res.Result != want {
			t.Errorf("%s (%s), want %s", res.Result, res.Reason, want)
		}
		if want == "pass" && res.OldestPass < 0 {
			t.Errorf("oldest pass %d", res.OldestPass)
		}
	})
	if count != 17 {
		t.Errorf("ran %d cases, the suite has 17", count)
	}
}
