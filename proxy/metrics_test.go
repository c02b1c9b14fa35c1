package proxy

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/message"
	"postern/proxy/peertest"
	"postern/proxy/upstream"
)

// gather gives the families of our own metrics by name.
func gather(t *testing.T, s *Server) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	own := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "postern_") {
			own[f.GetName()] = f
		}
	}
	return own
}

// samples gives the counters and gauges as name{label="value"}, and of histograms the count.
func samples(t *testing.T, s *Server) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	for name, family := range gather(t, s) {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				all[key] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				all[key] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[key] = float64(m.GetHistogram().GetSampleCount())
			default:
				t.Errorf("%s has the type %v", name, family.GetType())
			}
		}
	}
	return all
}

// expect wants those samples; what is not named is not looked at.
func expect(t *testing.T, s *Server, want map[string]float64) {
	t.Helper()
	all, got := samples(t, s), make(map[string]float64)
	for key := range want {
		if v, ok := all[key]; ok {
			got[key] = v
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// Clients that fare in different ways, and what is counted then.
func TestMetricsCount(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), withoutPacks)

	client := hello(t, p.addr)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<eve@elsewhere.example>", 550)
	client.Want("RCPT TO:<nobody@example.org>", 550)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("DATA", 354)
	client.Data(shortMessage)
	client.Expect(250)
	if code, text := client.Deliver("carol@plain.example", []string{"notdata@example.org"}, shortMessage); code != 554 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 250)
	client.Want("RSET", 250)
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<full@example.org>", 452)
	client.Want("QUIT", 221)
	client.WantClosed()

	silent := peertest.Dial(t, p.addr)
	silent.Expect(220)
	silent.Close()
	browser := peertest.Dial(t, p.addr)
	browser.Expect(220)
	browser.Want("GET / HTTP/1.1", 554)
	browser.WantClosed()
	waitFor(t, "the end of three connections", func() bool {
		all := samples(t, p.server)
		return all["postern_connections_open"] == 0 && all["postern_connections_total"] == 3
	})
	p.stop()

	expect(t, p.server, map[string]float64{
		`postern_messages_total{action="accept"}`:                                       1,
		`postern_messages_total{action="reject"}`:                                       1,
		`postern_messages_total{action="abort"}`:                                        1,
		`postern_messages_total{action="defer"}`:                                        1,
		`postern_messages_total{action="tag"}`:                                          0,
		`postern_message_size_bytes`:                                                    2,
		`postern_message_duration_seconds`:                                              2,
		`postern_message_filters_seconds`:                                               2,
		`postern_message_dns_seconds`:                                                   2,
		`postern_message_upstream_seconds`:                                              2,
		`postern_recipients_refused_total{cause="relay"}`:                               1,
		`postern_recipients_refused_total{cause="upstream"}`:                            2,
		`postern_recipients_refused_total{cause="other"}`:                               0,
		`postern_deliveries_total{outcome="accepted",target="upstream"}`:                1,
		`postern_deliveries_total{outcome="refused",target="upstream"}`:                 1,
		`postern_deliveries_total{outcome="failed",target="upstream"}`:                  0,
		`postern_connections_total`:                                                     3,
		`postern_connections_open`:                                                      0,
		`postern_sessions_total{reason="quit"}`:                                         1,
		`postern_sessions_total{reason="silent"}`:                                       1,
		`postern_sessions_total{reason="protocol"}`:                                     1,
		`postern_sessions_total{reason="other"}`:                                        0,
		`postern_upstream_up{upstream="` + p.server.runtime.Load().fallback.name + `"}`: 1,
		`postern_spool_bytes`:                                                           0,
	})
}

// An upstream that goes away between RCPT and the reply to the message: nothing was handed on.
func TestMetricsOfAFailedDelivery(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
		return peertest.Answer{Close: e.Verb == "."}
	}})
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr), withoutPacks)
	client := hello(t, p.addr)
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 451 {
		t.Fatalf("%d %s", code, text)
	}
	sink.Stop()
	client.Want("MAIL FROM:<carol@plain.example>", 250)
	client.Want("RCPT TO:<alice@example.org>", 451)
	client.Want("QUIT", 221)
	client.WantClosed()
	p.stop()
	expect(t, p.server, map[string]float64{
		`postern_messages_total{action="defer"}`:                       2,
		`postern_deliveries_total{outcome="failed",target="upstream"}`: 1,
		`postern_recipients_refused_total{cause="unreachable"}`:        1,
	})
}

// What is diverted is counted apart.
func TestMetricsOfTheQuarantine(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startTestProxy(t, fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)+
		"quarantine: maildir:"+t.TempDir()+"/held\npolicy: {tag: 0.01, quarantine: 0.02}\nfilters: {defects: {scores: {no_date: 5}}}\n", withoutPacks)
	client := hello(t, p.addr)
	if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, shortMessage); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	client.Want("QUIT", 221)
	client.WantClosed()
	p.stop()
	expect(t, p.server, map[string]float64{
		`postern_messages_total{action="quarantine"}`:                      1,
		`postern_deliveries_total{outcome="accepted",target="quarantine"}`: 1,
		`postern_deliveries_total{outcome="accepted",target="upstream"}`:   0,
	})
}

