package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"

	"postern/filters"
	"postern/filters/dns"
	"postern/proxy/upstream"
	"postern/rules"
	"postern/rules/strict"
)

// A Runtime is all that a transaction depends on: configuration, rules, pipeline, policy and next hops. It is
// immutable; a reload makes another one, and a transaction keeps the one that it began with.
type Runtime struct {
	Config   *Config
	Rules    *rules.Set
	Warnings []string

	pipeline   *filters.Pipeline
	policy     *filters.Policy
	resolver   dns.Lookuper
	routes     map[string]*route // by recipient domain
	fallback   *route
	ways       []*route // all of them
	next       []*nextHop
	healths    map[Upstream]*health
	log        *slog.Logger
	wake       func() // an upstream should be asked earlier than was planned
	quarantine *nextHop
	stop       func() error
	recorded   string       // whose recorded results stored mail is judged by; "" for nobody's
	users      atomic.Int64 // its owner and the transactions that go by it
}

// RuntimeOptions are what a Runtime does not take from the configuration.
type RuntimeOptions struct {
	Log      *slog.Logger
	Resolver dns.Lookuper // nil: made of the configuration
	NoTests  bool         // do not run the tests in the rule files
	OwnTests bool         // run those of the configured rule files, and not those of packs, which are part of the program
	Recorded string       // the authserv-id whose recorded results stored mail is judged by; "": the checks are run
}

// NewRuntime builds what the configuration describes. The tests in the rule files must pass.
func NewRuntime(ctx context.Context, cfg *Config, opt RuntimeOptions) (*Runtime, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	rt := &Runtime{
		Config:   cfg,
		resolver: opt.Resolver,
		recorded: opt.Recorded,
		routes:   make(map[string]*route),
		healths:  make(map[Upstream]*health),
		log:      opt.Log,
		wake:     func() {},
	}
	rt.users.Store(1)
	if err := rt.loadRules(ctx, opt); err != nil {
		return nil, err
	}
	closeResolver := func() error { return nil }
	if rt.resolver == nil {
		r, err := cfg.resolver()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.pos("dns"), err)
		}
		rt.resolver, closeResolver = r, r.Close
	}
	checks := cfg.Filters
	checks.Classifier.Own.Model = cfg.Path(checks.Classifier.Own.Model)
	pipeline, err := filters.Build(checks, rt.resolver, rt.Rules, opt.Log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("filters: %w", err), closeResolver())
	}
	rt.pipeline, rt.policy = pipeline, cfg.policy()
	if err := rt.connectRoutes(); err != nil {
		return nil, errors.Join(err, closeResolver())
	}
	rt.stop = closeResolver
	return rt, nil
}

func (rt *Runtime) loadRules(ctx context.Context, opt RuntimeOptions) error {
	cfg := rt.Config
	if !cfg.Filters.Content.Enabled {
		return nil
	}
	set, err := filters.LoadRules(cfg.Filters.Content.Own, filters.RuleOptions{
		Path:       cfg.rulePath,
		Pos:        func(path ...any) strict.Pos { return cfg.pos(append([]any{"filters", "content"}, path...)...) },
		Symbols:    filters.Symbols(cfg.Filters),
		Thresholds: cfg.policy().Default,
		Domains:    cfg.policy().Rules,
	})
	if err != nil {
		return err
	}
	rt.Rules = set
	for _, w := range set.Warnings() {
		rt.Warnings = append(rt.Warnings, w.Error())
	}
	if opt.NoTests {
		return nil
	}
	tester := filters.NewRuleTester(cfg.Filters, time.Now())
	if opt.OwnTests {
		return tester.TestOwn(ctx, set)
	}
	return tester.Test(ctx, set)
}

