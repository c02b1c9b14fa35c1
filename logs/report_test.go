package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// generate gives n messages' lines as Postern writes them, at one a second. Every tenth is refused, by two rules of
// which one alone would not do, and every hundredth is of a domain of its own.
func generate(n int, asJSON bool) []byte {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	for i := range n {
		action, code, score, rules, from := "accept", 250, "-0.5", "SENDER_PROVED:-0.5", "partner.example"
		if i%10 == 0 {
			action, code, score, rules = "reject", 550, "12.5", "dnsbl.zen:6,BIG:4.5,SMALL:2"
		}
		if i%100 == 1 {
			from = fmt.Sprintf("d%d.example", i)
		}
		pairs := []string{
			"time", start.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05.000Z07:00"), "level", "info", "event", "message", "v", "1",
			"action", action, "ip", fmt.Sprintf("192.0.%d.%d", i/250%250, i%250), "id", fmt.Sprintf("%08X.1", i), "code", strconv.Itoa(code), "ecode", "5.7.1",
			"by", "score", "score", score, "limit", "12", "rules", rules, "spf", "pass", "dkim", "pass", "dmarc", "pass", "dmarc_policy", "reject", "tls", "1.3",
			"rdns", "pass", "size", "31191", "rcpts", "1", "rcpts_refused", "0", "upstream", "127.0.0.1:2525", "upstream_reply", "250 2.0.0 Ok: queued as " + strconv.Itoa(i),
			"ms_total", strconv.Itoa(i % 1000), "ms_dns", "310", "ms_filters", "24", "ms_upstream", "7", "dns_lookups", "30", "dns_queries", "12", "errors", "",
			"helo", "mail.partner.example", "mail_from", "news@" + from, "rcpt_to", "alice@example.org", "from", `"News" <news@` + from + ">",
			"message_id", fmt.Sprintf("<%d@%s>", i, from),
		}
		writeLine(&b, pairs, asJSON)
	}
	return b.Bytes()
}

var numbers = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

func writeLine(b *bytes.Buffer, pairs []string, asJSON bool) {
	for i := 0; i < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		switch {
		case asJSON:
			b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + strconv.Quote(key) + ":")
			if !numbers.MatchString(value) {
				text, _ := json.Marshal(value)
				value = string(text)
			}
			b.WriteString(value)
		default:
			if i > 0 {
				b.WriteByte(' ')
			}
			if strings.ContainsAny(value, " \"\\") {
				value = strconv.Quote(value)
			}
			b.WriteString(key + "=" + value)
		}
	}
	if asJSON {
		b.WriteByte('}')
	}
	b.WriteByte('\n')
}

func report(t testing.TB, in io.Reader, span Span) *Report {
	t.Helper()
	gather := NewReporter()
	unreadable, err := Read(t.Context(), in, span, gather.Add)
	if err != nil {
		t.Fatal(err)
	}
	return gather.Report(unreadable, []string{"BIG", "NEVER"})
}

func TestReportCounts(t *testing.T) {
	rep := report(t, bytes.NewReader(generate(1000, false)), Span{})
	if d := cmp.Diff(map[string]int{"accept": 900, "reject": 100}, rep.Actions); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Limit{{Action: "reject", Score: 12}}, rep.Limits); d != "" {
		t.Error(d)
	}
	alone := make(map[string]int)
	for _, r := range rep.Rules {
		alone[r.Name] = r.Alone
	}
	// Each is more than the half point by which 12.5 exceeds 12.
	if d := cmp.Diff(map[string]int{"SENDER_PROVED": 0, "dnsbl.zen": 100, "BIG": 100, "SMALL": 100}, alone); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"NEVER"}, rep.NeverHit); d != "" {
		t.Error(d)
	}
	if a := rep.Auth[0]; a.Domain != "partner.example" || a.Messages != 990 || a.DMARC != 990 {
		t.Errorf("%+v", a)
	}
	if s := rep.Stages[0]; s.P50 < 499 || s.P50 > 562 || s.Max != 999 {
		t.Errorf("ms_total: %+v", s)
	}
}

