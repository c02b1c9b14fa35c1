package proxy

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/filters/dns"
)

// liveMetrics are those that are not counted as things happen but looked up when somebody asks.
type liveMetrics struct {
	server *Server

	build, open, accepted, refused, early, spool, rules, up, resolver, lookups, parked *prometheus.Desc
}

var _ prometheus.Collector = (*liveMetrics)(nil)

func newLiveMetrics(s *Server) *liveMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &liveMetrics{
		server:   s,
		build:    desc("postern_build_info", "Always 1; what runs stands in the labels.", "version", "goversion"),
		open:     desc("postern_connections_open", "Client connections now."),
		accepted: desc("postern_connections_total", "Client connections since the start, the refused ones included."),
		refused:  desc("postern_connections_refused_total", "Connections that were turned away before the banner.", "cause"),
		early:    desc("postern_early_talkers_total", "Clients that spoke before the banner."),
		spool:    desc("postern_spool_bytes", "Octets that are booked for the messages under way."),
		rules:    desc("postern_rules", "Content rules that are loaded."),
		up:       desc("postern_upstream_up", "Whether an upstream is in use: 1, or 0 while it is out because it failed.", "upstream"),
		resolver: desc("postern_dns_up", "Whether a DNS server answered when one was tested last: 1, or 0."),
		lookups:  desc("postern_dns_lookups_total", "Look-ups in DNS by what came of them.", "result"),
		parked:   desc("postern_dnsbl_parked", "Whether a DNS list is parked: 1, or 0 while it is asked.", "zone"),
	}
}

// Describe implements prometheus.Collector.
func (l *liveMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.build, l.open, l.accepted, l.refused, l.early, l.spool, l.rules, l.up, l.resolver, l.lookups, l.parked} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *liveMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	stats, rt := l.server.wireStats(), l.server.runtime.Load()
	gauge(l.build, 1, l.server.Version, runtime.Version())
	gauge(l.open, float64(stats.Open))
	counter(l.accepted, stats.Accepted)
	counter(l.refused, stats.Full, "full")
	counter(l.refused, stats.Crowded, "per_ip")
	counter(l.refused, stats.Hasty, "rate")
	counter(l.refused, stats.BadProxy, "proxy_header")
	counter(l.early, stats.EarlyTalked)
	gauge(l.spool, float64(l.server.spooled.Load()))
	gauge(l.rules, float64(rt.ruleCount()))
	for name, err := range rt.reached() {
		gauge(l.up, truth(err == nil), name)
	}
	for zone, why := range rt.pipeline.ListStates(time.Now()) {
		gauge(l.parked, truth(why != ""), zone)
	}
	r, ok := rt.resolver.(*dns.Resolver)
	if !ok {
		return
	}
	gauge(l.resolver, truth(r.State() == nil))
	for _, o := range dns.Outcomes() {
		counter(l.lookups, l.server.lookups.Count(o), o.String())
	}
}

// truth is a yes or no as a gauge has it.
func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
