package proxy

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics counts what the server does, in a registry of its own. docs/metrics.md says what each metric means. No label
// has a value that a stranger chooses: each stands in a list below, or is a name in the configuration.
type metrics struct {
	registry *prometheus.Registry

	messages   *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	sessions   *prometheus.CounterVec
	refused    *prometheus.CounterVec
	failures   *prometheus.CounterVec
	again      *prometheus.CounterVec
	reloads    *prometheus.CounterVec
	size       prometheus.Histogram

	total, filters, dns, upstream prometheus.Histogram
}

// The values of the labels.
var (
	messageActions   = []string{"accept", "tag", "quarantine", "defer", "reject", "abort"}
	deliveryTargets  = []string{"upstream", "quarantine"}
	deliveryOutcomes = []string{"accepted", "deferred", "refused", "failed", "client_gone"}
	redeliveryKinds  = []string{served, inDoubt}
	reloadResults    = []string{"ok", "failed"}
	// What refuses recipients: the word of a reply, or one of those that refusalCause makes.
	refusalCauses = []string{"relay", "protocol", "parameter", "limit", "route", "policy", "memory", "upstream", "unreachable", "listed", "other"}
)

// endings names the groups of reasons for which sessions end. What stands nowhere here is "other".
var endings = map[string][]string{
	"quit":            {"quit"},
	"client_closed":   {"client closed"},
	"reset":           {"reset"},
	"idle_timeout":    {"idle timeout", "write timeout"},
	"session_timeout": {"session timeout"},
	"drain":           {"drain"},
	"limit":           {"too many connections", "too many errors", "too many commands", "closed by 421"},
	"protocol": {
		"line too long", "bare LF", "improper pipelining", "not smtp", "bad BDAT", "message too big", "tls on a plain text port",
	},
	"tls_failed": {"tls handshake failed"},
	"internal":   {"session failed", "reply too long"},
	"silent":     nil, // not a word was said
	"other":      nil,
}

// ending groups the reason that the wire gives. A detail may follow a colon.
func ending(reason string) string {
	reason, _, _ = strings.Cut(reason, ":")
	for group, reasons := range endings {
		if slices.Contains(reasons, reason) {
			return group
		}
	}
	return "other"
}

// The bounds of the histograms: seconds, and octets from 1 KiB to 64 MiB.
var (
	durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	sizeBuckets     = prometheus.ExponentialBuckets(1<<10, 4, 9)
)

// newMetrics registers everything. The gauges look at the server when they are asked.
func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.messages = m.counters("postern_messages_total", "Mail transactions by what became of them.", "action", messageActions...)
	m.size = m.histogram("postern_message_size_bytes", "Sizes of the messages that arrived whole.", sizeBuckets)
	m.refused = m.counters("postern_recipients_refused_total", "Recipients that were refused at RCPT.", "cause", refusalCauses...)
	m.failures = m.counters("postern_check_errors_total", "Checks of messages that could not do their work.", "check")
	m.again = m.counters("postern_redeliveries_total", "Messages that came before, by what was known of that.", "kind", redeliveryKinds...)
	m.sessions = m.counters("postern_sessions_total", "Connections that are over, by why they ended.", "reason", slices.Sorted(maps.Keys(endings))...)
	m.reloads = m.counters("postern_reloads_total", "Times that the configuration was read again.", "result", reloadResults...)
	m.deliveries = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_deliveries_total", Help: "Messages that were handed on, by what the next hop said.",
	}, []string{"target", "outcome"})
	for _, target := range deliveryTargets {
		for _, outcome := range deliveryOutcomes {
			m.deliveries.WithLabelValues(target, outcome)
		}
	}
	m.total = m.histogram("postern_message_duration_seconds", "From MAIL to the reply after the message.", durationBuckets)
	m.filters = m.histogram("postern_message_filters_seconds", "What a client waited for the checks after its message.", durationBuckets)
	m.dns = m.histogram("postern_message_dns_seconds", "While look-ups in DNS were under way for a message.", durationBuckets)
	m.upstream = m.histogram("postern_message_upstream_seconds", "From offering a message to the next hop's reply.", durationBuckets)
	m.registry.MustRegister(m.deliveries, newLiveMetrics(s),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// counters registers a counter with one label, whose values begin at zero: a rate can be told from the first one.
func (m *metrics) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, v := range values {
		vec.WithLabelValues(v)
	}
	m.registry.MustRegister(vec)
	return vec
}

func (m *metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// transaction counts a mail transaction that is over.
func (m *metrics) transaction(tx *transaction) {
	m.messages.WithLabelValues(tx.actionName()).Inc()
	for _, e := range tx.result.Errors {
		m.failures.WithLabelValues(e.Check).Inc()
	}
	if tx.message == nil {
		return
	}
	for _, kind := range redeliveryKinds {
		if slices.Contains(strings.Split(tx.redelivery(), ","), kind) {
			m.again.WithLabelValues(kind).Inc()
		}
	}
	m.size.Observe(float64(tx.message.Size()))
	m.total.Observe(time.Since(tx.started).Seconds())
	if tx.filtersTook > 0 {
		m.filters.Observe(tx.filtersTook.Seconds())
		m.dns.Observe(tx.dns.Waited.Seconds())
	}
	if tx.upstreamTook > 0 {
		m.upstream.Observe(tx.upstreamTook.Seconds())
	}
	if outcome := tx.deliveryOutcome(); outcome != "" {
		m.deliveries.WithLabelValues(tx.target(), outcome).Inc()
	}
}

// deliveryOutcome is how handing the message on went; "" when it was not tried.
func (tx *transaction) deliveryOutcome() string {
	switch {
	case tx.verdict.By == "memory": // the answer is that of the first time
		return ""
	case errors.Is(tx.cause, errClientGone):
		return "client_gone"
	case tx.answer.Positive():
		return "accepted"
	case tx.answer.Temporary():
		return "deferred"
	case tx.answer.Permanent():
		return "refused"
	case tx.cause != nil && tx.verdict.By == "upstream":
		return "failed"
	}
	return ""
}

// target is where the message was to go.
func (tx *transaction) target() string {
	if q := tx.rt.quarantine; q != nil && tx.upstream == q.String() {
		return "quarantine"
	}
	return "upstream"
}

// session counts a connection that is over. A silent one has not said a word.
func (m *metrics) session(reason string, silent bool) {
	group := ending(reason)
	if silent {
		group = "silent"
	}
	m.sessions.WithLabelValues(group).Inc()
}

// recipient counts one that was refused: r is the reply, err what failed, if anything did.
func (m *metrics) recipient(r reply, err error) {
	m.refused.WithLabelValues(refusalCause(r, err)).Inc()
}

func refusalCause(r reply, err error) string {
	switch {
	case err != nil:
		return "unreachable"
	case slices.Contains(refusalCauses, r.by):
		return r.by
	case isSymbol(r.by):
		return "listed"
	}
	return "other"
}

// isSymbol reports whether what decided is a finding: symbols of rules begin with a capital, those of checks have a dot.
func isSymbol(by string) bool {
	return by != "" && (by[0] >= 'A' && by[0] <= 'Z' || strings.Contains(by, "."))
}

func (m *metrics) reload(result string) { m.reloads.WithLabelValues(result).Inc() }
