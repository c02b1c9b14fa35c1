package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/dns/zone"
	"postern/filters/message"
)

var madeMailOnce = sync.OnceValues(func() (*benchMail, error) { return madeMail(benchMessages) })

// The made mix is what its description says.
func TestBenchMail(t *testing.T) {
	mail, err := madeMailOnce()
	if err != nil {
		t.Fatal(err)
	}
	again, err := madeMail(50)
	if err != nil {
		t.Fatal(err)
	}
	signed := 0
	for i, m := range mail.messages {
		raw := bytes.TrimSuffix(m.stuffed, []byte(".\r\n"))
		if bytes.HasPrefix(raw, []byte("DKIM-Signature:")) {
			signed++
			_, raw, _ = bytes.Cut(raw, []byte("\r\nReceived:"))
		}
		if i < len(again.messages) {
			other := bytes.TrimSuffix(again.messages[i].stuffed, []byte(".\r\n"))
			if i%benchUnsigned != 0 {
				_, other, _ = bytes.Cut(other, []byte("\r\nReceived:"))
			}
			if !bytes.Equal(raw, other) {
				t.Errorf("message %d is another one at the second call", i)
			}
		}
		for line := range bytes.Lines(raw) {
			if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
				t.Fatalf("message %d has the line %.80q of %d bytes", i, line, len(line))
			}
		}
	}
	if want := benchMessages * 4 / 5; len(mail.messages) != benchMessages || signed != want {
		t.Errorf("%d of %d messages are signed, expected %d of %d", signed, len(mail.messages), want, benchMessages)
	}
	median, mean := mail.sizes()
	if median < 3500 || median > 5500 || mean < 14<<10 || mean > 17<<10 {
		t.Errorf("median %d, mean %d bytes", median, mean)
	}
}

// benchNames serves the records of the made mail until the test ends.
func benchNames(t *testing.T) (*benchMail, *zone.Server) {
	t.Helper()
	mail, err := madeMailOnce()
	if err != nil {
		t.Fatal(err)
	}
	z, err := benchZone(mail)
	if err != nil {
		t.Fatal(err)
	}
	names, err := zone.Serve(z)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { names.Close() })
	return mail, names
}

