package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/filters"
	"postern/proxy"
)

// The proxy that is measured is a process of its own, so that what it uses can be told from what the generator uses.
// The command starts itself anew, as `postern bench proxy SETTINGS`, and speaks to it over its standard input and
// output: a word a line, an answer of JSON a line. The end of the input ends it.

// benchProxyWord is the argument that makes the command the measured proxy.
const benchProxyWord = "proxy"

// benchSettings is what the measured proxy is told.
type benchSettings struct {
	Config  string // the user's file; "" for the made configuration
	Dir     string // for its log and its store
	Sink    string // host:port
	DNS     string // host:port
	Room    int    // connections at once
	Checks  bool
	Rules   bool
	Profile string // a folder for profiles; "" for none
}

// benchUsage is what the measured proxy has used so far.
type benchUsage struct {
	Address string        `json:",omitempty"` // in the first answer: where it listens
	CPU     time.Duration // user and system
	RSS     int64         // bytes now; 0 where the system does not tell
	Peak    int64         // bytes at most
	Heap    int64         // bytes allocated since the start
}

// benchConfig is what is measured where the user names no configuration. What is missing is filled in as for theirs.
var benchConfig = fmt.Sprintf(`
hostname: mx.%s
domains: upstream
listen: [{address: "127.0.0.1:0"}]
upstream: [{address: "smtp://127.0.0.1:25"}]
filters:
  dnsbl:
    lists: [{zone: %s}, {zone: %s}, {zone: %s}]
`, benchRcpt, benchLists[0], benchLists[1], benchLists[2])

// config makes the configuration that is served: the user's checks, rules, policy and limits, between the generator,
// the sink and the stub.
func (s benchSettings) config() (*proxy.Config, error) {
	cfg, err := proxy.ParseConfig("bench.yaml", []byte(benchConfig))
	if s.Config != "" {
		cfg, err = proxy.LoadConfig(s.Config)
	}
	if err != nil {
		return nil, err
	}
	cfg.Domains = proxy.Domains{Upstream: true}
	cfg.Networks = proxy.Networks{}
	cfg.Listen = []proxy.Listen{{
		Address:     "127.0.0.1:0",
		Proxy:       []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		BareNewline: "reject",
	}}
	cfg.Upstream = []proxy.Upstream{{Address: "smtp://" + s.Sink, ClientInfo: "none"}}
	cfg.Routes = nil
	cfg.DNS.Servers = []string{s.DNS}
	cfg.Log.Output = filepath.Join(s.Dir, "postern.log")
	cfg.Metrics = proxy.Metrics{}
	if cfg.Store.Path != "" {
		cfg.Store.Path = filepath.Join(s.Dir, "state.db")
	}
	if cfg.Quarantine != "" {
		cfg.Quarantine = "maildir:" + filepath.Join(s.Dir, "quarantine")
	}
	cfg.Limits.Connections, cfg.Limits.PerIP = s.Room, s.Room
	cfg.Limits.Arrivals, cfg.Limits.Mails = 1_000_000, 1_000_000
	cfg.Limits.Banner = 0 // what is measured is known clients
	cfg.Filters.Content.Enabled = cfg.Filters.Content.Enabled && s.Rules
	if !s.Checks {
		disable(&cfg.Filters)
	}
	return cfg, nil
}

// disable switches all checks off, those too that come to the configuration later.
func disable(f *filters.Config) {
	checks := reflect.ValueOf(f).Elem()
	for i := range checks.NumField() {
		checks.Field(i).FieldByName("Enabled").SetBool(false)
	}
}

