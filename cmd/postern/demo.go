package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/cmd/postern/samples"
	"postern/filters/dns/zone"
	"postern/proxy"
)

var demoCommand = &command{
	name:    "demo",
	args:    "[-dir FOLDER] [-log]",
	summary: "run the proxy on a free port, send sample mail through it, print the verdicts",
	help: `
Starts the proxy, a small mail server behind it and a DNS server with a built-in zone, all on free ports of the loopback
address, and sends sample messages through them over SMTP. Prints what each was, the verdict, the score, the rules that
made it, the reply that the client heard, and where the accepted ones were delivered. It needs no configuration, no
network and no root. Exits 1 when a verdict is not the one that the sample expects.`,
	run: runDemo,
}

func runDemo(ctx context.Context, c *call) int {
	dir := c.flags.String("dir", "", "deliver below this `FOLDER` (default a new temporary one)")
	showLog := c.flags.Bool("log", false, "print the log lines too")
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	if *dir == "" {
		var err error
		if *dir, err = os.MkdirTemp("", "postern-demo-"); err != nil {
			return c.fail(err)
		}
	}
	unexpected, err := demo(ctx, c.stdout, *dir, *showLog)
	switch {
	case err != nil:
		return c.fail(err)
	case unexpected > 0:
		return c.fail(fmt.Errorf("%d verdicts are not the expected ones", unexpected))
	}
	return exitFine
}

// demoConfig is what the demo serves: the addresses of the mail server and of DNS, and the quarantine's folder, go in.
const demoConfig = `
hostname: mx.example.org
domains: [example.org, company.com]
listen:
  - address: 127.0.0.1:0
    xclient: [127.0.0.1]          # the demo's client takes the senders' addresses by XCLIENT
upstream:
  - address: smtp://%s
dns: {servers: ["%s"]}
filters:
  dnsbl:
    lists:
      - {zone: dnsbl.example, score: 6}
quarantine: maildir:%s
policy: {tag: 5, quarantine: 8, reject: 12}
log: {format: json}
`

// demo sends all samples and prints the table. It returns how many verdicts were not the expected ones.
func demo(ctx context.Context, w io.Writer, dir string, showLog bool) (unexpected int, err error) {
	list, err := samples.All()
	if err != nil {
		return 0, err
	}
	names, err := serveZone()
	if err != nil {
		return 0, err
	}
	defer names.Close()
	behind, err := startMailServer(dir, "alice@example.org", "bob@example.org", "alice@company.com")
	if err != nil {
		return 0, err
	}
	defer behind.close()
	text := fmt.Sprintf(demoConfig, behind.addr(), names.Addr(), filepath.Join(dir, "quarantine"))
	cfg, err := proxy.ParseConfig("demo.yaml", []byte(text))
	if err != nil {
		return 0, err
	}
	lines := newLogLines()
	server, stop, err := startProxy(ctx, cfg, lines)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()

	stored := &storedFiles{dir: dir, known: make(map[string]bool)}
	stored.since() // what an earlier run left in the folder
	started := time.Now()
	fmt.Fprintf(w, "Postern serves %s in front of a mail server at %s, with a built-in DNS zone.\n\n", server.Addrs()[0], behind.addr())
	fmt.Fprintf(w, "%-11s %5s  %s\n", "VERDICT", "SCORE", "MESSAGE")
	var seen []string
	for _, s := range list {
		reply, err := sendSample(ctx, server.Addrs()[0], s)
		if err != nil {
			return unexpected, fmt.Errorf("%s: %w", s.File, err)
		}
		line, raw, err := lines.nextMessage(ctx)
		if err != nil {
			return unexpected, fmt.Errorf("%s: %w", s.File, err)
		}
		fmt.Fprintf(w, "%-11s %5s  %s\n", line.Action, line.Score, s.Title)
		printRow(w, "rules", strings.ReplaceAll(orNone(line.Rules), ",", "  "))
		printRow(w, "reply", printable(reply))
		for _, file := range stored.since() {
			printRow(w, "mail", file)
		}
		if !line.meets(s.Expect) {
			unexpected++
			printRow(w, "BUT", fmt.Sprintf("expected %s with %d", s.Expect.Action, s.Expect.Code))
		}
		seen = append(seen, raw)
	}
	fmt.Fprintf(w, "\n%d messages in %d ms; the mail is below %s\n", len(list), time.Since(started).Milliseconds(), dir)
	if showLog {
		fmt.Fprintf(w, "\nThe log:\n%s", strings.Join(seen, ""))
	}
	return unexpected, nil
}

func serveZone() (*zone.Server, error) {
	src, err := samples.Zone()
	if err != nil {
		return nil, err
	}
	z, err := zone.Parse("zone", src)
	if err != nil {
		return nil, err
	}
	return zone.Serve(z)
}

func startProxy(ctx context.Context, cfg *proxy.Config, lines *logLines) (*proxy.Server, func() error, error) {
	logger := slog.New(proxy.NewLogHandler(proxy.LogTo(lines), cfg.Log.Format, slog.LevelInfo))
	rt, err := proxy.NewRuntime(ctx, cfg, proxy.RuntimeOptions{Log: logger, OwnTests: true})
	if err != nil {
		return nil, nil, err
	}
	server, err := proxy.NewServer(rt, logger)
	if err != nil {
		return nil, nil, err
	}
	if err := server.Listen(); err != nil {
		server.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	return server, func() error {
		cancel()
		return <-ended
	}, nil
}

// logLines receives the proxy's log and keeps the message lines apart.
type logLines struct {
	messages chan string
}

func newLogLines() *logLines { return &logLines{messages: make(chan string, 64)} }

func (l *logLines) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(`"event":"message"`)) {
		select {
		case l.messages <- string(p):
		default: // more lines than messages were sent: nobody waits for them
		}
	}
	return len(p), nil
}

// A messageLine is what the table shows of a message's log line.
type messageLine struct {
	Action string      `json:"action"`
	Code   int         `json:"code"`
	Score  json.Number `json:"score"`
	Rules  string      `json:"rules"`
	By     string      `json:"by"`
}

// lineLimit bounds the wait for a line that is written before the client hears the end of its session.
const lineLimit = 10 * time.Second

func (l *logLines) nextMessage(ctx context.Context) (messageLine, string, error) {
	ctx, cancel := context.WithTimeout(ctx, lineLimit)
	defer cancel()
	select {
	case raw := <-l.messages:
		var line messageLine
		err := json.Unmarshal([]byte(raw), &line)
		return line, raw, err
	case <-ctx.Done():
		return messageLine{}, "", errors.New("no log line for the message")
	}
}

func (m messageLine) meets(e samples.Expect) bool {
	action := m.Action
	if action == "reject" && m.By == "upstream" {
		action = "refuse"
	}
	return action == e.Action && m.Code == e.Code
}

// printRow prints one line below a message's first one.
func printRow(w io.Writer, name, value string) {
	fmt.Fprintf(w, "%19s%-5s  %s\n", "", name, value)
}

// storedFiles tells the files that appeared in the Maildirs below a folder.
type storedFiles struct {
	dir   string
	known map[string]bool
}

// since lists, relative to the folder, what was not there at the last call.
func (f *storedFiles) since() []string {
	found, err := filepath.Glob(filepath.Join(f.dir, "*", "new", "*"))
	if err != nil {
		return nil // only a bad pattern fails
	}
	var fresh []string
	for _, path := range found {
		if f.known[path] {
			continue
		}
		f.known[path] = true
		if name, err := filepath.Rel(f.dir, path); err == nil {
			path = name
		}
		fresh = append(fresh, path)
	}
	return fresh
}
