package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.uber.org/goleak"

	"postern/filters/dns/zone"
	"postern/proxy/peertest"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDialogues plays the files of testdata/sessions. Each is a txtar archive:
//
//	(comment)     why the case is there
//	config.yaml   what is added to the configuration; optional
//	client        what the client does: a command a line, sent after the reply to the one before; after DATA, the
//	              message up to a dot on its own line; and lines that begin with "!":
//	              !connect  !close  !tls  !stop-upstream  !start-upstream  !raw "quoted bytes"
//	want          golden: the dialogue, what the upstream got, and the log lines
//
// The client's address is 127.0.0.1 until it says otherwise by XCLIENT. The upstream knows alice and bob; "full"
// and "notdata" are recipients with a will of their own.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("../testdata/sessions/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no sessions: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := playSession(t, archive)
			if *update {
				setFile(archive, "want", got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(getFile(archive, "want")), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func getFile(a *txtar.Archive, name string) []byte {
	for _, f := range a.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func setFile(a *txtar.Archive, name, data string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(data)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(data)})
}

// baseConfig is the configuration of all sessions; the case's own keys are added.
const baseConfig = `hostname: mx.example.org
domains: [example.org, example.net]
dns: {servers: ["%s"], timeout: 10s}
listen:
  - address: 127.0.0.1:0
    xclient: [127.0.0.1]
%supstream:
  - address: %s
`

func playSession(t *testing.T, archive *txtar.Archive) string {
	sink := peertest.StartSink(t, sinkFor())
	extra, listen := splitListen(string(getFile(archive, "config.yaml")))
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), listen, "smtp://"+sink.Addr)+extra, withoutPacks)
	play := &player{t: t, proxy: p, sink: sink}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(getFile(archive, "client")), "\n"), "\n") {
		play.step(line)
	}
	play.close()
	p.stop()
	var out bytes.Buffer
	out.WriteString(play.out.String())
	for _, tx := range sink.Transactions() {
		fmt.Fprintf(&out, "\nupstream: %s\n", tx.Mail)
		for _, r := range tx.Rcpts {
			fmt.Fprintf(&out, "upstream: %s\n", r)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(tx.Data), "\r\n"), "\r\n") {
			fmt.Fprintf(&out, "  | %s\n", visible(line))
		}
	}
	out.WriteString("\n")
	for _, line := range p.events("message", "session") {
		fmt.Fprintf(&out, "log: %s\n", line)
	}
	return mask(out.String(), sink.Addr)
}

// withoutPacks keeps the goldens apart from what the shipped rules say today, unless a case has rules of its own.
func withoutPacks(c *Config) {
	if len(c.Filters.Content.Own.Rules) == 0 {
		c.Filters.Content.Enabled = false
	}
}

// splitListen takes the lines that begin with "listen: " out: they are added to the listener.
func splitListen(config string) (rest, listen string) {
	for line := range strings.SplitAfterSeq(config, "\n") {
		if more, ok := strings.CutPrefix(line, "listen: "); ok {
			listen += "    " + more
		} else {
			rest += line
		}
	}
	return rest, listen
}