func (rt *Runtime) connectRoutes() error {
	cfg := rt.Config
	build := func(list []Upstream) (*route, error) {
		r := &route{}
		for _, u := range list {
			up, err := upstream.New(cfg.upstreamConfig(u))
			if err != nil {
				return nil, err
			}
			hop := rt.newHop(up, u)
			r.upstreams = append(r.upstreams, hop)
			rt.next = append(rt.next, hop)
		}
		r.name = r.upstreams[0].label()
		rt.ways = append(rt.ways, r)
		return r, nil
	}
	var err error
	if rt.fallback, err = build(cfg.Upstream); err != nil {
		return err
	}
	for _, r := range cfg.Routes {
		built, err := build(r.Upstream)
		if err != nil {
			return err
		}
		for _, d := range r.Domains {
			rt.routes[canonicalDomain(d)] = built
		}
	}
	if cfg.Quarantine == "" {
		return nil
	}
	target := Upstream{Address: cfg.Quarantine, ClientInfo: "none"}
	held, err := upstream.New(cfg.upstreamConfig(target))
	if err != nil {
		return err
	}
	rt.quarantine = rt.newHop(held, target)
	return nil
}

// route finds the next hops for a recipient domain.
func (rt *Runtime) route(domain string) *route {
	if r, ok := rt.routes[canonicalDomain(domain)]; ok {
		return r
	}
	return rt.fallback
}

// acquire keeps the runtime open until release; the last release closes it. It fails when that has happened.
func (rt *Runtime) acquire() bool {
	for {
		n := rt.users.Load()
		if n == 0 {
			return false
		}
		if rt.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (rt *Runtime) release() {
	if rt.users.Add(-1) == 0 {
		_ = rt.close()
	}
}

// Close ends its owner's use; when no transaction goes by it any more, the connections to the next hops and the
// resolver are closed.
func (rt *Runtime) Close() { rt.release() }

func (rt *Runtime) close() error {
	var errs []error
	for _, n := range rt.next {
		errs = append(errs, n.Close())
	}
	if rt.quarantine != nil {
		errs = append(errs, rt.quarantine.Close())
	}
	return errors.Join(append(errs, rt.stop())...)
}

// policy makes the policy that the configuration describes.
func (c *Config) policy() *filters.Policy {
	p := &filters.Policy{
		Default:    scores(c.Policy.Thresholds),
		ByDomain:   make(map[string]filters.Thresholds, len(c.Policies)),
		Rules:      make(map[string]filters.RuleOverrides),
		Postmaster: filters.ActionNamed(c.Policy.Postmaster),
		Bounces:    filters.ActionNamed(c.Policy.Bounces),
		Observe:    c.Observe,
		Diverts:    c.Quarantine != "",
		Contact:    c.Contact,
	}
	for domain, t := range c.Policies {
		p.ByDomain[canonicalDomain(domain)] = scores(t.Thresholds)
		if len(t.Rules) > 0 {
			p.Rules[canonicalDomain(domain)] = t.Rules
		}
	}
	if c.Policy.Split == "defer" {
		p.Split = filters.SplitDefer
	}
	return p
}

func scores(t Thresholds) filters.Thresholds {
	return filters.Thresholds{
		Tag:        filters.Points(t.Tag),
		Quarantine: filters.Points(t.Quarantine),
		Reject:     filters.Points(t.Reject),
	}
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// wantsName reports whether an upstream is told the client's host name.
func (rt *Runtime) wantsName() bool {
	return slices.ContainsFunc(rt.next, func(n *nextHop) bool {
		caps := n.health.caps.Load()
		return caps != nil && len(caps.XClient)+len(caps.XForward) > 0
	})
}

func toASCII(name string) (string, error) { return idna.Lookup.ToASCII(name) }

// tlsConfig makes the server side of TLS for one listener; nil without certificates.
func (l *Listen) tlsConfig(log *slog.Logger) (*tls.Config, error) {
	if len(l.TLS) == 0 {
		return nil, nil
	}
	store, err := newCertificates(l.TLS, log, time.Now)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: store.forHello}, nil
}
