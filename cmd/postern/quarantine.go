package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/proxy"
)

var quarantineCommand = &command{
	name:    "quarantine",
	args:    "list | show ID | release ID... | learn ID... [-ham] [-config FILE]",
	summary: "list, show and release diverted messages, and learn from them",
	help: `
Works on the Maildir that the configuration names as its quarantine.

  list           one line a message: id, time, size, sender, recipients, verdict, subject
  show ID        print the message as it is stored, its envelope on top
  release ID...  deliver the message to its recipients, unmarked, and remove it from the quarantine
  learn ID...    teach the classifier that the messages are spam (-ham: that they are not); they stay where they are

ID is the id of the log line. A message that can't be delivered to all of its recipients stays,
for those who do not have it.`,
	run: runQuarantine,
}

func runQuarantine(ctx context.Context, c *call) int {
	path := c.configFlag()
	ham := c.flags.Bool("ham", false, "learn the messages as ham")
	verb := ""
	if len(c.args) > 0 && !strings.HasPrefix(c.args[0], "-") {
		verb, c.args = c.args[0], c.args[1:]
	}
	ids, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	if verb == "" && len(ids) > 0 {
		verb, ids = ids[0], ids[1:]
	}
	switch {
	case verb == "list" && len(ids) > 0:
		return c.misuse("unexpected argument %q", ids[0])
	case verb == "show" && len(ids) != 1:
		return c.misuse("show takes one ID")
	case verb == "release" && len(ids) == 0:
		return c.misuse("release takes at least one ID")
	case verb == "learn" && len(ids) == 0:
		return c.misuse("learn takes at least one ID")
	case !slices.Contains([]string{"list", "show", "release", "learn"}, verb):
		return c.misuse("expected list, show, release or learn")
	case *ham && verb != "learn":
		return c.misuse("-ham goes with learn")
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return c.explain(err)
	}
	rt, err := proxy.NewRuntime(ctx, cfg, proxy.RuntimeOptions{NoTests: true})
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	q, err := rt.Quarantine()
	if err != nil {
		return c.fail(err)
	}
	switch verb {
	case "list":
		err = listQuarantine(c.stdout, q)
	case "show":
		err = showQuarantined(c.stdout, q, ids[0])
	case "learn":
		return c.learnQuarantined(ctx, cfg, q, ids, *ham)
	default:
		err = releaseAll(ctx, c.stdout, q, ids)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitFine
}

// parseMixed reads flags that may stand before or behind the arguments, and gives the arguments.
func (c *call) parseMixed() (args []string, code int, ok bool) {
	for {
		if code, ok := c.parse(); !ok {
			return nil, code, false
		}
		rest := c.flags.Args()
		if len(rest) == 0 {
			return args, 0, true
		}
		args, c.args = append(args, rest[0]), rest[1:]
	}
}

func listQuarantine(w io.Writer, q *proxy.Quarantine) error {
	list, err := q.List()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(w, "the quarantine is empty")
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tTIME\tSIZE\tFROM\tTO\tVERDICT\tSUBJECT")
	for _, m := range list {
		fmt.Fprintf(table, "%s\t%s\t%d\t<%s>\t%s\t%s\t%s\n", m.ID, m.Time.Format(time.DateTime), m.Size,
			printable(m.From), printable(strings.Join(m.Rcpts, ",")), printable(m.Verdict), printable(m.Subject))
	}
	return table.Flush()
}

func showQuarantined(w io.Writer, q *proxy.Quarantine, id string) error {
	f, err := q.Open(id)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func releaseAll(ctx context.Context, w io.Writer, q *proxy.Quarantine, ids []string) error {
	for _, id := range ids {
		m, err := q.Release(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Fprintf(w, "%s: delivered to %s\n", id, strings.Join(m.Rcpts, ", "))
	}
	return nil
}

func (c *call) learnQuarantined(ctx context.Context, cfg *proxy.Config, q *proxy.Quarantine, ids []string, ham bool) int {
	l := &learner{call: c, ctx: ctx, file: cfg.Path(cfg.Filters.Classifier.Own.Model)}
	if l.file == "" {
		return c.fail(errNoModel)
	}
	var files []string
	for _, id := range ids {
		m, err := q.Find(id)
		if err != nil {
			return c.fail(err)
		}
		files = append(files, m.File)
	}
	if ham {
		return l.learn(learnPaths{ham: files})
	}
	return l.learn(learnPaths{spam: files})
}