// newTestServer makes a server that is never served.
func newTestServer(t *testing.T, config string) *Server {
	t.Helper()
	rt, err := NewRuntime(t.Context(), parseConfig(t, config), RuntimeOptions{Resolver: dns.Offline(), NoTests: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(rt, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A message that came before is no delivery, although its answer is that of one.
func TestMetricsOfTheMemory(t *testing.T) {
	s := newTestServer(t, minimalConfig)
	msg, err := message.Read(strings.NewReader(shortMessage), int64(len(shortMessage)))
	if err != nil {
		t.Fatal(err)
	}
	doubt := entry{was: fate{State: inDoubt}}
	tx := transaction{rt: s.runtime.Load(), message: msg, answer: upstream.Reply{Code: 250}}
	known, again := tx, tx
	known.verdict = filters.Verdict{Action: filters.Accept, By: "memory"}
	known.attempt = &attempt{served: []entry{{}, {}}}
	again.verdict = filters.Verdict{Action: filters.Accept}
	again.attempt = &attempt{offered: true, served: []entry{{}}, due: []entry{doubt, doubt}}
	s.metrics.transaction(&known)
	s.metrics.transaction(&again)
	expect(t, s, map[string]float64{
		`postern_messages_total{action="accept"}`:                        2,
		`postern_redeliveries_total{kind="served"}`:                      2,
		`postern_redeliveries_total{kind="in_doubt"}`:                    1,
		`postern_deliveries_total{outcome="accepted",target="upstream"}`: 1,
	})
}

func TestRefusalCause(t *testing.T) {
	for _, c := range []struct {
		why, by string
		err     error
		want    string
	}{
		{"ours", "relay", nil, "relay"},
		{"the upstream said no", "upstream", nil, "upstream"},
		{"no upstream said anything", "upstream", errors.New("connection refused"), "unreachable"},
		{"a list that may refuse", "dnsbl.zen", nil, "listed"},
		{"a rule that may refuse", "BAD_CLIENT", nil, "listed"},
		{"a word that is new", "weather", nil, "other"},
		{"nothing", "", nil, "other"},
	} {
		if got := refusalCause(reply{by: c.by}, c.err); got != c.want {
			t.Errorf("%s: %q gives %q, expected %q", c.why, c.by, got, c.want)
		}
	}
}

// Every reason for which the wire ends a connection has a group, and each stands in one only.
func TestEveryEndingHasAGroup(t *testing.T) {
	files, err := os.ReadDir("wire")
	if err != nil {
		t.Fatal(err)
	}
	var src strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".go") && !strings.HasSuffix(f.Name(), "_test.go") {
			text, err := os.ReadFile("wire/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			src.Write(text)
		}
	}
	// These are said before there is a session, or say no more than that it is over.
	ungrouped := []string{"refused", "bad PROXY header", "no PROXY header", "closed", "read failed"}
	calls := regexp.MustCompile(`\bk\.(?:end|kill|bye|refuse)\((?:.*, )?"([^"]+)"(?: \+ [^,]+)?\)`).FindAllStringSubmatch(src.String(), -1)
	if len(calls) < 25 {
		t.Fatalf("only %d found", len(calls))
	}
	for _, call := range calls {
		reason, _, _ := strings.Cut(call[1], ":")
		if ending(call[1]) == "other" && !slices.Contains(ungrouped, reason) {
			t.Errorf("%q has no group", call[1])
		}
	}
	for group, reasons := range endings {
		for _, r := range reasons {
			if !strings.Contains(src.String(), `"`+r) {
				t.Errorf("the wire does not say %q any more", r)
			}
			if got := ending(r); got != group {
				t.Errorf("%q stands in %s and in %s", r, group, got)
			}
		}
	}
	if got := ending("tls handshake failed: EOF"); got != "tls_failed" {
		t.Errorf("a detail after the reason gives %q", got)
	}
}

// A metricRow is a row of a table in docs/metrics.md: a metric, its type, its labels and their values, in order.
type metricRow struct {
	Type   string
	Labels map[string][]string // nil values: names in the configuration, or of what runs
}

// docs/metrics.md names every metric with its type, its labels and their values, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	s := newTestServer(t, minimalConfig+"filters: {dnsbl: {lists: [{zone: dnsbl.example}]}}\n")
	s.metrics.transaction(&transaction{
		verdict: filters.Verdict{Action: filters.Accept},
		result:  filters.Result{Errors: []filters.CheckError{{Check: "spf", Err: errors.New("no")}}},
	})
	free := map[string]bool{"check": true, "upstream": true, "zone": true, "version": true, "goversion": true}
	got := make(map[string]metricRow)
	for name, family := range gather(t, s) {
		row := metricRow{Type: strings.ToLower(family.GetType().String()), Labels: make(map[string][]string)}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if free[l.GetName()] {
					row.Labels[l.GetName()] = nil
				} else if v := row.Labels[l.GetName()]; !slices.Contains(v, l.GetValue()) {
					row.Labels[l.GetName()] = append(v, l.GetValue())
				}
			}
		}
		for _, values := range row.Labels {
			slices.Sort(values)
		}
		got[name] = row
	}
	if d := cmp.Diff(readMetricsDoc(t), got); d != "" {
		t.Errorf("-docs/metrics.md +code:\n%s", d)
	}
}

