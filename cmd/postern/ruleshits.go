package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy"
	"postern/rules"
	"postern/rules/strict"
)

var rulesHitsCommand = &command{
	name:    "rules hits",
	args:    "[-ham PATH] [-spam PATH] [-sort KEY] [-json] [-csv] [-config FILE] [-no-packs] [-dns] [-authserv-id NAME] [FILE...]",
	summary: "count what each rule hits in stored mail, and what it costs",
	help: `
Puts the rules to stored mail and prints, of each, how many spam and ham it hit, which rule hits with it most, and what it cost.
S/O is the share of spam among what it hits, as if there were as much ham as spam: 1 is only spam, 0 only ham. Rules in shadow
mode are counted as well, those that are off are not asked.

With FILE, a rule file or a folder of them, these stand in for the configured rule files, and only their rules are told of.

No network is used. What this host recorded of SPF, DKIM, ARC and DMARC in Authentication-Results when a message came in counts
(-authserv-id names another host); else a rule that asks for these, or for a DNS list, can't be decided, and is listed as such.
With -dns they are asked, of the DNS of today. Exits 1 when a message could not be read.

KEY is one of spam, ham, so, score, cost, rule, file.

  postern rules hits -ham ~/Maildir -spam ~/Maildir/.Junk
  postern rules hits -ham ham.mbox -spam spam.mbox -sort cost -csv local.yaml`,
	run: runRulesHits,
}

type hitsFlags struct {
	ruleFlags
	corpusFlags
	sort      string
	json, csv bool
}

func runRulesHits(ctx context.Context, c *call) int {
	var f hitsFlags
	f.ruleFlags.register(c)
	f.corpusFlags.register(c)
	c.flags.StringVar(&f.sort, "sort", "spam", "order the rules by `KEY`")
	c.flags.BoolVar(&f.json, "json", false, "print one object of JSON")
	c.flags.BoolVar(&f.csv, "csv", false, "print comma-separated values, a line a rule")
	paths, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	switch {
	case !f.given():
		return c.misuse("no mail to judge, expected -ham PATH or -spam PATH")
	case f.json && f.csv:
		return c.misuse("-json beside -csv, expected one of them")
	case hitOrders[f.sort] == nil:
		return c.misuse("%s", strict.Unknown("-sort", f.sort, slices.Sorted(maps.Keys(hitOrders))))
	}
	rt, err := f.open(ctx, c, paths, f.options)
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	defer f.tell(c)()
	h := newHitCount(rt, unjudged{c: c})
	failed := h.run(ctx, &f.corpusFlags, newProgress(c.stderr))
	for _, err := range failed {
		fmt.Fprintf(c.stderr, "postern rules hits: %v\n", err)
	}
	if err := h.report(f.sort).print(c.stdout, &f); err != nil {
		return c.fail(err)
	}
	if len(failed) > 0 || h.bad.n > 0 {
		return exitBad
	}
	return exitFine
}

// A hitCount counts what the rules hit.
type hitCount struct {
	rt       *ruleSet
	rules    []*rules.Rule
	byID     map[string]int
	messages map[class]int
	bytes    int64
	hits     []map[class]int // by rule
	unknown  []int           // by rule
	together map[[2]int]int  // messages that both rules hit, the lower number first
	bad      unjudged

	mu    sync.Mutex
	costs rules.Costs
}

func newHitCount(rt *ruleSet, bad unjudged) *hitCount {
	h := &hitCount{rt: rt, rules: rt.Rules.Rules(), byID: map[string]int{}, messages: map[class]int{}, together: map[[2]int]int{}, bad: bad}
	for i, r := range h.rules {
		h.byID[r.ID] = i
		h.hits = append(h.hits, map[class]int{})
	}
	h.unknown = make([]int, len(h.rules))
	return h
}

// A sighting is what the rules said about one message, by their numbers.
type sighting struct {
	hit, unknown []int
	size         int64
}

func (h *hitCount) run(ctx context.Context, f *corpusFlags, p *progress) []error {
	defer p.end()
	var failed []error
	for _, k := range classes {
		take := func(_ string, s sighting) {
			h.add(k, s)
			p.step()
		}
		failed = append(failed, judgeCorpus(ctx, f, k, func(msg *message.Message) sighting { return h.judge(ctx, msg) }, take, &h.bad)...)
	}
	if ctx.Err() != nil && len(failed) == 0 {
		failed = append(failed, errors.New("interrupted"))
	}
	return failed
}

func (h *hitCount) judge(ctx context.Context, msg *message.Message) sighting {
	x := h.rt.Examine(ctx, msg, proxy.Envelope{})
	defer x.Close()
	s := sighting{size: msg.Size()}
	for _, f := range x.Verdict.Findings {
		if i, ok := h.byID[f.Symbol]; ok && !slices.Contains(s.hit, i) {
			s.hit = append(s.hit, i)
		}
	}
	if fact, ok := x.Result.Facts[filters.ContentCheck].(filters.ContentFact); ok {
		for _, id := range fact.Unknown {
			s.unknown = append(s.unknown, h.byID[id])
		}
	}
	var costs rules.Costs
	x.Measure(ctx, &costs)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.costs.Add(costs)
	return s
}

