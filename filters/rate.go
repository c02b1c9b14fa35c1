package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/filters/message"
	"postern/filters/store"
	"postern/rules"
)

// RateConfig says over how long messages are counted.
type RateConfig struct {
	Client     time.Duration `yaml:"client_window"`
	FromDomain time.Duration `yaml:"from_domain_window"`
}

func defaultRateConfig() RateConfig {
	return RateConfig{Client: time.Hour, FromDomain: time.Hour}
}

// rate counts messages of one kind of sender, for rules to ask how many there were of late: the symbol stands for as many
// findings as there were messages, this one among them. It judges nobody by itself, and counts only what some rule asks for.
//
// The count is that of a window that slides: what was counted in the present window of the clock, and of the one before it the
// part that still overlaps, as if its messages had come evenly. So a store needs to hold two numbers for each sender.
type rate struct {
	symbol   string
	scope    Scope
	window   time.Duration
	needs    []string
	key      func(ctx context.Context, in Input) (string, error) // "" for whom nothing is counted
	counters store.Store                                         // nil where nothing is counted, as when stored mail is judged
}

// A Counter is a check that counts in a store, which it is given before its first run.
type Counter interface {
	CountIn(store.Store)
}

var _ Counter = (*rate)(nil)

// The symbols of rates, which are also the names of the checks.
const (
	rateClient     = "rate.client"
	rateFromDomain = "rate.from_domain"
)

func newClientRate(c RateConfig) *rate {
	return &rate{symbol: rateClient, scope: PerMail, window: c.Client, key: clientKey}
}

func newFromRate(c RateConfig) *rate {
	return &rate{symbol: rateFromDomain, scope: PerMessage, window: c.FromDomain, needs: []string{SPFKey.Check, DKIMKey.Check}, key: fromKey}
}

func (r *rate) Name() string            { return r.symbol }
func (r *rate) Scope() Scope            { return r.scope }
func (r *rate) Needs() []string         { return r.needs }
func (r *rate) Symbols() []string       { return []string{r.symbol} }
func (r *rate) CountIn(sto store.Store) { r.counters = sto }

// asked reports whether a rule in force asks for the symbol.
func (r *rate) asked(set *rules.Set) bool {
	return set != nil && slices.ContainsFunc(set.NeedsSymbols(), func(name string) bool { return matchesSymbol(name, r.symbol) })
}

// Run counts this message and gives the count.
func (r *rate) Run(ctx context.Context, in Input) Report {
	if r.counters == nil {
		return Report{}
	}
	key, err := r.key(ctx, in)
	if err != nil {
		return Report{Err: err}
	}
	if key == "" {
		return Report{}
	}
	n, err := r.count(key, in.Now)
	if err != nil {
		return Report{Err: fmt.Errorf("counting: %w", err)}
	}
	return Report{Findings: []Finding{{
		Symbol: r.symbol,
		Count:  n,
		Detail: fmt.Sprintf("%s: %d in %v", key, n, r.window),
	}}}
}

// count adds one to the sender's counter and gives how many there were within the window that ends now.
func (r *rate) count(key string, now time.Time) (int, error) {
	at := now.UnixNano()
	number, into := at/int64(r.window), at%int64(r.window)
	name := func(number int64) []byte {
		return []byte(r.symbol + "\x00" + strconv.FormatInt(number, 36) + "\x00" + key)
	}
	present, err := r.counters.Add(name(number), 1, 2*r.window)
	if err != nil {
		return 0, err
	}
	past := int64(0)
	if text, ok, err := r.counters.Get(name(number - 1)); err != nil {
		return 0, err
	} else if ok {
		if past, err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return 0, fmt.Errorf("the counter of %s: %w", key, err)
		}
	}
	overlap := 1 - float64(into)/float64(r.window)
	return int(min(present+int64(float64(past)*overlap), maxCount)), nil
}

// maxCount bounds what a rule can see of a count.
const maxCount = 1_000_000_000

// rateNet6 is how many bits of an IPv6 address are one client: a subscriber has all addresses below them.
const rateNet6 = 64

// clientKey is the address of the client, or its network in IPv6.
func clientKey(_ context.Context, in Input) (string, error) {
	ip := in.Client.IP
	switch {
	case !ip.IsValid():
		return "", nil
	case ip.Is4():
		return ip.String(), nil
	}
	return netip.PrefixFrom(ip, rateNet6).Masked().String(), nil
}

// fromKey is the organizational domain in From, if SPF or DKIM passed for it: what anybody could have written there is not
// counted against the domain's owner.
func fromKey(ctx context.Context, in Input) (string, error) {
	domain := message.OrgDomain(authorDomain(in.Message.Header).domain)
	if domain == "" {
		return "", nil
	}
	aligned := func(name string) bool { return strings.EqualFold(message.OrgDomain(name), domain) }
	dkim, dkimErr := Await(ctx, in.Facts, DKIMKey)
	if dkimErr == nil && dkim != nil && slices.ContainsFunc(dkim.Passed(), func(s *DKIMSignature) bool { return aligned(s.Domain) }) {
		return domain, nil
	}
	spf, spfErr := Await(ctx, in.Facts, SPFKey)
	if spfErr == nil && spf != nil && spf.Result == "pass" && aligned(spf.Domain) {
		return domain, nil
	}
	for _, err := range []error{dkimErr, spfErr} {
		if err != nil && !errors.Is(err, ErrSkipped) {
			return "", err
		}
	}
	return "", nil
}

// CountIn gives the checks that count the store to count in. It is called before the pipeline is in use.
func (p *Pipeline) CountIn(s store.Store) {
	for _, stage := range p.stages {
		if c, ok := stage.Check.(Counter); ok {
			c.CountIn(s)
		}
	}
}