func readMetricsDoc(t *testing.T) map[string]metricRow {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]metricRow)
	for _, m := range regexp.MustCompile("(?m)^\\| `(postern_\\w+)` \\| (\\w+) \\| (.*?)\\| ").FindAllStringSubmatch(string(text), -1) {
		row := metricRow{Type: m[2], Labels: make(map[string][]string)}
		for _, label := range regexp.MustCompile("`(\\w+)`(?:: ((?:`\\w+` ?)+))?").FindAllStringSubmatch(m[3], -1) {
			row.Labels[label[1]] = nil
			for value := range strings.FieldsSeq(strings.ReplaceAll(label[2], "`", " ")) {
				row.Labels[label[1]] = append(row.Labels[label[1]], value)
			}
			slices.Sort(row.Labels[label[1]])
		}
		if _, twice := rows[m[1]]; twice {
			t.Errorf("%s stands twice in docs/metrics.md", m[1])
		}
		rows[m[1]] = row
	}
	// Whatever else the page and the alerts speak of must be one of them: an alert on a metric that is not there never fires.
	alerts, err := os.ReadFile("../docs/examples/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\bpostern_\w+`).FindAllString(string(text)+string(alerts), -1) {
		if _, ok := rows[strings.TrimSuffix(name, "_bucket")]; !ok {
			t.Errorf("docs/metrics.md or alerts.yml speaks of %s, which stands in no table; known: %v", name, slices.Sorted(maps.Keys(rows)))
		}
	}
	return rows
}

// Names, units and help are as Prometheus wants them.
func TestMetricsKeepTheConventions(t *testing.T) {
	s := newTestServer(t, minimalConfig+"filters: {dnsbl: {lists: [{zone: dnsbl.example}]}}\n")
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "postern_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Look-ups go on being counted where the resolver before a reload stopped.
func TestLookupsAreCountedAcrossReloads(t *testing.T) {
	t.Parallel()
	sink := peertest.StartSink(t, sinkFor())
	p := startMonitored(t, "smtp://"+sink.Addr)
	ask := func() {
		t.Helper()
		rt := p.server.use()
		defer rt.release()
		for range 2 {
			if _, err := rt.resolver.A(t.Context(), "mail.good.example"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The banner came to a client whose own look-ups may still be under way, so that there are at least as many.
	least := func(answered, cached float64) {
		t.Helper()
		all := samples(t, p.server)
		if all[`postern_dns_lookups_total{result="answered"}`] < answered || all[`postern_dns_lookups_total{result="cached"}`] < cached {
			t.Errorf("%v", all)
		}
	}
	ask()
	least(1, 1)
	cfg := *p.server.runtime.Load().Config
	rt, err := NewRuntime(t.Context(), &cfg, RuntimeOptions{NoTests: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Reload(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	ask()
	least(2, 2)
}

// Two upstreams of one address are one to those who watch, and the metrics stay consistent.
func TestTheSameUpstreamTwice(t *testing.T) {
	s := newTestServer(t, minimalConfig+"routes: [{domains: [example.org], upstream: [{address: smtp://192.0.2.25}]}]\n")
	up := 0
	for key, v := range samples(t, s) {
		if strings.HasPrefix(key, "postern_upstream_up") {
			up++
			if v != 0 {
				t.Errorf("%s is %v before it was asked", key, v)
			}
		}
	}
	if up != 1 {
		t.Errorf("%d series for one upstream", up)
	}
}

// Nothing of ours may come to stand in the registry that all packages of a program share.
func TestOwnRegistry(t *testing.T) {
	newTestServer(t, minimalConfig)
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "postern_") {
			t.Errorf("%s stands in the default registry", f.GetName())
		}
	}
}

func BenchmarkMetricsTransaction(b *testing.B) {
	rt, err := NewRuntime(b.Context(), EmbeddedConfig(b.TempDir()), RuntimeOptions{Resolver: dns.Offline(), NoTests: true})
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close()
	msg, err := message.Read(strings.NewReader(shortMessage), int64(len(shortMessage)))
	if err != nil {
		b.Fatal(err)
	}
	m := newMetrics(&Server{})
	tx := &transaction{
		rt: rt, message: msg, verdict: filters.Verdict{Action: filters.Accept}, answer: upstream.Reply{Code: 250},
		filtersTook: time.Millisecond, dns: filters.DNSCost{Waited: time.Millisecond}, upstreamTook: time.Millisecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		m.transaction(tx)
	}
}