// The stub's records let every site's mail pass SPF, DKIM, DMARC and the confirmation of names.
func TestBenchZone(t *testing.T) {
	mail, names := benchNames(t)
	r, err := dns.New(dns.Config{Servers: []string{names.Addr()}, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := 1; i < 60; i++ {
		msg, err := message.Read(bytes.NewReader(mail.messages[i].stuffed), int64(len(mail.messages[i].stuffed)-3))
		if err != nil {
			t.Fatal(err)
		}
		res, err := filters.CheckDKIM(t.Context(), r, msg.Header, msg.Body(), filters.DKIMOptions{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if signed := i%benchUnsigned != 0; signed != (len(res.Passed()) == 1) {
			t.Errorf("message %d: signed %v, and %d signatures verify", i, signed, len(res.Passed()))
		}
		back, err := filters.CheckIprev(t.Context(), r, benchAddr(i, i%benchHosts))
		if err != nil || back.Name != benchHostName(i, i%benchHosts) {
			t.Errorf("the name of %s is %q: %v", benchAddr(i, i%benchHosts), back.Name, err)
		}
		for _, name := range []string{benchDomain(i), "_dmarc." + benchDomain(i)} {
			if records, err := r.TXT(t.Context(), name); err != nil || len(records) != 1 {
				t.Errorf("TXT of %s: %q, %v", name, records, err)
			}
		}
	}
}

// The sink takes what a mail server takes, and finds the end of a message there and nowhere else.
func TestBenchSink(t *testing.T) {
	sink, err := startBenchSink()
	if err != nil {
		t.Fatal(err)
	}
	defer sink.close()
	c := dial(t, sink.addr())
	c.say("EHLO a.example", 250)
	long := strings.Repeat("x", 3*benchBuffer)
	for _, message := range []string{
		"Subject: one\r\n\r\nhello\r\n",
		"..\r\nnot the end\r\n",
		long + ".\r\n",                                // a dot at the end of a line that no buffer holds
		strings.Repeat("x", benchBuffer) + ".\r\n",    // and behind a buffer that is just full
		strings.Repeat("x", benchBuffer-1) + "\r\n",   // a line end across the buffer's
		strings.Repeat("x", benchBuffer) + "\r\n\r\n", // and right behind it
		"",
	} {
		c.send("a@a.example", "b@b.example", message, 250)
	}
	if got := sink.taken.Load(); got != 7 {
		t.Errorf("it counts %d messages of 7", got)
	}
	c.say("QUIT", 221)
	dial(t, sink.addr()) // one that is left open is closed with the sink
}

// What the generator counts as refused and as failed.
func TestBenchOutcome(t *testing.T) {
	cases := []struct {
		reason  string
		replies []string // the server's, to each command in turn; then it hangs up
		want    benchOutcome
	}{
		{
			reason:  "taken",
			replies: []string{"220 hi", "250-first\r\n250 second", "250 ok", "250 ok", "354 go", "250 taken", "221 bye"},
			want:    benchOutcome{delivered: 1},
		},
		{
			reason:  "a sender that is refused; the id, which is another each time, is left out",
			replies: []string{"220 hi", "250 ok", "451 4.3.0 come again (id 9FF7F70E.1)"},
			want:    benchOutcome{refused: map[string]int64{"451 4.3.0 come again": 1}},
		},
		{
			reason:  "a message that is refused",
			replies: []string{"220 hi", "250 ok", "250 ok", "250 ok", "354 go", "550 5.7.1 no"},
			want:    benchOutcome{refused: map[string]int64{"550 5.7.1 no": 1}},
		},
		{
			reason:  "the server hangs up",
			replies: []string{"220 hi", "250 ok"},
			want:    benchOutcome{failed: map[string]int64{"EOF": 1}},
		},
		{
			reason:  "no greeting to connections beyond a limit",
			replies: []string{"421 too many"},
			want:    benchOutcome{refused: map[string]int64{"421 too many": 1}},
		},
	}
	for _, c := range cases {
		t.Run(c.reason, func(t *testing.T) {
			addr := recited(t, c.replies)
			l := &benchLoad{
				addr: addr, connections: 1, count: 1,
				mail: &benchMail{messages: []benchMessage{newBenchMessage([]byte("Subject: x\r\n\r\nhello\r\n"), "a.example", 0)}},
			}
			got, err := l.run(t.Context(), 0, func(int64) {})
			if err != nil {
				t.Fatal(err)
			}
			if got.delivered != c.want.delivered || total(got.refused) != total(c.want.refused) || total(got.failed) != total(c.want.failed) {
				t.Errorf("got %+v", got)
			}
			for _, d := range []string{cmp.Diff(orEmpty(c.want.refused), got.refused), cmp.Diff(orEmpty(c.want.failed), got.failed)} {
				if d != "" {
					t.Error(d)
				}
			}
			if len(got.whole) != int(got.delivered) || len(got.dot) != int(got.delivered) {
				t.Errorf("%d and %d times of %d messages", len(got.whole), len(got.dot), got.delivered)
			}
		})
	}
}

func orEmpty(m map[string]int64) map[string]int64 {
	if m == nil {
		return map[string]int64{}
	}
	return m
}

// recited is a server that says its replies in turn, each but the first after a command or a message.
func recited(t *testing.T, replies []string) (addr string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { inner.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := inner.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for i, reply := range replies {
			for i > 0 {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if !strings.HasPrefix(replies[i-1], "354") || line == ".\r\n" {
					break
				}
			}
			fmt.Fprintf(conn, "%s\r\n", reply)
		}
		if _, err := in.ReadString('\n'); err != nil { // so that no reply is lost to a reset
			return
		}
	}()
	return inner.Addr().String()
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		sorted  []time.Duration
		percent int
		want    time.Duration
	}{
		{sorted: nil, percent: 50, want: 0},
		{sorted: hundred[:1], percent: 99, want: 1},
		{sorted: hundred, percent: 50, want: 51},
		{sorted: hundred, percent: 99, want: 100},
		{sorted: hundred, percent: 100, want: 100},
	} {
		if got := percentile(c.sorted, c.percent); got != c.want {
			t.Errorf("p%d of %d times is %d, expected %d", c.percent, len(c.sorted), got, c.want)
		}
	}
}

// The whole command: its figures belong to the messages that it was told to send.
func TestBench(t *testing.T) {
	own := folder(t, map[string]string{
		"a.eml":        "From: a@home.example\r\nSubject: one\r\n\r\n.hello\r\n",
		"sub/b.eml":    "From: b@home.example\r\nSubject: pills\r\n\r\nhello\r\n",
		"postern.yaml": serveConfig("127.0.0.1:9", "filters: {content: {rules: [rules.yaml]}}\nstore: {path: state.db}\nquarantine: maildir:held\n"),
		"rules.yaml":   "rules:\n  - id: LOCAL_PILLS\n    action: reject\n    score: 3\n    when: {header: Subject, contains: pills}\n",
	})
	cases := []struct {
		reason    string
		args      []string
		code      int
		delivered int64
		refused   int64
		measured  bool // processor time, memory and idle connections
		asks      bool // DNS
	}{
		{
			reason: "the made mix through all checks",
			args:   []string{"-count", "60", "-warmup", "20", "-idle", "10", "-connections", "4"}, delivered: 60, measured: true, asks: true,
		},
		{
			reason: "no proxy",
			args:   []string{"-count", "30", "-warmup", "0", "-direct"}, delivered: 30,
		},
		{
			reason: "no checks; one connection and DNS that is far away",
			args:   []string{"-count", "5", "-warmup", "0", "-idle", "1", "-connections", "1", "-checks=false", "-dns-delay", "1ms"}, delivered: 5, measured: true,
		},
		{
			reason: "messages and checks of one's own, of which a rule refuses every other one",
			args:   []string{"-messages", own, "-config", filepath.Join(own, "postern.yaml"), "-count", "6", "-warmup", "0", "-idle", "1"},
			code:   exitBad, delivered: 3, refused: 3, measured: true, asks: true,
		},
	}
	for _, c := range cases {
		t.Run(c.reason, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			cmd := exec.CommandContext(t.Context(), "postern", append([]string{"bench", "-json"}, c.args...)...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Fatalf("it ends with %d: %v\n%s%s", code, err, stdout.String(), stderr.String())
			}
			var r benchReport
			if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
				t.Fatalf("%v in %q\n%s", err, stdout.String(), stderr.String())
			}
			if r.Delivered != c.delivered || total(r.Refused) != c.refused || total(r.Failed) != 0 {
				t.Errorf("delivered %d, refused %v, failed %v", r.Delivered, r.Refused, r.Failed)
			}
			if r.Whole.P50 < r.Dot.P50 || r.Whole.Max < r.Whole.P99 || r.Dot.P50 <= 0 || r.Rate <= 0 {
				t.Errorf("latency %+v and %+v, rate %v", r.Whole, r.Dot, r.Rate)
			}
			if c.measured != (r.CPU > 0) || c.measured != (r.Idle != nil) {
				t.Errorf("processor %v, idle %+v", r.CPU, r.Idle)
			}
			if c.asks != (r.Queries > 0) {
				t.Errorf("%v DNS queries a message", r.Queries)
			}
		})
	}
	if left, err := filepath.Glob(filepath.Join(own, "*")); err != nil || len(left) != 4 {
		t.Errorf("the folder of the configuration has now %q (%v)", left, err)
	}
}

// The comparison with nginx is of as many messages through each.
func TestBenchNginx(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("nginx is not installed")
	}
	t.Parallel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "postern", "bench", "-json", "-nginx", "-checks=false", "-idle", "0", "-warmup", "0", "-count", "8")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, stdout.String(), stderr.String())
	}
	var r benchReport
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if n := r.Nginx; n == nil || n.Messages != 8*benchRounds || n.Rate <= 0 || n.Own <= 0 || n.Share <= 0 || n.OwnCPU <= 0 {
		t.Errorf("compared: %+v", r.Nginx)
	}
}

