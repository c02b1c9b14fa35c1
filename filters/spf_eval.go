package filters

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"blitiri.com.ar/go/spf"

	"postern/filters/dns"
)

// spfSession is one evaluation. The library walks the mechanisms, counts them and decides; it sees DNS through this
// type, which makes up for what it does not do itself. Each record is read against the whole grammar when it is
// fetched and handed over rewritten: domain-specs are replaced by stand-in names, whose macros are expanded when the
// library looks them up, and what can't match the client's address family is left out.
type spfSession struct {
	ctx    context.Context
	r      dns.Lookuper
	in     SPFInput
	limit  int
	values macroValues

	targets []spfTarget
	written map[string]string // what the record says, by what the library was handed for it
	matched string            // the mechanism that decided, as written; "" for none
	main    *spfRecord        // the record whose exp= counts: the domain's own, or where redirect= led
	mainAt  string            // its domain
	queries int
	failed  error   // the first failure of DNS, if any
	bad     error   // what is wrong with a record, if anything
	ptr     *string // the confirmed name, once looked up
}

// spfTarget is what a stand-in name stands for.
type spfTarget struct {
	term   string // the mechanism or modifier
	spec   string // its domain-spec; "" is the domain itself
	domain string // whose record it stands in
	main   bool   // that record is the main one
}

var _ spf.DNSResolver = (*spfSession)(nil)

func newSPFSession(ctx context.Context, r dns.Lookuper, in SPFInput, values macroValues) *spfSession {
	s := &spfSession{ctx: ctx, r: r, in: in, limit: in.Queries, values: values, written: map[string]string{}}
	if s.limit == 0 {
		s.limit = defaultSPFConfig().Queries
	}
	return s
}

// evaluate fills in res. The error is the cause of a temperror.
func (s *spfSession) evaluate(res *SPFResult) error {
	// Macros are expanded here, so the library needs no local part; one with an "@" in it would confuse it.
	result, err := spf.CheckHostWithSender(net.IP(s.in.IP.AsSlice()), res.Domain, "postmaster@"+res.Domain,
		spf.WithContext(s.ctx), spf.WithResolver(s), spf.WithTraceFunc(s.trace))
	res.Result, res.Reason = string(result), "no mechanism matched"
	switch {
	case s.matched != "" && result != spf.PermError && result != spf.TempError:
		res.Mechanism, res.Reason = s.matched, "matched "+s.matched
	case err != nil:
		res.Reason = err.Error()
	}
	switch {
	case s.queries > s.limit:
		res.Result, res.Reason = "permerror", errSPFQueries.Error()
	case result == spf.PermError && s.bad != nil:
		res.Reason = s.bad.Error()
	case result == spf.TempError && s.failed != nil:
		res.Reason = "a DNS look-up failed"
		return s.failed
	case result == spf.TempError:
		return err
	}
	return nil
}

// trace hears from the library which mechanism ended the evaluation of a record. That of an included record comes
// before that of the record which includes it, so the last one is what decided.
func (s *spfSession) trace(format string, args ...any) {
	key := ""
	switch {
	case format == "all: %v":
		key = "all"
		if result, ok := args[0].(spf.Result); ok {
			key = spfQualifiers[result] + key
		}
	case format == "%q %v, %v" && len(args) > 0:
		key, _ = args[0].(string)
	case format != "fallback to neutral":
		return
	}
	s.matched = s.written[key]
}

// spfQualifiers are the qualifiers by their results.
var spfQualifiers = map[spf.Result]string{spf.Pass: "+", spf.Fail: "-", spf.SoftFail: "~", spf.Neutral: "?"}

// A standIn can't come out of DNS as a name, because control characters don't.
const standInMark = "\x01"

func (s *spfSession) standIn(t spfTarget) string {
	s.targets = append(s.targets, t)
	return fmt.Sprintf("%s%d", standInMark, len(s.targets)-1)
}

// resolve gives the target behind a stand-in and its expanded name, or the name itself when it is none.
func (s *spfSession) resolve(name string) (t spfTarget, real string) {
	digits, ok := strings.CutPrefix(name, standInMark)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 0 || n >= len(s.targets) {
		return spfTarget{}, name
	}
	t = s.targets[n]
	if t.spec == "" {
		return t, t.domain
	}
	return t, cutName(s.expand(t.spec, t.domain))
}

// expand expands a domain-spec that the grammar has passed.
func (s *spfSession) expand(spec, domain string) string {
	parts, err := parseMacros(spec, false)
	if err != nil {
		return "" // parseSPF lets no such spec through
	}
	v := s.values
	v.domain = domain
	v.validated = func() string { return s.validatedName(domain) }
	return v.expand(parts)
}

// LookupTXT fetches a policy and hands it over rewritten.
func (s *spfSession) LookupTXT(_ context.Context, name string) ([]string, error) {
	target, domain := s.resolve(name)
	txts, err := lookup(s, domain, s.r.TXT)
	if err != nil {
		return nil, err
	}
	text, found, err := selectSPF(txts)
	if err != nil || !found {
		s.reject(domain, err)
		return nil, err
	}
	rec, err := parseSPF(text)
	if err != nil {
		s.reject(domain, err)
		return nil, err
	}
	isMain := target.term == "" || target.term == "redirect" && target.main
	if isMain {
		s.main, s.mainAt = rec, domain
	}
	return []string{s.rewrite(rec, domain, isMain)}, nil
}

func (s *spfSession) reject(domain string, err error) {
	if s.bad == nil && err != nil {
		s.bad = fmt.Errorf("policy of %s: %w", domain, err)
	}
}

