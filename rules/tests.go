package rules

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// A Case is a test of a rule, ready to be run.
type Case struct {
	Rule    *Rule
	Want    Want
	Pos     Pos
	Mail    []byte // with CRLF line ends
	IP      netip.Addr
	RDNS    string
	Helo    string
	From    string
	Rcpts   []string
	Auth    map[string]string // results by part of auth; also given to the rules without the builder's help
	Symbols []string          // findings of checks, each as often as it was found; as above
	TLS     string            // "1.2", "1.3"; "" without
	DNS     DNS               // what the checks are to find in DNS; nil: they are not run
	Time    time.Time         // zero: any

	counts map[string]int
	err    error
}

// Tests returns the tests of all rules, those of shadow rules too and those of rules that are off not, in their order.
// The files that tests name are read.
func (s *Set) Tests() []Case {
	var cases []Case
	for i := range s.rules {
		r := &s.rules[i]
		if r.when == nil {
			continue
		}
		for j := range r.rule.Tests {
			cases = append(cases, s.newCase(r.rule, &r.rule.Tests[j]))
		}
	}
	return cases
}

func (s *Set) newCase(r *Rule, t *Test) Case {
	c := Case{
		Rule: r, Want: t.Want, Pos: t.Pos, IP: t.IP, RDNS: t.RDNS, Helo: t.Helo, From: t.From, Rcpts: t.Rcpts,
		Auth: t.Auth, Time: t.Time, TLS: t.TLS, DNS: t.DNS, counts: t.Symbols,
	}
	for _, name := range names(t.Symbols) {
		for range min(t.Symbols[name], 1000) {
			c.Symbols = append(c.Symbols, name)
		}
	}
	if t.File == "" {
		c.Mail = crlf(t.Mail)
		return c
	}
	src, err := s.opt.ReadFile(beside(t.Pos.File, t.File))
	if err != nil {
		c.err = fmt.Errorf("the mail of the test cannot be read: %w", err)
	}
	c.Mail = crlf(string(src))
	return c
}

// A Failure is a test that did not come out as expected.
type Failure struct {
	Case Case
	Got  string // "hit", "miss" or "unknown"; "error" when the test could not be run
	Why  string // the condition that was not as expected, with what it saw
}

// Error words the failure as `file:line:col: rule X: test expected hit, got miss: why`.
func (f Failure) Error() string {
	return fmt.Sprintf("%s: rule %s: test expected %s, got %s: %s", f.Case.Pos, f.Case.Rule.ID, f.Case.Want, f.Got, f.Why)
}

// RunTests runs all tests. build makes a subject of a case's mail and envelope; the case's authentication results,
// symbols and time are laid over it. A symbol in capitals says that the rule of that name has hit.
func (s *Set) RunTests(ctx context.Context, build func(Case) (Subject, error)) []Failure {
	return s.RunTestsOf(ctx, build, func(string) bool { return true })
}

// RunTestsOf is RunTests for the files that are asked for by name.
func (s *Set) RunTestsOf(ctx context.Context, build func(Case) (Subject, error), asked func(file string) bool) []Failure {
	var failures []Failure
	for _, c := range s.Tests() {
		if !asked(c.Pos.File) {
			continue
		}
		if f, failed := s.runTest(ctx, c, build); failed {
			failures = append(failures, f)
		}
	}
	return failures
}

func (s *Set) runTest(ctx context.Context, c Case, build func(Case) (Subject, error)) (Failure, bool) {
	tr, err := s.try(ctx, c, build)
	if err != nil {
		return Failure{Case: c, Got: "error", Why: err.Error()}, true
	}
	if tr.passed() {
		return Failure{}, false
	}
	return Failure{Case: c, Got: tr.got(), Why: s.rules[tr.index].when.why(tr.st, nil, tr.want()).String()}, true
}

// A trial is a test that was run: the message under evaluation, and what its rule says of it.
type trial struct {
	st      *state
	subject Subject
	test    Case
	index   int // of the rule
	truth   Truth
}

// An Unanswerer is a subject of a test that has noted which questions to DNS the test has no answer to.
type Unanswerer interface {
	Unanswered() []string
}

func (s *Set) try(ctx context.Context, c Case, build func(Case) (Subject, error)) (trial, error) {
	if c.err != nil {
		return trial{}, c.err
	}
	subject, err := build(c)
	if err != nil {
		return trial{}, err
	}
	if err := ctx.Err(); err != nil {
		return trial{}, err
	}
	st := newState(ctx, s, testSubject{Subject: subject, test: c})
	st.preset = map[string]bool{}
	for name := range c.counts {
		if idForm.MatchString(name) && name != c.Rule.ID {
			st.preset[name] = true
		}
	}
	i := slices.IndexFunc(s.rules, func(r compiledRule) bool { return r.rule == c.Rule })
	return trial{st: st, subject: subject, test: c, index: i, truth: st.rule(i)}, nil
}

func (t trial) want() Truth {
	if t.test.Want == Miss {
		return False
	}
	return True
}

func (t trial) passed() bool { return (t.truth == True) == (t.want() == True) }

func (t trial) got() string {
	switch t.truth {
	case True:
		return string(Hit)
	case Unknown:
		return "unknown"
	}
	return string(Miss)
}

// An Outcome is what came of a test.
type Outcome struct {
	Case   Case
	Passed bool
	Got    string // as in [Failure]
	Why    string // where it failed, as in [Failure]
	When   *Step  // where it failed, what each condition saw; nil where it could not be run

	// Unanswered are the questions to DNS, such as "TXT _dmarc.shop.example", to which the test has no answer, where it failed
	// and has others.
	Unanswered []string
}

// RunTest runs one of [Set.Tests] as [Set.RunTests] does, and explains a failure.
func (s *Set) RunTest(ctx context.Context, c Case, build func(Case) (Subject, error)) Outcome {
	tr, err := s.try(ctx, c, build)
	if err != nil {
		return Outcome{Case: c, Got: "error", Why: err.Error()}
	}
	o := Outcome{Case: c, Passed: tr.passed(), Got: tr.got()}
	if !o.Passed {
		r := &s.rules[tr.index]
		o.Why = r.when.why(tr.st, nil, tr.want()).String()
		o.When = tr.st.explainRule(r, tr.truth).When
		if u, ok := tr.subject.(Unanswerer); ok {
			o.Unanswered = u.Unanswered()
		}
	}
	return o
}

// testSubject lays what a test says about the checks over a subject.
type testSubject struct {
	Subject
	test Case
}

func (t testSubject) Auth(part string) Answer {
	v, ok := t.test.Auth[part]
	if !ok {
		return t.Subject.Auth(part)
	}
	return Answer{Values: []string{v}, Unknown: v == "temperror"}
}

func (t testSubject) Symbol(name string) (count int, score int32, unknown bool) {
	if n, ok := t.test.counts[name]; ok {
		return n, 0, false
	}
	return t.Subject.Symbol(name)
}

func (t testSubject) Now() time.Time {
	if !t.test.Time.IsZero() {
		return t.test.Time
	}
	return t.Subject.Now()
}

var _ Subject = testSubject{}

// Counts returns how often a case says that each symbol was found.
func (c Case) Counts() map[string]int { return maps.Clone(c.counts) }
