package proxy

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"postern/proxy/upstream"
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
	v.policy()
	v.words()
	v.limits()
	slices.SortStableFunc(v.problems, func(a, b strict.Problem) int {
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	return v.problems
}

func (v *validator) hostname() {
	if !IsHostname(v.Hostname) {
		v.bad(at("hostname"), "%q is not a host name, expected one such as mx.example.org", v.Hostname)
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

func (v *validator) listeners() {
	if len(v.Listen) == 0 {
		v.bad(at("listen"), "nothing to listen on: expected an address, such as `listen: [{address: \":25\"}]`")
	}
	seen := make(map[string]bool)
	for i, l := range v.Listen {
		v.address(at("listen", i, "address"), l.Address)
		if seen[l.Address] {
			v.bad(at("listen", i, "address"), "%s stands twice in listen", l.Address)
		}
		seen[l.Address] = true
		v.oneOf(at("listen", i, "bare_newline"), l.BareNewline, "reject", "normalise")
		if l.ImplicitTLS && len(l.TLS) == 0 {
			v.bad(at("listen", i, "implicit_tls"), "implicit_tls needs a certificate, expected tls: {cert: FILE, key: FILE}")
		}
		for j, c := range l.TLS {
			v.certificate(at("listen", i, "tls"), j, c)
		}
	}
}

func (v *validator) address(path []any, address string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		v.bad(path, "%q is not an address, expected host:port or :port", address)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		v.bad(path, "%q is not a port, expected a number up to 65535", port)
	}
}

func (v *validator) certificate(path []any, index int, c Certificate) {
	if c.Cert == "" || c.Key == "" {
		v.bad(path, "tls needs both files, expected {cert: FILE, key: FILE}")
		return
	}
	if v.doc.Pos(append(path, index)...) != v.doc.Pos(path...) {
		path = append(path, index)
	}
	for _, file := range []string{c.Cert, c.Key} {
		if _, err := os.ReadFile(file); err != nil {
			v.bad(path, "cannot read %s: %v", file, cause(err))
			return
		}
	}
	if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		v.bad(path, "certificate %s and key %s can't be used: %s", c.Cert, c.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
}

func (v *validator) upstreams(path []any, list []Upstream) {
	for i, u := range list {
		here := append(slices.Clone(path), i)
		if _, err := upstream.New(v.upstreamConfig(u)); err != nil {
			v.bad(append(slices.Clone(here), "address"), "%v", err)
		} else if l, ok := v.loops(u); ok {
			v.bad(append(slices.Clone(here), "address"), "%s is Postern's own listener %s, expected the mail server behind it", u.Address, l)
		}
		v.oneOf(append(slices.Clone(here), "client_info"), u.ClientInfo, "auto", "xclient", "xforward", "proxy", "none")
		v.oneOf(append(slices.Clone(here), "tls"), u.TLS, "", "opportunistic", "required", "none")
	}
}

// loops reports whether an upstream is one of our own listeners, and which.
func (v *validator) loops(u Upstream) (string, bool) {
	_, rest, _ := strings.Cut(u.Address, "://")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", false
	}
	for _, l := range v.Listen {
		ours, ourPort, err := net.SplitHostPort(l.Address)
		if err == nil && port == ourPort && port != "0" && sameHost(host, ours) {
			return l.Address, true
		}
	}
	return "", false
}

// sameHost reports whether a connection to host can reach a listener bound to bound.
func sameHost(host, bound string) bool {
	targets := hostAddrs(host)
	if bound == "" || bound == "0.0.0.0" || bound == "::" {
		return slices.ContainsFunc(targets, isLocal)
	}
	own := hostAddrs(bound)
	return slices.ContainsFunc(targets, func(a netip.Addr) bool { return slices.Contains(own, a) })
}

// hostAddrs knows literals and "localhost"; the address of another name is for the resolver, not for a check of the
// configuration.
func hostAddrs(host string) []netip.Addr {
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}
	}
	return nil
}

// isLocal reports whether an address is one of this machine's.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(n net.Addr) bool {
		prefix, err := netip.ParsePrefix(n.String())
		return err == nil && prefix.Addr().Unmap() == a
	})
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
		if !IsHostname(d) {
			v.bad(at("domains", i), "%q is not a domain, expected one such as example.org", d)
		}
	}
	if v.Domains.File != "" {
		if err := v.Domains.read(v.Path(v.Domains.File)); err != nil {
			v.bad(at("domains", "file"), "%v", err)
		}
	}
}

func (c *Config) allUpstreams() []Upstream {
	all := slices.Clone(c.Upstream)
	for _, r := range c.Routes {
		all = append(all, r.Upstream...)
	}
	return all
}

