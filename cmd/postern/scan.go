package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/message/mailbox"
	"postern/proxy"
)

var scanCommand = &command{
	name:    "scan",
	args:    "[-config FILE] [-json] [-offline] [-v] [-ip A] [-helo H] [-from F] [-rcpt T] PATH...",
	summary: "judge stored messages: files, folders, Maildirs, mboxes",
	help: `
Judges each message as if it came in now and prints the verdict with every finding. PATH is an .eml file, a folder
(walked), a Maildir or an mbox. Nothing is delivered. What the envelope was is taken from the flags, else from the
message: the client from the topmost Received field that names an address outside, the reverse-path from Return-Path.

With -json each message is one line of JSON. Exits 0 when every message was judged, 1 when one could not be read.`,
	run: runScan,
}

type scanFlags struct {
	config, ip, helo, from, rcpt string
	json, offline, verbose       bool
}

func runScan(ctx context.Context, c *call) int {
	var f scanFlags
	f.register(c)
	c.flags.BoolVar(&f.verbose, "v", false, "show findings without weight and every DNS look-up too")
	if code, ok := c.parse(); !ok {
		return code
	}
	if c.flags.NArg() == 0 {
		return c.misuse("no PATH given, expected files, folders or mboxes")
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
	s := &scanner{rt: rt, env: env, flags: f, out: c.stdout, progress: newProgress(c.stderr)}
	failed := s.scanAll(ctx, c.flags.Args())
	s.progress.end()
	for _, err := range failed {
		fmt.Fprintf(c.stderr, "postern scan: %v\n", err)
	}
	if len(failed) > 0 || s.unread > 0 {
		return exitBad
	}
	return exitFine
}

// register makes the flags that other commands on stored messages have too.
func (f *scanFlags) register(c *call) {
	c.messageConfigFlag(&f.config)
	c.flags.BoolVar(&f.json, "json", false, "one line of JSON a message")
	c.flags.BoolVar(&f.offline, "offline", false, "ask no DNS: what needs it is an error finding")
	c.flags.StringVar(&f.ip, "ip", "", "the client's `ADDRESS`")
	c.flags.StringVar(&f.helo, "helo", "", "the `NAME` given at HELO")
	c.flags.StringVar(&f.from, "from", "", "the reverse-path, an `ADDRESS`; <> for the null one")
	c.flags.StringVar(&f.rcpt, "rcpt", "", "the recipient, an `ADDRESS`; several with commas")
}

// runtime builds what judges the messages.
func (f *scanFlags) runtime(ctx context.Context, c *call) (*proxy.Runtime, error) {
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	opt := proxy.RuntimeOptions{NoTests: true}
	if f.offline {
		opt.Resolver = dns.Offline()
		fmt.Fprintln(c.stderr, "offline: no DNS is asked; checks that need it are errors")
	}
	return c.build(ctx, cfg, opt)
}

// envelope reads the flags that describe how the messages came in.
func (f *scanFlags) envelope() (proxy.Envelope, error) {
	env := proxy.Envelope{Helo: f.helo}
	var err error
	if f.ip != "" {
		if env.IP, err = netip.ParseAddr(f.ip); err != nil {
			return env, fmt.Errorf("-ip %q is not an IP address", f.ip)
		}
		env.IP = env.IP.Unmap()
	}
	if f.from != "" {
		path, err := filters.ParsePath(f.from)
		if err != nil {
			return env, fmt.Errorf("-from %q is %w", f.from, err)
		}
		env.From = &path
	}
	for to := range strings.SplitSeq(f.rcpt, ",") {
		if to = strings.TrimSpace(to); to == "" {
			continue
		}
		path, err := filters.ParsePath(to)
		if err != nil || path.Null() {
			return env, fmt.Errorf("-rcpt %q is not an address: expected local-part@domain", to)
		}
		env.Rcpts = append(env.Rcpts, filters.Rcpt{To: path})
	}
	return env, nil
}

// A scanner judges messages on all cores and prints the results in the order of the messages.
type scanner struct {
	rt       *proxy.Runtime
	env      proxy.Envelope
	flags    scanFlags
	out      io.Writer
	progress *progress
	unread   int
}

// scanAll walks the paths. What it returns are paths that could not be walked to their end.
func (s *scanner) scanAll(ctx context.Context, paths []string) []error {
	judge := func(item mailbox.Item) proxy.ScanResult { return s.rt.Scan(ctx, item, s.env) }
	return eachMessage(ctx, paths, judge, func(r proxy.ScanResult) {
		s.print(r)
		s.progress.step()
	})
}

// eachMessage walks the paths, judges the messages on all cores, and takes the results one by one in the order of the
// messages. What it returns are paths that could not be walked to their end.
func eachMessage[T any](ctx context.Context, paths []string, judge func(mailbox.Item) T, take func(T)) []error {
	pending := make(chan chan T, 2*runtime.GOMAXPROCS(0))
	workers := make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	var failed []error
	go func() {
		defer close(pending)
		for _, path := range paths {
			err := mailbox.Walk(ctx, path, func(item mailbox.Item) error {
				result := make(chan T, 1)
				select {
				case pending <- result:
				case <-ctx.Done():
					return ctx.Err()
				}
				workers <- struct{}{}
				go func() {
					result <- judge(item)
					<-workers
				}()
				return nil
			})
			if err != nil {
				failed = append(failed, walkError(path, err))
			}
		}
	}()
	for result := range pending {
		take(<-result)
	}
	return failed
}

// walkError names the path where the error does not.
func walkError(path string, err error) error {
	var bad *os.PathError
	if errors.As(err, &bad) {
		return fmt.Errorf("cannot read %s: %w", bad.Path, bad.Err)
	}
	if strings.Contains(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

func (s *scanner) print(r proxy.ScanResult) {
	if r.Action == filters.NoAction.String() {
		s.unread++
	}
	if s.flags.json {
		if !s.flags.verbose {
			r.Lookups = nil
		}
		line, err := json.Marshal(r)
		if err != nil {
			s.unread++
			return
		}
		fmt.Fprintf(s.out, "%s\n", line)
		return
	}
	if r.Action == filters.NoAction.String() {
		fmt.Fprintf(s.out, "%s: not judged\n", printable(r.Path))
		s.printErrors(r)
		return
	}
	fmt.Fprintf(s.out, "%s: %s, score %s of %s (%s)\n", printable(r.Path), r.Action, r.Score, r.Limit, r.By)
	fmt.Fprintf(s.out, "  spf=%s dkim=%s dmarc=%s arc=%s iprev=%s\n",
		orNone(r.Auth.SPF), orNone(r.Auth.DKIM), orNone(r.Auth.DMARC), orNone(r.Auth.ARC), orNone(r.Auth.Iprev))
	for _, f := range r.Findings {
		if f.Score != "0" || s.flags.verbose || f.File != "" {
			fmt.Fprintf(s.out, "  %7s  %s%s\n", f.Score, f.Symbol, findingDetail(f))
		}
	}
	s.printErrors(r)
	if s.flags.verbose {
		for _, l := range r.Lookups {
			fmt.Fprintf(s.out, "  dns      %s %s: %s\n", l.Type, printable(l.Name), printable(lookupOutcome(l)))
		}
	}
}

func (s *scanner) printErrors(r proxy.ScanResult) {
	for _, e := range r.Errors {
		fmt.Fprintf(s.out, "  error    %s\n", printable(e))
	}
}

func orNone(result string) string {
	if result == "" {
		return "-"
	}
	return result
}

func findingDetail(f proxy.ScanFinding) string {
	var b strings.Builder
	if f.Shadow {
		b.WriteString(" (shadow)")
	}
	if f.File != "" {
		fmt.Fprintf(&b, "  %s:%d", f.File, f.Line)
	}
	if f.Detail != "" {
		b.WriteString("  " + printable(f.Detail))
	}
	return b.String()
}

func lookupOutcome(l proxy.ScanLookup) string {
	if l.Error != "" {
		return l.Error
	}
	return strings.Join(l.Answer, ", ")
}