// The same events give the same report in either format, compressed, or with a syslog daemon's words in front.
func TestFormatsAgree(t *testing.T) {
	plain := generate(300, false)
	want := report(t, bytes.NewReader(plain), Span{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(plain)
	z.Close()
	prefixed := strings.ReplaceAll(string(plain), "time=", "Nov 23 18:00:00 mx postern[7]: time=")
	for name, in := range map[string]io.Reader{
		"json": bytes.NewReader(generate(300, true)), "gzip": &packed, "syslog": strings.NewReader(prefixed),
	} {
		if d := cmp.Diff(want, report(t, in, Span{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestSpan(t *testing.T) {
	at := time.Date(2026, 11, 1, 0, 1, 0, 0, time.UTC)
	rep := report(t, bytes.NewReader(generate(300, false)), Span{Since: at, Until: at.Add(time.Minute)})
	if rep.Messages != 60 || !rep.First.Equal(at) {
		t.Errorf("%d messages from %s, expected 60 from %s", rep.Messages, rep.First, at)
	}
}

// Lines that are broken, foreign or endless are counted and cost the next line nothing.
func TestBrokenLines(t *testing.T) {
	good := string(generate(1, false))
	for _, bad := range []string{
		"hello", `time=x level=info event="open`, `{"time":"x"`, `{"time":`, "time=x " + strings.Repeat("a=b ", 1000),
		strings.Repeat("x", 3*maxLine), `{"time":"2026-11-01T00:00:00Z","level":{"event":"message"}}`,
	} {
		rep := report(t, strings.NewReader(bad+"\n"+good), Span{})
		if rep.Messages != 1 || rep.Unreadable != 1 {
			t.Errorf("%.40q: %d messages and %d unreadable, expected one of each", bad, rep.Messages, rep.Unreadable)
		}
	}
}

// A name that a stranger chose stays text on the page, and the page asks for nothing from elsewhere.
func TestPage(t *testing.T) {
	evil := strings.ReplaceAll(string(generate(200, false)), "partner.example", "<script>alert(1)</script>x.example")
	evil = strings.ReplaceAll(evil, "SMALL", "<img/src=//evil.example/x>")
	var b bytes.Buffer
	if err := report(t, strings.NewReader(evil), Span{}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	if regexp.MustCompile(`(?i)<(script|img|link|iframe)|(src|href)=["']|url\(|@import`).MatchString(html) {
		t.Error("the page has markup that a log line brought, or loads something")
	}
	if !strings.Contains(html, "&lt;img/src=//evil.example/x&gt;") {
		t.Error("the rule's name is not shown as text")
	}
	for id, bars := range map[string]int{"series": 2, "scores": 2} {
		chart := regexp.MustCompile(`(?s)<svg id="` + id + `".*?</svg>`).FindString(html)
		if n := strings.Count(chart, "<rect"); n != bars {
			t.Errorf("%s: %d bars, expected %d", id, n, bars)
		}
		if err := xml.Unmarshal([]byte(chart), new(struct{})); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if !strings.Contains(html, "reject at 12</text>") {
		t.Error("the threshold is not marked")
	}
}

// However many domains there are, memory is bounded and the frequent ones are found.
func TestTopIsBounded(t *testing.T) {
	top := newTop[struct{}](100)
	for i := range 50000 {
		top.add([]byte(strconv.Itoa(i)), 1)
		if i%50 == 0 {
			top.add([]byte("often"), 1)
		}
	}
	if n := len(top.entries); n > 200 {
		t.Errorf("%d entries are kept", n)
	}
	if first := top.ranking(1)[0]; first.key != "often" || first.count < 900 {
		t.Errorf("the first is %s with %d", first.key, first.count)
	}
}

func TestHistogramBuckets(t *testing.T) {
	for ms := range int64(100000) {
		if top := ceiling(bucket(ms)); top < ms || top > ms+ms/8 {
			t.Fatalf("%d ms are told as %d", ms, top)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(generate(2, false))
	f.Add(generate(2, true))
	f.Add([]byte(`time=x level=info event="a\` + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var b bytes.Buffer
		rep := report(t, bytes.NewReader(in), Span{})
		if err := rep.WriteHTML(&b); err != nil {
			t.Error(err)
		}
		if err := rep.WriteText(&b, strconv.Quote); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkReport reads a million lines an iteration in each format.
func BenchmarkReport(b *testing.B) {
	for _, asJSON := range []bool{false, true} {
		chunk := generate(50000, asJSON)
		b.Run(map[bool]string{true: "json", false: "logfmt"}[asJSON], func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(20 * int64(len(chunk)))
			for b.Loop() {
				gather := NewReporter()
				for range 20 {
					if _, err := Read(b.Context(), bytes.NewReader(chunk), Span{}, gather.Add); err != nil {
						b.Fatal(err)
					}
				}
				if rep := gather.Report(0, nil); rep.Messages != 1000000 {
					b.Fatalf("%d messages", rep.Messages)
				}
			}
		})
	}
}