// visible shows what a golden could not hold.
func visible(line string) string {
	quoted := fmt.Sprintf("%q", line)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

var masks = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile(`(\bid[= ]|X-Postern-Id: )[0-9A-F]{8}(\.\d+)?\b`), "${1}ID$2"},
	{regexp.MustCompile(`time=\S+`), "time=T"},
	{regexp.MustCompile(`ms_(\w+)=\d+`), "ms_$1=N"},
	{regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} 20\d\d \d\d:\d\d:\d\d [+-]\d{4}`), "DATE"},
	{regexp.MustCompile(`bytes_(in|out)=\d+`), "bytes_$1=N"},
	{regexp.MustCompile(`dns_(\w+)=\d+`), "dns_$1=N"},
	{regexp.MustCompile(`:\d+:(clean|listed|parked|timeout|servfail|refused|failed)\b`), ":N:$1"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`maildir:\S+`), "maildir:FOLDER"},
	{regexp.MustCompile(`\d+\.M\d+P\d+Q\d+\.\S+?mx\.example\.org`), "FILE"},
	{regexp.MustCompile(`\d+\.M\d+P\d+Q\d+\.mx\.example\.org`), "FILE"},
}

// mask replaces what differs from run to run.
func mask(s, upstream string) string {
	s = strings.ReplaceAll(s, upstream, "UPSTREAM")
	for _, m := range masks {
		s = m.find.ReplaceAllString(s, m.put)
	}
	return s
}

// sinkFor is an upstream with users.
func sinkFor() peertest.Sink {
	return peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		switch e.Verb {
		case "RCPT":
			return peertest.Answer{Reply: rcptAnswer(e.Line)}
		case ".":
			if strings.Contains(strings.Join(e.Tx.Rcpts, " "), "notdata@") {
				return peertest.Answer{Reply: "554 5.6.0 The mail server does not like this message"}
			}
			return peertest.Answer{Reply: "250 2.0.0 Ok: queued as QUEUEID"}
		}
		return peertest.Answer{}
	}}
}

func rcptAnswer(line string) string {
	_, address, _ := strings.Cut(line, "<")
	local, _, _ := strings.Cut(address, "@")
	switch strings.ToLower(local) {
	case "alice", "bob", "notdata", "postmaster", `"o'brien, pat"`:
		return ""
	case "full":
		return "452 4.2.2 Mailbox full"
	}
	return "550 5.1.1 User unknown"
}

var testZoneOnce struct {
	sync.Once
	parsed *zone.Zone
	err    error
}

// testZone serves testdata/zones/test.zone and gives the address.
func testZone(t testing.TB) string {
	t.Helper()
	testZoneOnce.Do(func() {
		src, err := os.ReadFile("../testdata/zones/test.zone")
		if err != nil {
			testZoneOnce.err = err
			return
		}
		testZoneOnce.parsed, testZoneOnce.err = zone.Parse("test.zone", src)
	})
	if testZoneOnce.err != nil {
		t.Fatal(testZoneOnce.err)
	}
	server, err := zone.Serve(testZoneOnce.parsed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server.Addr()
}

// A testProxy is a proxy that serves, and the log that it writes.
type testProxy struct {
	t      testing.TB
	server *Server
	addr   string
	stop   func()

	mu  sync.Mutex
	log bytes.Buffer
}

// startTestProxy serves a configuration until the test ends or stop is called.
func startTestProxy(t testing.TB, config string, change func(*Config)) *testProxy {
	t.Helper()
	folder := t.TempDir()
	if rules, err := os.ReadFile("../testdata/rules/sessions.yaml"); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(filepath.Join(folder, "sessions.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseConfig(filepath.Join(folder, "postern.yaml"), []byte(config))
	if err != nil {
		t.Fatalf("%v\n%s", err, config)
	}
	if change != nil {
		change(cfg)
	}
	p := &testProxy{t: t}
	logger := slog.New(NewLogHandler(LogTo(p), cfg.Log.Format, slog.LevelDebug))
	rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{Log: logger, NoTests: true})
	if err != nil {
		t.Fatal(err)
	}
	p.server, err = NewServer(rt, logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Listen(); err != nil {
		p.server.Close()
		t.Fatal(err)
	}
	p.addr = p.server.Addrs()[0]
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.server.Serve(ctx) }()
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the proxy ended with %v", err)
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

// Write takes in log lines.
func (p *testProxy) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(line)
}

// events gives the log lines of those events so far.
func (p *testProxy) events(names ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for line := range strings.Lines(p.log.String()) {
		for _, name := range names {
			if strings.Contains(line, " event="+name+" ") {
				list = append(list, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return list
}

// A player is the client of a session.
type player struct {
	t      *testing.T
	proxy  *testProxy
	sink   *peertest.SinkServer
	client *peertest.Client
	inData bool
	out    strings.Builder
}

func (p *player) step(line string) {
	if p.client == nil && line != "!connect" && !strings.HasSuffix(line, "-upstream") {
		p.step("!connect")
	}
	switch verb, arg, _ := strings.Cut(line, " "); {
	case verb == "!connect":
		p.client = peertest.Dial(p.t, p.proxy.addr)
		p.read()
	case verb == "!close":
		p.close()
	case verb == "!tls":
		p.client.Handshake(&tls.Config{InsecureSkipVerify: true})
	case verb == "!stop-upstream":
		p.sink.Stop()
	case verb == "!start-upstream":
		p.sink.Start()
	case verb == "!raw":
		var raw string
		if _, err := fmt.Sscanf(arg, "%q", &raw); err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		p.say(raw, visible(raw))
		p.inData = false
		p.read()
	case p.inData && line != ".":
		p.say(line+"\r\n", line)
	default:
		p.say(line+"\r\n", line)
		code := p.read()
		p.inData = code == 354
	}
}

func (p *player) say(raw, shown string) {
	fmt.Fprintf(&p.out, "C: %s\n", shown)
	if err := p.client.TrySend(raw); err != nil {
		fmt.Fprintf(&p.out, "(can't send)\n")
	}
}

func (p *player) read() int {
	code, text, err := p.client.Reply()
	if err != nil {
		fmt.Fprintf(&p.out, "S: (%v)\n", err)
		return 0
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		fmt.Fprintf(&p.out, "S: %d%s%s\n", code, sep, line)
	}
	return code
}

func (p *player) close() {
	if p.client != nil {
		p.client.Close()
		p.client, p.inData = nil, false
	}
}

// waitFor polls a condition that another process or goroutine brings about.
func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
