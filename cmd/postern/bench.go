package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"postern/filters/dns/zone"
	"postern/proxy"
)

var benchCommand = &command{
	name: "bench",
	args: "[-messages PATH] [-connections N] [-count N] [-duration D] [-warmup N] [-idle N] [-config FILE] " +
		"[-checks=false] [-rules=false] [-direct] [-nginx] [-dns-delay D] [-profile FOLDER] [-json]",
	summary: "measure what the proxy carries on this machine",
	help: `
Starts the proxy as a process of its own, a mail server behind it that takes everything, and a DNS server that answers
about the senders, all on the loopback address, and sends mail through the proxy: one message a connection, the clients'
addresses told by the PROXY protocol. Prints messages a second, latency, the proxy's processor time a message and its
memory. It needs no network and no root.

Without -messages it makes a mix of its own, the same at each run: up to 400 messages, median 4 KB, mean 15 KB, four in five
signed, from 400 domains with SPF, DKIM and DMARC records and five hosts each. PATH is an .eml file, a folder (walked), a
Maildir or an mbox; the DNS server knows nothing about the domains of these.

Without -config the checks are the default ones and three DNSBLs. Of FILE, filters, policy, limits and budgets are taken;
listeners, upstreams, DNS, domains, networks, log and store are the measurement's own.

Exits 1 when a message fails or is refused, or the mail server does not have as many messages as were accepted.`,
}

func init() { benchCommand.run = runBench } // it starts itself anew, by its name

// benchOptions is what the flags say.
type benchOptions struct {
	messages    string
	connections int
	count       int64
	duration    time.Duration
	warmup      int64
	idle        int
	config      string
	checks      bool
	rules       bool
	direct      bool
	nginx       bool
	delay       time.Duration
	profile     string
	json        bool
}

// What bounds the flags.
const (
	benchMostConnections = 50_000
	benchMostMessages    = 10_000_000
)

func runBench(ctx context.Context, c *call) int {
	if len(c.args) == 2 && c.args[0] == benchProxyWord {
		return runBenchProxy(ctx, c, c.args[1])
	}
	var o benchOptions
	c.flags.StringVar(&o.messages, "messages", "", "send the messages in `PATH` (default a made mix)")
	c.flags.IntVar(&o.connections, "connections", 20, "send over `N` connections at once")
	c.flags.Int64Var(&o.count, "count", 0, "end after `N` messages; 0: when the time is over")
	c.flags.DurationVar(&o.duration, "duration", 10*time.Second, "end after the time `D`; no limit where only -count is given")
	c.flags.Int64Var(&o.warmup, "warmup", 2000, "first send `N` messages that fill the caches and do not count")
	c.flags.IntVar(&o.idle, "idle", 1000, "measure the memory of `N` idle connections; 0: leave that out")
	c.flags.StringVar(&o.config, "config", "", "take the checks of this configuration `FILE`")
	c.flags.BoolVar(&o.checks, "checks", true, "run the checks")
	c.flags.BoolVar(&o.rules, "rules", true, "evaluate the content rules")
	c.flags.BoolVar(&o.direct, "direct", false, "leave the proxy out: measure generator and mail server by themselves")
	c.flags.BoolVar(&o.nginx, "nginx", false, "then compare with nginx's stream proxy, in turn, which passes octets on and reads none of them")
	c.flags.DurationVar(&o.delay, "dns-delay", 0, "have each DNS answer take the time `D`")
	c.flags.StringVar(&o.profile, "profile", "", "write profiles of the proxy into `FOLDER`: processor, allocations, heap with idle connections")
	c.flags.BoolVar(&o.json, "json", false, "print one object of JSON")
	if code, ok := c.parse(); !ok {
		return code
	}
	if problem := o.problem(c); problem != "" {
		return c.misuse("%s", problem)
	}
	report, err := bench(ctx, c.stderr, o)
	if err != nil {
		return c.explain(err)
	}
	if err := report.print(c.stdout, o.json); err != nil {
		return c.fail(err)
	}
	if problem := report.problem(); problem != "" {
		return c.fail(errors.New(problem))
	}
	return exitFine
}

// problem says what is wrong with the flags; "" for nothing.
func (o *benchOptions) problem(c *call) string {
	given := c.given()
	if given["count"] && !given["duration"] {
		o.duration = 0
	}
	switch {
	case c.flags.NArg() > 0:
		return fmt.Sprintf("unexpected argument %q", c.flags.Arg(0))
	case o.connections < 1 || o.connections > benchMostConnections:
		return fmt.Sprintf("-connections %d, expected 1 to %d", o.connections, benchMostConnections)
	case o.idle < 0 || o.idle > benchMostConnections:
		return fmt.Sprintf("-idle %d, expected 0 to %d", o.idle, benchMostConnections)
	case given["count"] && o.count < 1 || o.count > benchMostMessages:
		return fmt.Sprintf("-count %d, expected 1 to %d", o.count, benchMostMessages)
	case o.warmup < 0 || o.warmup > benchMostMessages:
		return fmt.Sprintf("-warmup %d, expected 0 to %d", o.warmup, benchMostMessages)
	case o.duration < 0 || o.duration == 0 && o.count == 0:
		return fmt.Sprintf("-duration %v, expected more than 0", o.duration)
	case o.delay < 0:
		return fmt.Sprintf("-dns-delay %v, expected 0 or more", o.delay)
	case o.direct && (o.config != "" || o.profile != "" || o.nginx):
		return "-direct leaves out the proxy, and so takes neither -config nor -profile nor -nginx"
	}
	return ""
}