// runBenchProxy is the measured process.
func runBenchProxy(ctx context.Context, c *call, text string) int {
	var settings benchSettings
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		return c.fail(fmt.Errorf("the settings of the measured proxy: %w", err))
	}
	cfg, err := settings.config()
	if err != nil {
		return c.explain(err)
	}
	if settings.Profile != "" {
		runtime.MemProfileRate = 128 << 10 // often enough for some thousand messages, and cheap enough not to show in the other profile
	}
	logger, out, err := proxy.NewLogger(cfg.Log)
	if err != nil {
		return c.fail(err)
	}
	defer out.Close()
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{Log: logger, NoTests: true})
	if err != nil {
		return c.explain(err)
	}
	server, err := proxy.NewServer(rt, logger)
	if err != nil {
		return c.fail(err)
	}
	if err := server.Listen(); err != nil {
		server.Close()
		return c.fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	err = answerBench(c.stdin, c.stdout, server.Addrs()[0], settings.Profile)
	cancel()
	if err := errors.Join(err, <-ended); err != nil {
		return c.fail(err)
	}
	return exitFine
}

// answerBench does what it is told until the input ends.
func answerBench(in io.Reader, out io.Writer, address, profile string) error {
	answers := json.NewEncoder(out)
	first, err := ownUsage()
	if err != nil {
		return err
	}
	first.Address = address
	if err := answers.Encode(first); err != nil {
		return err
	}
	words := bufio.NewScanner(in)
	for words.Scan() {
		var err error
		switch words.Text() {
		case "usage":
		case "settle":
			runtime.GC() // pools give back what they hold at the second collection
			debug.FreeOSMemory()
		case "profile":
			err = startProfile(profile)
		case "profiled":
			err = endProfile(profile)
		case "heap":
			err = writeProfile(profile, "heap")
		default:
			err = fmt.Errorf("unknown word %q", words.Text())
		}
		usage, usageErr := ownUsage()
		if err = errors.Join(err, usageErr, answers.Encode(usage)); err != nil {
			return err
		}
	}
	return words.Err()
}

func startProfile(dir string) error {
	f, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	return pprof.StartCPUProfile(f) // the file is open until the process ends
}

func endProfile(dir string) error {
	pprof.StopCPUProfile()
	return writeProfile(dir, "allocs")
}

func writeProfile(dir, name string) error {
	f, err := os.Create(filepath.Join(dir, name+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(name).WriteTo(f, 0), f.Close())
}

func ownUsage() (benchUsage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return benchUsage{}, fmt.Errorf("asking what the process has used: %w", err)
	}
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	u := benchUsage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano()), Heap: int64(heap[0].Value.Uint64())}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u, nil // not Linux: the memory stays unknown
	}
	u.RSS, u.Peak = statusBytes(string(status), "VmRSS:"), statusBytes(string(status), "VmHWM:")
	return u, nil
}

// statusBytes reads a line such as "VmRSS:	  5124 kB".
func statusBytes(status, key string) int64 {
	_, rest, _ := strings.Cut(status, "\n"+key)
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(line, "kB")), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// A benchProxy is the measured process as the generator sees it.
type benchProxy struct {
	cmd     *exec.Cmd
	words   io.WriteCloser
	answers *json.Decoder
	addr    string
	started benchUsage
}

func startBenchProxy(ctx context.Context, stderr io.Writer, settings benchSettings) (*benchProxy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the command itself: %w", err)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, benchCommand.name, benchProxyWord, string(text))
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	p := &benchProxy{cmd: cmd, words: in, answers: json.NewDecoder(out)}
	first, err := p.answer()
	if err != nil {
		return nil, errors.Join(errors.New("the proxy did not start"), p.stop())
	}
	p.addr, p.started = first.Address, first
	return p, nil
}

func (p *benchProxy) answer() (benchUsage, error) {
	var u benchUsage
	if err := p.answers.Decode(&u); err != nil {
		return u, fmt.Errorf("the proxy has ended: %w", err)
	}
	return u, nil
}

// tell says a word and gives what the process has used by then.
func (p *benchProxy) tell(word string) (benchUsage, error) {
	if _, err := io.WriteString(p.words, word+"\n"); err != nil {
		return benchUsage{}, fmt.Errorf("the proxy has ended: %w", err)
	}
	return p.answer()
}

// stop ends the process and waits for it.
func (p *benchProxy) stop() error {
	p.words.Close()
	return p.cmd.Wait()
}
