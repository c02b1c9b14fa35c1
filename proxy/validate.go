package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/dns"
	"postern/proxy/wire"
	"postern/rules/strict"
)

// validator gathers what is wrong with a decoded configuration, at the position of the key that is wrong.
type validator struct {
	*Config
	problems strict.Problems
}

func (v *validator) bad(path []any, format string, args ...any) {
	v.problems.Addf(v.doc.Pos(path...), format, args...)
}

func at(path ...any) []any { return path }

// given reports whether a key stands in the file.
func (c *Config) given(path ...any) bool {
	n := c.doc.Root()
	for _, step := range path {
		if n == nil {
			return false
		}
		switch s := step.(type) {
		case string:
			n = n.Get(s)
		case int:
			items := n.Items()
			if s >= len(items) {
				return false
			}
			n = items[s]
		}
	}
	return n != nil
}

func (c *Config) validate() strict.Problems {
	v := &validator{Config: c}
	v.hostname()
	v.listeners()
	v.upstreams(at("upstream"), c.Upstream)
	if len(c.Upstream) == 0 {
		v.bad(at("upstream"), "no upstream: expected the mail server behind Postern, such as `upstream: [{address: smtp://127.0.0.1:2525}]`")
	}
	v.domains()
	v.routes()
	v.quarantine()
	v.policy()
	v.words()
	v.limits()
	v.health()
	v.control()
	v.metrics()
	slices.SortStableFunc(v.problems, func(a, b strict.Problem) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	return v.problems
}

func (v *validator) hostname() {
	switch {
	case IsHostname(v.Hostname):
	case v.given("hostname"):
		v.bad(at("hostname"), "%q is not a host name, expected one such as mx.example.org", v.Hostname)
	default:
		v.bad(nil, "no hostname, and this machine's own, %q, is not one: expected hostname: mx.example.org", v.Hostname)
	}
}

// IsHostname reports whether name can be our EHLO name: letters, digits and hyphens between dots.
func IsHostname(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

func (v *validator) domains() {
	allMaildir := len(v.Upstream) > 0
	for _, u := range v.allUpstreams() {
		allMaildir = allMaildir && strings.HasPrefix(u.Address, "maildir:")
	}
	if v.Domains.empty() && !allMaildir {
		v.bad(at("domains"), "no domains: expected the recipient domains to accept, such as `domains: [example.org]`, or the word upstream to let the upstream decide")
	}
	for i, d := range v.Domains.List {
		v.domain(at("domains", i), d)
	}
	if v.Domains.File != "" {
		if err := v.Domains.read(v.Path(v.Domains.File)); err != nil {
			v.bad(at("domains", "file"), "%v", err)
		}
	}
}

// domain wants a domain as it stands behind the @ of an address.
func (v *validator) domain(path []any, name string) bool {
	ok := isDomainName(name)
	if !ok {
		v.bad(path, "%q is not a domain, expected one such as example.org", name)
	}
	return ok
}

// isDomainName reports whether name is a domain, in A-labels or U-labels (RFC 5890).
func isDomainName(name string) bool {
	ascii, err := toASCII(name)
	return err == nil && IsHostname(ascii)
}

func (c *Config) allUpstreams() []Upstream {
	all := slices.Clone(c.Upstream)
	for _, r := range c.Routes {
		all = append(all, r.Upstream...)
	}
	return all
}

func (v *validator) routes() {
	owner := make(map[string][]any)
	for i, r := range v.Routes {
		v.upstreams(at("routes", i, "upstream"), r.Upstream)
		if len(r.Upstream) == 0 {
			v.bad(at("routes", i), "a route without upstream, expected upstream: [{address: smtp://192.0.2.25}]")
		}
		if len(r.Domains) == 0 {
			v.bad(at("routes", i), "a route without domains, expected domains: [example.com]")
		}
		for j, d := range r.Domains {
			here, name := at("routes", i, "domains", j), canonicalDomain(d)
			first, twice := owner[name]
			switch {
			case !v.domain(here, d):
			case twice:
				v.bad(here, "%s has a route already, expected it in one: the first is at %s", d, v.doc.Pos(first...))
			case !v.Domains.Accepts(d) && len(v.Domains.set) > 0:
				v.bad(here, "mail for %s is not accepted, expected it in domains too", d)
			}
			if !twice {
				owner[name] = here
			}
		}
	}
}

// quarantine wants a place for diverted mail that is not the way which all mail takes.
func (v *validator) quarantine() {
	if v.Quarantine == "" {
		return
	}
	target := Upstream{Address: v.Quarantine, ClientInfo: "none"}
	if !v.reachable(at("quarantine"), target) {
		return
	}
	for _, u := range v.allUpstreams() {
		if v.UpstreamAddress(u.Address) == v.UpstreamAddress(v.Quarantine) {
			v.bad(at("quarantine"), "%s is an upstream too: diverted mail would stand among the other, expected a place of its own", v.Quarantine)
			return
		}
	}
}

func (v *validator) policy() {
	v.thresholds(at("policy"), v.Policy.Thresholds)
	seen := make(map[string]string)
	for _, domain := range slices.Sorted(maps.Keys(v.Policies)) {
		here := at("policies", domain)
		if first, twice := seen[canonicalDomain(domain)]; v.domain(here, domain) && twice {
			v.bad(here, "%s has a policy already, expected one: it stands there as %s too", domain, first)
		}
		seen[canonicalDomain(domain)] = domain
		v.thresholds(here, v.Policies[domain].Thresholds)
	}
	v.oneOf(at("policy", "split"), v.Policy.Split, "lenient", "defer")
	v.oneOf(at("policy", "postmaster"), v.Policy.Postmaster, "accept", "tag", "quarantine", "defer", "reject")
	v.oneOf(at("policy", "bounces"), v.Policy.Bounces, "accept", "tag", "quarantine", "defer", "reject")
	if v.Quarantine == "" && slices.Contains(v.Filters.DMARC.Own.Honor, "quarantine") {
		v.bad(at("filters", "dmarc", "honor"), "honouring quarantine needs a place to divert to, expected quarantine: maildir:PATH")
	}
}

func (v *validator) thresholds(path []any, t Thresholds) {
	steps := []struct {
		name  string
		score float64
	}{{"tag", t.Tag}, {"quarantine", t.Quarantine}, {"reject", t.Reject}}
	below := 0
	for i, s := range steps {
		here := append(slices.Clone(path), s.name)
		if s.score < 0 {
			v.bad(here, "%s: %g is negative, expected a score above 0, or 0 for never", s.name, s.score)
			continue
		}
		if wrong := filters.BadPoints(s.score); wrong != "" {
			v.bad(here, "%s: %s", s.name, wrong)
			continue
		}
		if s.score == 0 {
			continue
		}
		if s.score < steps[below].score {
			v.bad(here, "%s: %g is below %s: %g, expected tag ≤ quarantine ≤ reject", s.name, s.score, steps[below].name, steps[below].score)
		}
		below = i
	}
	if t.Quarantine != 0 && v.Quarantine == "" && v.given(append(slices.Clone(path), "quarantine")...) {
		v.bad(append(slices.Clone(path), "quarantine"), "a quarantine threshold needs a place to divert to, expected quarantine: maildir:PATH")
	}
}

// maxText bounds a text of ours that goes into a reply or a header field, so that their lines stay within RFC 5321.
const maxText = 200

func (v *validator) words() {
	v.oneOf(at("log", "format"), v.Log.Format, "logfmt", "json")
	v.oneOf(at("log", "level"), v.Log.Level, "debug", "info", "warn", "error")
	v.oneOf(at("log", "redact"), string(v.Log.Redact), redactions...)
	v.oneOf(at("store", "kind"), v.Store.Kind, "memory", "bbolt")
	if v.Store.Kind == "bbolt" && v.Store.Path == "" {
		v.bad(at("store"), "store: bbolt needs a file, expected path: /var/lib/postern/state.db")
	}
	if v.Store.Kind == "memory" && v.Store.Path != "" {
		v.bad(at("store", "path"), "kind: memory keeps nothing in a file, expected kind: bbolt, or no path")
	}
	v.logOutput()
	for i, s := range v.DNS.Servers {
		if _, err := dns.ParseServer(s); err != nil {
			v.bad(at("dns", "servers", i), "%v", err)
		}
	}
	if n := len(v.DNS.Servers); n > dns.MaxServers {
		v.bad(at("dns", "servers"), "%d servers, expected at most %d", n, dns.MaxServers)
	}
	for _, text := range []struct{ key, value string }{{"subject_tag", v.Subject}, {"contact", v.Contact}} {
		bad := strings.IndexFunc(text.value, func(r rune) bool { return r < ' ' || r > '~' })
		switch {
		case bad >= 0:
			v.bad(at(text.key), "%s holds %q, expected one line of printable ASCII", text.key, []rune(text.value[bad:])[0])
		case len(text.value) > maxText:
			v.bad(at(text.key), "%s has %d characters, expected at most %d", text.key, len(text.value), maxText)
		}
	}
}

// maxRate is the highest limit for a minute.
const maxRate = 1_000_000

// logOutput refuses what is neither one of the words nor an address of syslog, nor a file in a folder that is there.
func (v *validator) logOutput() {
	path, output := at("log", "output"), v.Log.Output
	sink, err := parseLogOutput(output)
	switch {
	case err != nil:
		v.bad(path, "%v", err)
	case sink.file != "":
		if info, err := os.Stat(filepath.Dir(sink.file)); err != nil || !info.IsDir() {
			v.bad(path, "the folder of the log, %s, is not there, expected stderr, journald, syslog or a file in a folder that is", filepath.Dir(sink.file))
		}
	}
}

func (v *validator) limits() {
	positive(v, int64(v.Limits.Connections), "limits", "connections")
	positive(v, int64(v.Limits.PerIP), "limits", "per_ip")
	between(v, v.Limits.Arrivals, 1, maxRate, "limits", "connections_per_minute")
	between(v, v.Limits.Mails, 1, maxRate, "limits", "messages_per_minute")
	between(v, v.Limits.Network, 1, 1000, "limits", "network_factor")
	positive(v, v.Limits.Message, "limits", "message")
	positive(v, int64(v.Limits.Recipients), "limits", "recipients")
	positive(v, int64(v.Limits.Unknown), "limits", "unknown_recipients")
	positive(v, int64(v.Limits.Commands), "limits", "commands")
	positive(v, int64(v.Limits.Errors), "limits", "errors")
	positive(v, int64(v.Limits.Unheard), "limits", "unknown_commands")
	between(v, v.Limits.CommandLine, 512, wire.MaxCommandLine, "limits", "command_line")
	between(v, v.Limits.MessageLine, 1000, 1<<30, "limits", "message_line")
	between(v, v.Limits.Banner, 0, time.Minute, "limits", "banner_wait")
	positive(v, v.Limits.Handshake, "limits", "handshake")
	positive(v, v.Limits.Session, "limits", "session")
	positive(v, v.Limits.Idle, "limits", "idle")
	positive(v, v.Limits.Memory, "limits", "spool_memory")
	positive(v, v.Limits.AllMemory, "limits", "spool_memory_total")
	positive(v, v.Limits.Spool, "limits", "spool_total")
	positive(v, int64(v.Limits.Relaying), "limits", "received")
	positive(v, v.Budget.Filters, "budget", "filters")
	positive(v, v.Budget.Connect, "budget", "upstream_connect")
	positive(v, v.Budget.Command, "budget", "upstream_command")
	positive(v, v.Budget.Data, "budget", "upstream_data")
	positive(v, v.Budget.Reply, "budget", "upstream_reply")
	positive(v, v.DNS.Timeout, "dns", "timeout")
	positive(v, int64(v.DNS.Cache), "dns", "cache")
	positive(v, int64(v.Filters.DKIM.Own.Signatures), "filters", "dkim", "signatures")
	positive(v, int64(v.Filters.SPF.Own.Queries), "filters", "spf", "queries")
	v.window(v.Filters.Rate.Own.Client, "client_window")
	v.window(v.Filters.Rate.Own.FromDomain, "from_domain_window")
	for check, limit := range v.Filters.TimeLimits() {
		positive(v, limit, "filters", check, "limit")
	}
	if v.Limits.Spool < v.Limits.Message {
		v.bad(at("limits", "spool_total"), "spool_total: %s is less than message: %s, expected room for one message at least", v.Limits.Spool, v.Limits.Message)
	}
}

// window wants a time over which counting makes sense, and which the store can keep.
func (v *validator) window(d time.Duration, key string) {
	if d < time.Minute || d > 30*24*time.Hour {
		v.bad(at("filters", "rate", key), "%s: %v, expected 1m to 30d", key, d)
	}
}

// metrics wants an address that no listener for mail has, and for profiles one at all.
func (v *validator) metrics() {
	here := at("metrics", "listen")
	if v.Metrics.Pprof && !v.given(here...) {
		v.bad(at("metrics", "pprof"), "profiles are asked for at metrics.listen, which is not given, expected such as listen: \"127.0.0.1:9125\" beside pprof")
	}
	if !v.given(here...) || !v.address(here, v.Metrics.Listen) {
		return
	}
	host, port, _ := net.SplitHostPort(v.Metrics.Listen)
	for _, l := range v.Listen {
		theirs, theirPort, err := net.SplitHostPort(l.Address)
		if err == nil && port == theirPort && port != "0" && (overlap(host, theirs) || overlap(theirs, host)) {
			v.bad(here, "%s can't be bound beside the listener for mail at %s, expected another address or port", v.Metrics.Listen, l.Address)
			return
		}
	}
}

// between wants a limit from least to most.
func between[T cmp.Ordered](v *validator, value, least, most T, path ...any) {
	if value < least || value > most {
		v.bad(path, "%s: %v, expected %v to %v", path[len(path)-1], value, least, most)
	}
}

// positive wants a limit above zero.
func positive[T ~int64](v *validator, value T, path ...any) {
	if value <= 0 {
		v.bad(path, "%s: %v, expected more than 0: a limit can't be switched off", path[len(path)-1], value)
	}
}

// oneOf reports whether a word is one of those that are known there.
func (v *validator) oneOf(path []any, got string, words ...string) bool {
	if slices.Contains(words, got) {
		return true
	}
	known := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	hint := ""
	if near := strict.Suggest(got, known); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", near)
	}
	v.bad(path, "%q is not known here%s, expected %s", got, hint, strings.Join(known, ", "))
	return false
}
