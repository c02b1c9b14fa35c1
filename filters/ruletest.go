package filters

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"postern/filters/message"
	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// A RuleTester runs the tests that stand in rule files.
//
// The checks are not run: what they found is what a test says of it (auth, symbols). But where a test says what DNS answers,
// they are, on its mail and envelope, and ask nobody else.
type RuleTester struct {
	checks Config
	now    time.Time
}

// NewRuleTester makes one for rules that work beside these checks. Those that ask DNS are run for the tests though they
// be switched off: whether a rule does what its author meant depends on the rule alone. now is the time of tests that name none.
func NewRuleTester(checks Config, now time.Time) *RuleTester {
	for _, enabled := range []*bool{
		&checks.Iprev.Enabled, &checks.Helo.Enabled, &checks.SPF.Enabled, &checks.MailFrom.Enabled, &checks.DKIM.Enabled,
		&checks.ARC.Enabled, &checks.DMARC.Enabled, &checks.DNSBL.Enabled, &checks.Defects.Enabled,
	} {
		*enabled = true
	}
	checks.Classifier.Enabled, checks.Rate.Enabled, checks.Content.Enabled = false, false, false
	return &RuleTester{checks: checks, now: now}
}

// Test runs all tests of a set. The error is of type [strict.Problems] and lists those that fail.
func (t *RuleTester) Test(ctx context.Context, set *rules.Set) error {
	return t.testFiles(ctx, set, func(string) bool { return true })
}

// TestOwn is Test without those of packs, which are part of the program as it was tested.
func (t *RuleTester) TestOwn(ctx context.Context, set *rules.Set) error {
	return t.testFiles(ctx, set, func(file string) bool { return !packs.Shipped(file) })
}

func (t *RuleTester) testFiles(ctx context.Context, set *rules.Set, asked func(file string) bool) error {
	var problems strict.Problems
	for _, f := range set.RunTestsOf(ctx, t.Build(ctx), asked) {
		problems.Addf(f.Case.Pos, "%s", strings.TrimPrefix(f.Error(), f.Case.Pos.String()+": "))
	}
	return problems.Err()
}

// Build gives what makes the subject of a test, for [rules.Set.RunTest].
func (t *RuleTester) Build(ctx context.Context) func(rules.Case) (rules.Subject, error) {
	return func(c rules.Case) (rules.Subject, error) { return t.subject(ctx, c) }
}

func (t *RuleTester) subject(ctx context.Context, c rules.Case) (rules.Subject, error) {
	in, err := t.input(c)
	if err != nil {
		return nil, err
	}
	s := &testedSubject{subject: &subject{ctx: ctx, in: in}}
	if c.DNS != nil {
		if err := t.check(ctx, s, newTestDNS(c.DNS, t.checks.DNSBL.Own)); err != nil {
			return nil, err
		}
	}
	if c.RDNS != "" {
		s.rdns = rules.Answer{Values: []string{c.RDNS}}
	}
	return s, nil
}

// input is the message and the envelope of a test.
func (t *RuleTester) input(c rules.Case) (Input, error) {
	msg, err := message.Read(strings.NewReader(string(c.Mail)), int64(len(c.Mail)))
	if err != nil {
		return Input{}, fmt.Errorf("reading the test's mail: %w", err)
	}
	in := Input{Client: &Client{IP: c.IP}, Mail: &Mail{}, Message: msg, Now: t.now}
	if !c.Time.IsZero() {
		in.Now = c.Time
	}
	switch c.TLS {
	case "1.2":
		in.Client.TLS = &tls.ConnectionState{Version: tls.VersionTLS12}
	case "1.3":
		in.Client.TLS = &tls.ConnectionState{Version: tls.VersionTLS13}
	}
	if c.Helo != "" {
		in.Helo = &Helo{Name: c.Helo, Extended: true}
	}
	if in.Mail.From, err = ParsePath(c.From); err != nil {
		return Input{}, fmt.Errorf("from: %w", err)
	}
	for _, to := range c.Rcpts {
		path, err := ParsePath(to)
		if err != nil {
			return Input{}, fmt.Errorf("rcpt: %w", err)
		}
		in.Rcpts = append(in.Rcpts, Rcpt{To: path})
	}
	return in, nil
}

// check runs the checks, and gives the subject what they found.
func (t *RuleTester) check(ctx context.Context, s *testedSubject, names *testDNS) error {
	in := s.in
	p, err := Build(t.checks, names, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("the checks: %w", err)
	}
	run := p.Start(ctx, in.Client, func() time.Time { return in.Now })
	defer run.Close()
	if in.Helo != nil {
		run.Helo(in.Helo)
	}
	run.Mail(in.Mail)
	run.Message(in.Rcpts, in.Message)
	s.subject, s.names = run.subject(ctx), names
	return nil
}

// A testedSubject is the subject of a test.
type testedSubject struct {
	*subject
	names *testDNS // nil where the test says nothing of DNS
}

var _ rules.Unanswerer = (*testedSubject)(nil)

// Unanswered are the questions to DNS that the test has no answer to.
func (s *testedSubject) Unanswered() []string {
	if s.names == nil {
		return nil
	}
	return s.names.unansweredOnes()
}
