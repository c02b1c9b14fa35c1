package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"postern/logs"
	"postern/proxy"
)

var logsCommand = &command{
	name:    "logs",
	args:    "report | trace | shadow | follow",
	summary: "make sense of the log",
	help: `
Reads log files, plain or compressed by gzip, in either format; without FILE, or for -, standard input.`,
	verbs: []*command{logsReportCommand, logsTraceCommand, logsShadowCommand, logsFollowCommand},
}

var logsReportCommand = &command{
	name:    "logs report",
	args:    "[-since T] [-until T] [-config FILE] [-json] [-html FILE] [FILE...]",
	summary: "what was done, by whom it was asked for, what failed and how long it took",
	help: `
Reads log files, plain or compressed by gzip, in either format; without FILE, or for -, standard input. Prints messages by
verdict, score and hour; what each rule did; who was refused; authentication by domain; the servers behind; times; errors.

T is a time (2026-11-23T18:00:00Z), a day (2026-11-23, in UTC), or how long ago (36h). With -config the rules of the
configuration are listed that never hit.

  postern logs report /var/log/postern.log
  zcat /var/log/postern.log.*.gz | postern logs report -since 168h -html report.html`,
	run: runLogsReport,
}

// A logInput is the log that a command works on, as its flags and arguments say.
type logInput struct {
	c            *call
	since, until *string
	span         logs.Span
	unreadable   int
}

func (c *call) logFlags() *logInput {
	return &logInput{
		c:     c,
		since: c.flags.String("since", "", "leave out what is before the time `T`"),
		until: c.flags.String("until", "", "leave out what is not before the time `T`"),
	}
}

// prepare reads the times; it is to be called when the flags are parsed.
func (in *logInput) prepare() error {
	var err error
	if in.span.Since, err = parseWhen(*in.since, time.Now()); err != nil {
		return fmt.Errorf("-since: %w", err)
	}
	if in.span.Until, err = parseWhen(*in.until, time.Now()); err != nil {
		return fmt.Errorf("-until: %w", err)
	}
	return nil
}

// parseWhen reads a time, a day, or how long before now it is.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time, expected 2026-11-23T18:00:00Z, 2026-11-23 or a duration like 36h", s)
}

// read gives every record of the files.
func (in *logInput) read(ctx context.Context, files []string, visit func(*logs.Record)) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		if err := in.readFile(ctx, name, visit); err != nil {
			return err
		}
	}
	return nil
}

func (in *logInput) readFile(ctx context.Context, name string, visit func(*logs.Record)) error {
	r := in.c.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("cannot open the log: %w", err)
		}
		defer f.Close()
		r = f
	}
	n, err := logs.Read(ctx, r, in.span, visit)
	in.unreadable += n
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func runLogsReport(ctx context.Context, c *call) int {
	in := c.logFlags()
	config := c.flags.String("config", "", "tell which rules of the configuration `FILE` never hit")
	asJSON := c.flags.Bool("json", false, "print one object of JSON")
	html := c.flags.String("html", "", "write the report as a page with charts to `FILE`; - for the standard output")
	files, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	if err := in.prepare(); err != nil {
		return c.misuse("%v", err)
	}
	if *asJSON && *html != "" {
		return c.misuse("-json and -html do not go together")
	}
	known, err := c.ruleNames(ctx, *config)
	if err != nil {
		return c.explain(err)
	}
	gather := logs.NewReporter()
	if err := in.read(ctx, files, gather.Add); err != nil {
		return c.fail(err)
	}
	rep := gather.Report(in.unreadable, known)
	switch {
	case *asJSON:
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	case *html == "-":
		err = rep.WriteHTML(c.stdout)
	case *html != "":
		err = writePage(*html, rep)
	default:
		err = rep.WriteText(c.stdout, printable)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitFine
}

// writePage writes the report into a file that only its owner can read: it holds addresses.
func writePage(name string, rep *logs.Report) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the page: %w", err)
	}
	return errors.Join(rep.WriteHTML(f), f.Close())
}

// ruleNames lists the rules of a configuration that are in use; none without one.
func (c *call) ruleNames(ctx context.Context, config string) ([]string, error) {
	if config == "" {
		return nil, nil
	}
	cfg, err := loadConfig(config)
	if err != nil {
		return nil, err
	}
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{NoTests: true})
	if err != nil {
		return nil, err
	}
	defer rt.Close()
	if rt.Rules == nil {
		return nil, nil
	}
	var names []string
	for _, rule := range rt.Rules.Rules() {
		names = append(names, rule.ID)
	}
	return names, nil
}