func (v *validator) routes() {
	owner := make(map[string]int)
	for i, r := range v.Routes {
		v.upstreams(at("routes", i, "upstream"), r.Upstream)
		if len(r.Upstream) == 0 {
			v.bad(at("routes", i), "a route without upstream, expected upstream: [{address: …}]")
		}
		if len(r.Domains) == 0 {
			v.bad(at("routes", i), "a route without domains, expected domains: [example.com]")
		}
		for j, d := range r.Domains {
			if first, twice := owner[strings.ToLower(d)]; twice {
				v.bad(at("routes", i, "domains", j), "%s has a route already, at %s", d, v.doc.Pos("routes", first))
			}
			owner[strings.ToLower(d)] = i
		}
	}
}

func (v *validator) policy() {
	v.thresholds(at("policy"), v.Policy.Thresholds)
	for _, domain := range slices.Sorted(maps.Keys(v.Policies)) {
		v.thresholds(at("policies", domain), v.Policies[domain])
	}
	v.oneOf(at("policy", "split"), v.Policy.Split, "lenient", "defer")
	v.oneOf(at("policy", "postmaster"), v.Policy.Postmaster, "accept", "tag", "quarantine", "defer", "reject")
	v.oneOf(at("policy", "bounces"), v.Policy.Bounces, "accept", "tag", "quarantine", "defer", "reject")
	if v.Quarantine != "" {
		if _, err := upstream.New(v.upstreamConfig(Upstream{Address: v.Quarantine, ClientInfo: "none"})); err != nil {
			v.bad(at("quarantine"), "%v", err)
		}
	}
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
		}
		if s.score == 0 {
			continue
		}
		if s.score < steps[below].score {
			v.bad(here, "%s: %g is below %s: %g, expected tag ≤ quarantine ≤ reject", s.name, s.score, steps[below].name, steps[below].score)
		}
		below = i
	}
	if t.Quarantine != 0 && v.Quarantine == "" {
		v.bad(append(slices.Clone(path), "quarantine"), "a quarantine threshold needs a place to divert to, expected quarantine: maildir:PATH")
	}
}

func (v *validator) words() {
	v.oneOf(at("log", "format"), v.Log.Format, "logfmt", "json")
	v.oneOf(at("log", "level"), v.Log.Level, "debug", "info", "warn", "error")
	v.oneOf(at("store", "kind"), v.Store.Kind, "memory", "bbolt")
	if v.Store.Kind == "bbolt" && v.Store.Path == "" {
		v.bad(at("store"), "store: bbolt needs a file, expected path: /var/lib/postern/state.db")
	}
	for i, s := range v.DNS.Servers {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, "53"
		}
		if _, err := netip.ParseAddr(host); err != nil || port == "" {
			v.bad(at("dns", "servers", i), "%q is not a DNS server, expected an IP address with a port, such as \"127.0.0.1:53\"", s)
		}
	}
	if strings.ContainsAny(v.Subject+v.Contact, "\r\n") {
		v.bad(at("subject_tag"), "a line break in a text that goes into mail, expected one line")
	}
}

func (v *validator) limits() {
	for _, l := range []struct {
		path  []any
		value int64
	}{
		{at("limits", "connections"), int64(v.Limits.Connections)},
		{at("limits", "per_ip"), int64(v.Limits.PerIP)},
		{at("limits", "message"), int64(v.Limits.Message)},
		{at("limits", "recipients"), int64(v.Limits.Recipients)},
		{at("limits", "unknown_recipients"), int64(v.Limits.Unknown)},
		{at("limits", "session"), int64(v.Limits.Session)},
		{at("limits", "idle"), int64(v.Limits.Idle)},
		{at("limits", "spool_memory"), int64(v.Limits.Memory)},
		{at("limits", "spool_total"), int64(v.Limits.Spool)},
		{at("limits", "received"), int64(v.Limits.Relaying)},
		{at("budget", "filters"), int64(v.Budget.Filters)},
		{at("budget", "upstream_reply"), int64(v.Budget.Reply)},
		{at("dns", "timeout"), int64(v.DNS.Timeout)},
		{at("dns", "cache"), int64(v.DNS.Cache)},
	} {
		if l.value <= 0 {
			v.bad(l.path, "%v must be above 0: there is no way to switch a limit off, expected a number", l.path[len(l.path)-1])
		}
	}
}

func (v *validator) oneOf(path []any, got string, words ...string) {
	if slices.Contains(words, got) {
		return
	}
	known := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	hint := ""
	if near := strict.Suggest(got, known); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", near)
	}
	v.bad(path, "%q is not known here%s, expected %s", got, hint, strings.Join(known, ", "))
}