// given tells which flags the command line has.
func (c *call) given() map[string]bool {
	names := make(map[string]bool)
	c.flags.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}

// bench measures.
func bench(ctx context.Context, stderr io.Writer, o benchOptions) (report *benchReport, err error) {
	b := &benchRun{o: o, stderr: stderr}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	outcome, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	report = newBenchReport(o, b.mail, outcome)
	if o.nginx {
		if report.Nginx, err = b.compare(ctx); err != nil {
			return nil, err
		}
	}
	report.lost = b.accepted - b.sink.taken.Load()
	if o.direct {
		return report, nil
	}
	report.use(b.before, b.after, b.queries)
	if start := b.proxy.started.RSS; start > 0 {
		report.Busy = (b.after.Peak - start) / int64(o.connections)
	}
	err, b.proxy = b.proxy.stop(), nil
	if err == nil && o.idle > 0 {
		report.Idle, err = b.idle(ctx)
	}
	return report, err
}

// A benchRun is one measurement: what is sent, the servers around the proxy, and the proxy.
type benchRun struct {
	o        benchOptions
	stderr   io.Writer
	mail     *benchMail
	dir      string
	sink     *benchSink
	names    *zone.Server
	proxy    *benchProxy
	before   benchUsage // of the load that counts
	after    benchUsage
	queries  int   // to DNS, for the load that counts
	accepted int64 // messages, those of the warm-up too
}

func (b *benchRun) prepare(ctx context.Context) (err error) {
	if b.o.config != "" {
		if _, err := proxy.LoadConfig(b.o.config); err != nil {
			return err
		}
	}
	switch {
	case b.o.messages != "":
		b.mail, err = storedMail(ctx, b.o.messages)
	case b.o.count > 0:
		b.mail, err = madeMail(int(b.o.warmup + b.o.count))
	default:
		b.mail, err = madeMail(benchMessages)
	}
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "postern-bench-"); err != nil {
		return err
	}
	if b.o.profile != "" {
		if err := os.MkdirAll(b.o.profile, 0o755); err != nil {
			return err
		}
	}
	if b.sink, err = startBenchSink(); err != nil {
		return err
	}
	z, err := benchZone(b.mail)
	if err != nil {
		return err
	}
	if b.names, err = zone.Serve(z); err != nil {
		return err
	}
	b.names.SetDelay(b.o.delay)
	if b.o.direct {
		return nil
	}
	b.proxy, err = b.startProxy(ctx)
	return err
}

func (b *benchRun) startProxy(ctx context.Context) (*benchProxy, error) {
	return startBenchProxy(ctx, b.stderr, benchSettings{
		Config:  b.o.config,
		Dir:     b.dir,
		Sink:    b.sink.addr(),
		DNS:     b.names.Addr(),
		Room:    b.o.connections + b.o.idle + 100,
		Checks:  b.o.checks,
		Rules:   b.o.rules,
		Profile: b.o.profile,
	})
}

func (b *benchRun) close() error {
	var errs []error
	if b.proxy != nil {
		errs = append(errs, b.proxy.stop())
	}
	if b.names != nil {
		errs = append(errs, b.names.Close())
	}
	if b.sink != nil {
		b.sink.close()
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// load warms up and sends.
func (b *benchRun) load(ctx context.Context) (*benchOutcome, error) {
	l := &benchLoad{addr: b.sink.addr(), mail: b.mail, connections: b.o.connections}
	if b.proxy != nil {
		l.addr, l.proxied = b.proxy.addr, true
	}
	shown := newProgress(b.stderr)
	defer shown.end()
	if b.o.warmup > 0 {
		l.count = b.o.warmup
		warm, err := l.run(ctx, 0, func(int64) {})
		if err != nil {
			return nil, err
		}
		b.accepted += warm.delivered
	}
	var err error
	if b.before, err = b.tell("usage", "profile"); err != nil {
		return nil, err
	}
	asked := b.names.Total()
	l.count, l.duration = b.o.count, b.o.duration
	outcome, err := l.run(ctx, b.o.warmup, func(done int64) { shown.at(int(done)) })
	if err != nil {
		return nil, err
	}
	b.accepted += outcome.delivered
	b.queries = b.names.Total() - asked
	b.after, err = b.tell("usage", "profiled")
	return outcome, err
}

// tell says a word to the proxy, where there is one, and another one where it is being profiled.
func (b *benchRun) tell(word, profiling string) (benchUsage, error) {
	if b.proxy == nil {
		return benchUsage{}, nil
	}
	usage, err := b.proxy.tell(word)
	if err == nil && b.o.profile != "" {
		_, err = b.proxy.tell(profiling)
	}
	return usage, err
}