// What the report looks like.
func TestBenchReport(t *testing.T) {
	r := &benchReport{
		Connections: 20, Seconds: 10, Delivered: 9000, Rate: 900, CPU: 0.7, Cores: 0.63, Queries: 1.5, Peak: 30 << 20, Busy: 600 << 10, Heap: 100 << 10,
		Nginx:   &benchComparison{Rate: 2000, Own: 1500, Share: 0.75, CPU: 0.2},
		Whole:   benchLatency{P50: 1, P95: 2, P99: 3, Max: 4.25},
		Dot:     benchLatency{P50: 0.5, P95: 1, P99: 1.5, Max: 2},
		Idle:    &benchIdle{Connections: 1000, Greeted: 8 << 10, After: 12 << 10, RSS: 40 << 20},
		Refused: map[string]int64{"451 a": 1, "451 b": 3, "451 c": 1, "550 d": 1, "550 e": 1, "550 f": 1},
		Failed:  map[string]int64{"EOF": 2},
	}
	r.Machine.System, r.Machine.Processors, r.Machine.Go = "linux/amd64", 2, "go1.26"
	r.Mail.Messages, r.Mail.Median, r.Mail.Mean = 400, 4<<10, 15<<10
	var out bytes.Buffer
	if err := r.print(&out, false); err != nil {
		t.Fatal(err)
	}
	const want = `mail       400 different messages, median 4.0 KB, mean 15.0 KB
machine    linux/amd64, 2 processors, go1.26; generator, mail server and DNS server run on it too
delivered  9000 messages in 10.0 s over 20 connections at once
rate       900 messages/s
latency    p50 1.0  p95 2.0  p99 3.0  max 4.2 ms, connection to acceptance
           p50 0.5  p95 1.0  p99 1.5  max 2.0 ms, final dot to acceptance
processor  0.700 ms a message, 0.63 cores busy
DNS        1.50 queries a message
memory     30.0 MB at most, 600.0 KB a connection; 100.0 KB allocated a message
idle       8.0 KB a connection before its first command, 12.0 KB after EHLO; 1000 of them: 40.0 MB
nginx      2000 messages/s with 0.200 ms of processor each; in turn with it the proxy carries 1500, 75 % of that
refused    3 × 451 b
           1 × 451 a
           1 × 451 c
           1 × 550 d
           1 × 550 e
           … and 1 others
failed     2 × EOF
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		report benchReport
		want   string
	}{
		{report: *r, want: "2 messages failed"},
		{report: benchReport{Refused: r.Refused}, want: "8 messages were refused"},
		{report: benchReport{}, want: "no message was delivered"},
		{report: benchReport{Delivered: 1, lost: 1}, want: "1 more messages were accepted than the mail server has"},
		{report: benchReport{Delivered: 1}, want: ""},
	} {
		if got := c.report.problem(); got != c.want {
			t.Errorf("the problem is %q, expected %q", got, c.want)
		}
	}
}
