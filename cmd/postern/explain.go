package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"postern/filters/message"
	"postern/filters/message/mailbox"
	"postern/proxy"
	"postern/rules"
)

var explainCommand = &command{
	name:    "explain",
	args:    "[-config FILE] [-json] [-offline] [-rule RULE] [-ip A] [-helo H] [-from F] [-rcpt T] PATH... | [-log FILE] ID",
	summary: "explain a verdict: each finding, what matched, the sum, the threshold that decided",
	help: `
Judges each message in PATH as scan does, and prints every finding with its score, the file and line of its rule, the text that
matched with a few words around it, and what each condition of the rule saw; then the sum, the threshold that decided,
and what rules in shadow mode would have changed. With -rule it tells of a rule that did not hit why it did not.

With -log it looks for the id of a message in a log (logfmt or JSON, plain or .gz; - is the standard input) and tells what that
says of the verdict, beside the rules as they are today. A message that is in the quarantine still is then explained in
full.

Exits 1 when a message could not be read or the id is not in the log.

  postern explain -rcpt alice@example.org message.eml
  postern explain -rule FREEMAIL_REPLYTO missed.eml
  postern explain -log /var/log/postern.log 9FF7F70E.1`,
	run: runExplain,
}

type explainFlags struct {
	scanFlags
	log   string
	rules []string
}

func runExplain(ctx context.Context, c *call) int {
	var f explainFlags
	f.register(c)
	c.flags.StringVar(&f.log, "log", "", "look the message up in the log `FILE`")
	c.flags.Func("rule", "explain this `RULE` too, whether it hit or not; may be given again", func(id string) error {
		f.rules = append(f.rules, id)
		return nil
	})
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	switch {
	case f.log != "" && len(paths) != 1:
		return c.misuse("-log FILE takes one ID")
	case len(paths) == 0:
		return c.misuse("no PATH given, expected files, folders or mboxes, or -log FILE ID")
	}
	env, err := f.envelope()
	if err != nil {
		return c.misuse("%v", err)
	}
	rt, err := f.runtime(ctx, c)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	x := &explainer{rt: rt, flags: f, out: c.stdout, marks: marksFor(c.stdout)}
	if wrong := x.unknownRule(); wrong != "" {
		return c.misuse("%s", wrong)
	}
	if f.log != "" {
		return x.fromLog(ctx, c, paths[0], env)
	}
	return x.walk(ctx, c, paths, env)
}

// unknownRule says what is wrong with the rules that were named.
func (x *explainer) unknownRule() string {
	for _, id := range x.flags.rules {
		if x.rt.Rules == nil {
			return errNoRules.Error()
		}
		if _, ok := x.rt.Rules.Describe(id); !ok {
			return noSuchRule(x.rt.Rules, id)
		}
	}
	return ""
}

// An explainer explains messages, one after the other.
type explainer struct {
	rt    *proxy.Runtime
	flags explainFlags
	out   io.Writer
	marks marks
	told  int
}

func (x *explainer) walk(ctx context.Context, c *call, paths []string, env proxy.Envelope) int {
	bad := 0
	fail := func(err error) {
		bad++
		fmt.Fprintf(c.stderr, "postern explain: %v\n", err)
	}
	for _, path := range paths {
		err := mailbox.Walk(ctx, path, func(item mailbox.Item) error {
			if item.Err != nil {
				fail(item.Err)
				return nil
			}
			msg, err := message.Read(item.Data, item.Size)
			if err != nil {
				fail(fmt.Errorf("%s: %w", printable(item.Path), err))
				return nil
			}
			return x.message(ctx, item.Path, msg, env, nil)
		})
		if err != nil {
			fail(walkError(path, err))
		}
	}
	if bad > 0 {
		return exitBad
	}
	return exitFine
}

// message explains one message. entry is its line in the log, where it was found by that.
func (x *explainer) message(ctx context.Context, path string, msg *message.Message, env proxy.Envelope, entry *logEntry) error {
	ex := x.rt.Examine(ctx, msg, env)
	defer ex.Close()
	e := &explanation{
		ScanResult: ex.ScanResult(path), Log: entry, verdict: ex.Verdict, envelope: ex.Envelope, limits: ex.Thresholds(),
		subject: decodedField(msg, "Subject"), explained: map[string]rules.Explained{},
	}
	for _, r := range ex.Explain(ctx, x.flags.rules...) {
		e.explained[r.Rule.ID] = r
		switch {
		case r.Truth == rules.Unknown:
			e.unknown = append(e.unknown, r)
		case r.Truth == rules.False:
			e.missed = append(e.missed, r)
		}
	}
	e.shadows = ex.Shadows()
	return x.print(e)
}

func decodedField(msg *message.Message, name string) string {
	f, ok := msg.Header.First(name)
	if !ok {
		return ""
	}
	return f.Decoded()
}

// print writes an explanation, for people or for programs.
func (x *explainer) print(e *explanation) error {
	if x.flags.json {
		e.fillJSON()
		enc := json.NewEncoder(x.out)
		enc.SetEscapeHTML(false)
		return enc.Encode(e)
	}
	if x.told++; x.told > 1 {
		fmt.Fprintln(x.out)
	}
	var b strings.Builder
	p := &explainPrinter{w: &b, marks: x.marks, e: e, observing: x.rt.Observing()}
	p.print()
	_, err := io.WriteString(x.out, b.String())
	return err
}