func (h *hitCount) add(k class, s sighting) {
	h.messages[k]++
	h.bytes += s.size
	for n, i := range s.hit {
		h.hits[i][k]++
		for _, j := range s.hit[n+1:] {
			h.together[[2]int{min(i, j), max(i, j)}]++
		}
	}
	for _, i := range s.unknown {
		h.unknown[i]++
	}
}

// A hitReport is what -json prints.
type hitReport struct {
	Ham      int       `json:"ham"`  // messages
	Spam     int       `json:"spam"` // messages
	Bytes    int64     `json:"bytes"`
	Together float64   `json:"us_together"` // microseconds a message, all rules
	Rules    []ruleHit `json:"rules"`
}

// A ruleHit is what came of one rule.
type ruleHit struct {
	Rule     string    `json:"rule"`
	File     string    `json:"file"`
	Line     int       `json:"line"`
	Mode     string    `json:"mode"`
	Score    points    `json:"score"`
	Action   string    `json:"action,omitempty"`
	Spam     int       `json:"spam"`
	Ham      int       `json:"ham"`
	SpamRate float64   `json:"spam_rate"`
	HamRate  float64   `json:"ham_rate"`
	SO       *float64  `json:"s_o"` // null for a rule that hit nothing
	Unknown  int       `json:"unknown"`
	Cost     float64   `json:"us"` // microseconds a message
	Overlap  []overlap `json:"overlap"`
}

// An overlap is another rule that hit some of the same messages.
type overlap struct {
	Rule  string  `json:"rule"`
	Share float64 `json:"share"` // of the messages that the first rule hit
}

// points is a score in hundredths that prints as points.
type points int32

func (p points) String() string               { return rules.FormatScore(int32(p)) }
func (p points) MarshalJSON() ([]byte, error) { return []byte(p.String()), nil }

var _ json.Marshaler = points(0)

// maxOverlaps is how many other rules are told of.
const maxOverlaps = 5

func (h *hitCount) report(order string) *hitReport {
	r := &hitReport{Ham: h.messages[ham], Spam: h.messages[spam], Bytes: h.bytes, Rules: []ruleHit{}}
	r.Together = microseconds(h.costs.Together, h.costs.Messages)
	for i, rule := range h.rules {
		if !h.rt.asked(rule) {
			continue
		}
		hit := ruleHit{
			Rule: rule.ID, File: rule.Pos.File, Line: rule.Pos.Line, Mode: rule.Mode.String(), Score: points(rule.Score), Action: rule.Action,
			Spam: h.hits[i][spam], Ham: h.hits[i][ham], Unknown: h.unknown[i],
			Cost: microseconds(h.costs.Own[rule], h.costs.Messages), Overlap: h.overlaps(i),
		}
		hit.SpamRate, hit.HamRate = rate(hit.Spam, r.Spam), rate(hit.Ham, r.Ham)
		if hit.Spam+hit.Ham > 0 {
			so := hit.SpamRate / (hit.SpamRate + hit.HamRate)
			hit.SO = &so
		}
		r.Rules = append(r.Rules, hit)
	}
	slices.SortStableFunc(r.Rules, hitOrders[order])
	return r
}

func rate(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func microseconds(d time.Duration, messages int) float64 {
	if messages == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(messages)
}

// overlaps lists the rules that hit most of what a rule hit.
func (h *hitCount) overlaps(i int) []overlap {
	all := h.hits[i][ham] + h.hits[i][spam]
	list := []overlap{}
	for j, other := range h.rules {
		if n := h.together[[2]int{min(i, j), max(i, j)}]; n > 0 {
			list = append(list, overlap{Rule: other.ID, Share: rate(n, all)})
		}
	}
	slices.SortStableFunc(list, func(a, b overlap) int { return cmp.Compare(b.Share, a.Share) })
	return list[:min(len(list), maxOverlaps)]
}

// hitOrders are the keys of -sort; among equals the order of the files stays.
var hitOrders = map[string]func(a, b ruleHit) int{
	"spam": func(a, b ruleHit) int {
		return cmp.Or(cmp.Compare(b.SpamRate, a.SpamRate), cmp.Compare(b.HamRate, a.HamRate))
	},
	"ham": func(a, b ruleHit) int {
		return cmp.Or(cmp.Compare(b.HamRate, a.HamRate), cmp.Compare(b.SpamRate, a.SpamRate))
	},
	"so":    func(a, b ruleHit) int { return cmp.Or(cmp.Compare(b.so(), a.so()), cmp.Compare(b.Spam, a.Spam)) },
	"score": func(a, b ruleHit) int { return cmp.Compare(b.Score, a.Score) },
	"cost":  func(a, b ruleHit) int { return cmp.Compare(b.Cost, a.Cost) },
	"rule":  func(a, b ruleHit) int { return cmp.Compare(a.Rule, b.Rule) },
	"file":  func(ruleHit, ruleHit) int { return 0 },
}

// so orders the rules that hit nothing last.
func (h ruleHit) so() float64 {
	if h.SO == nil {
		return -1
	}
	return *h.SO
}