// rewrite writes a record for the library.
func (s *spfSession) rewrite(rec *spfRecord, domain string, isMain bool) string {
	var b strings.Builder
	b.WriteString("v=spf1")
	for _, t := range rec.Terms {
		arg := ""
		switch t.Name {
		case "all":
		case "ip4", "ip6":
			if (t.Name == "ip4") != s.in.IP.Is4() {
				continue // an IPv4-mapped ip6 network is not for IPv4 clients (RFC 7208 section 5)
			}
			arg = ":" + t.Net
		case "ptr":
			arg = ":" + s.ptrTarget(t, domain)
		default:
			arg = ":" + s.standIn(spfTarget{term: t.Name, spec: t.DomainSpec, domain: domain, main: isMain}) + t.CIDR
		}
		b.WriteByte(' ')
		b.WriteByte(t.Qualifier)
		b.WriteString(t.Name)
		b.WriteString(arg)
		if t.Name == "all" {
			s.written[string(t.Qualifier)+t.Name] = t.Written
		} else {
			s.written[t.Name+arg] = t.Written
		}
	}
	if rec.Redirect != "" {
		b.WriteString(" redirect=" + s.standIn(spfTarget{term: "redirect", spec: rec.Redirect, domain: domain, main: isMain}))
	}
	return b.String()
}

// ptrTarget is the domain of a ptr mechanism, which the library compares with names from DNS. What is no domain gets a
// stand-in, so that it equals none of them.
func (s *spfSession) ptrTarget(t spfTerm, domain string) string {
	target := domain
	if t.DomainSpec != "" {
		target = s.expand(t.DomainSpec, domain)
	}
	if ascii, ok := asciiDomain(target); ok {
		return ascii
	}
	return s.standIn(spfTarget{term: t.Name, spec: t.DomainSpec, domain: domain})
}

// LookupIPAddr gives addresses of the client's family only; exists always asks for IPv4 (RFC 7208 section 5.7).
func (s *spfSession) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	target, host := s.resolve(name)
	ask := s.r.AAAA
	if s.in.IP.Is4() || target.term == "exists" {
		ask = s.r.A
	}
	addrs, err := lookup(s, host, ask)
	list := make([]net.IPAddr, len(addrs))
	for i, a := range addrs {
		list[i] = net.IPAddr{IP: net.IP(a.AsSlice())}
	}
	return list, err
}

// LookupMX gives the hosts of a domain's MX records.
func (s *spfSession) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	_, domain := s.resolve(name)
	mxs, err := lookup(s, domain, s.r.MX)
	list := make([]*net.MX, len(mxs))
	for i, mx := range mxs {
		list[i] = &net.MX{Host: mx.Host, Pref: mx.Pref}
	}
	return list, err
}

// LookupAddr gives the names of the client's address.
func (s *spfSession) LookupAddr(context.Context, string) ([]string, error) {
	return lookup(s, s.in.IP.String(), func(ctx context.Context, _ string) ([]string, error) {
		return s.r.PTR(ctx, s.in.IP)
	})
}

// lookup counts a query and gives its errors in the form that the library tells apart.
func lookup[T any](s *spfSession, name string, ask func(context.Context, string) ([]T, error)) ([]T, error) {
	if s.queries++; s.queries > s.limit {
		return nil, errSPFQueries
	}
	answer, err := ask(s.ctx, name)
	switch {
	case err == nil:
		return answer, nil
	case dns.IsVoid(err):
		return nil, &net.DNSError{Err: err.Error(), Name: name, IsNotFound: true}
	}
	if s.failed == nil {
		s.failed = err
	}
	return nil, &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
}

// validatedName is %{p}: a name of the client's address that leads back to it, at best the domain itself or one below
// it, else "unknown" (RFC 7208 section 7.3).
func (s *spfSession) validatedName(domain string) string {
	if s.ptr != nil {
		return *s.ptr
	}
	best := "unknown"
	s.ptr = &best
	names, _ := s.LookupAddr(s.ctx, "") // any failure means unknown
	for _, name := range names[:min(len(names), maxPTRNames)] {
		addrs, _ := s.LookupIPAddr(s.ctx, name)
		if !slices.ContainsFunc(addrs, func(a net.IPAddr) bool { return a.IP.Equal(net.IP(s.in.IP.AsSlice())) }) {
			continue
		}
		switch name = strings.TrimSuffix(strings.ToLower(name), "."); {
		case name == domain:
			best = name
			return best
		case isSubdomain(name, domain):
			best = name
		case best == "unknown":
			best = name
		}
	}
	return best
}

// explain fetches and expands the text of exp= (RFC 7208 section 6.2). Whatever goes wrong, there is no explanation.
func (s *spfSession) explain() string {
	if s.main == nil || s.main.Exp == "" {
		return ""
	}
	txts, err := lookup(s, cutName(s.expand(s.main.Exp, s.mainAt)), s.r.TXT)
	if err != nil || len(txts) != 1 || len(txts[0]) > maxSPFRecord {
		return ""
	}
	parts, err := parseMacros(txts[0], true)
	if err != nil {
		return ""
	}
	v := s.values
	v.domain = s.mainAt
	v.validated = func() string { return s.validatedName(s.mainAt) }
	return printableASCII(v.expand(parts), maxSPFExplanation)
}

// printableASCII replaces what is not printable ASCII, and cuts.
func printableASCII(s string, limit int) string {
	b := []byte(s[:min(len(s), limit)])
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}
