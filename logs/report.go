package logs

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// A Report is what a log says, in numbers.
type Report struct {
	First      time.Time      `json:"first"`
	Last       time.Time      `json:"last"`
	Messages   int            `json:"messages"`
	Sessions   int            `json:"sessions"`
	Unreadable int            `json:"unreadable"`
	Actions    map[string]int `json:"actions"`
	Would      map[string]int `json:"would"`

	Hours   []Hour      `json:"hours"`
	Scores  []ScoreStep `json:"scores"`
	Limits  []Limit     `json:"limits"`
	Decided []Count     `json:"decided_by"`

	Rules    []Rule   `json:"rules"`
	NeverHit []string `json:"never_hit"`

	Clients  []Count `json:"refused_clients"`
	Networks []Count `json:"refused_networks"`
	Domains  []Count `json:"refused_domains"`

	Auth     []AuthDomain `json:"authentication"`
	DNSBL    []Rule       `json:"dnsbl"`
	Parked   []Failure    `json:"dnsbl_parked"`
	Upstream []Upstream   `json:"upstreams"`

	RcptsRefused int     `json:"rcpts_refused"`
	Harvesters   []Count `json:"rcpts_refused_by_client"`

	Stages      []Latency `json:"stages"`
	Errors      []Failure `json:"errors"`
	SessionEnds []Count   `json:"session_ends"`
}

// An Hour is the messages of one hour by action.
type Hour struct {
	Hour    time.Time      `json:"hour"`
	Actions map[string]int `json:"actions"`
}

// A ScoreStep is how many messages have a score from From up to the next whole number.
type ScoreStep struct {
	From     int `json:"from"`
	Messages int `json:"messages"`
}

// A Limit is a threshold that decided, and the action that it stands for.
type Limit struct {
	Action string  `json:"action"`
	Score  float64 `json:"score"`
}

// A Rule is what one rule or symbol did.
type Rule struct {
	Name   string    `json:"name"`
	Shadow bool      `json:"shadow"`
	Hits   int       `json:"hits"`
	Share  float64   `json:"share"`
	Alone  int       `json:"alone"` // messages whose action would be milder without it
	Points float64   `json:"points"`
	Last   time.Time `json:"last"`
}

// An AuthDomain is how the messages fared that say to be from a domain.
type AuthDomain struct {
	Domain    string  `json:"domain"`
	Messages  int     `json:"messages"`
	SPF       int     `json:"spf_pass"`
	DKIM      int     `json:"dkim_pass"`
	DMARC     int     `json:"dmarc_pass"`
	DMARCFail int     `json:"dmarc_fail"`
	Failing   []Count `json:"failing_clients"`
}

// A Failure is something that failed, how often, and how it last said so.
type Failure struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Last  string `json:"last"`
}

// An Upstream is a server behind, what it answered to messages and how fast.
type Upstream struct {
	Latency
	Replies []Count `json:"replies"`
	Down    int     `json:"down"`
}

// Lengths of the lists, and what is kept to find them.
const (
	listed = 15
	kept   = 10000
)

// Score steps beyond these ends are counted in the last.
const (
	lowestScore  = -20
	highestScore = 40
)

// maxHours bounds the time series: about two years.
const maxHours = 20000

// A Reporter gathers a report from records.
type Reporter struct {
	rep      Report
	hours    map[int64]map[string]int
	scores   map[int]int
	limits   map[Limit]int
	by       *top[struct{}]
	rules    *top[Rule]
	shadow   *top[Rule]
	clients  *top[struct{}]
	networks *top[struct{}]
	domains  *top[struct{}]
	auth     *top[authCount]
	parked   *top[string]
	ups      *top[upstreamCount]
	harvest  *top[struct{}]
	errors   *top[string]
	ends     *top[struct{}]
	stages   map[string]*histogram
}

type authCount struct {
	spf, dkim, pass, fail int
	from                  *top[struct{}]
}

type upstreamCount struct {
	took    histogram
	replies map[string]int
	down    int
}

var stageNames = []string{"ms_total", "ms_dns", "ms_filters", "ms_upstream"}

// NewReporter begins a report.
func NewReporter() *Reporter {
	r := &Reporter{
		hours: make(map[int64]map[string]int), scores: make(map[int]int), limits: make(map[Limit]int), stages: make(map[string]*histogram),
		by: newTop[struct{}](kept), rules: newTop[Rule](kept), shadow: newTop[Rule](kept), clients: newTop[struct{}](kept),
		networks: newTop[struct{}](kept), domains: newTop[struct{}](kept), auth: newTop[authCount](kept), parked: newTop[string](100),
		ups: newTop[upstreamCount](100), harvest: newTop[struct{}](kept), errors: newTop[string](1000), ends: newTop[struct{}](100),
	}
	r.rep.Actions, r.rep.Would = make(map[string]int), make(map[string]int)
	for _, s := range stageNames {
		r.stages[s] = new(histogram)
	}
	return r
}

// Add counts a record.
func (r *Reporter) Add(rec *Record) {
	at := rec.Time()
	if r.rep.First.IsZero() || at.Before(r.rep.First) {
		r.rep.First = at
	}
	if at.After(r.rep.Last) {
		r.rep.Last = at
	}
	switch string(rec.raw("event")) {
	case "message":
		r.message(rec, at)
	case "session":
		r.rep.Sessions++
		r.ends.add(rec.raw("reason"), 1)
	case "dnsbl_parked", "dnsbl_out_of_service":
		r.parked.add(rec.raw("zone"), 1).more = rec.Get("reason")
	case "upstream_down":
		r.ups.add(rec.raw("upstream"), 0).more.down++
	}
}

func (r *Reporter) message(rec *Record, at time.Time) {
	action := rec.Get("action")
	r.rep.Messages++
	bump(r.rep.Actions, action)
	if would := rec.Get("would"); would != "" {
		bump(r.rep.Would, would)
	}
	hour := at.Truncate(time.Hour).Unix()
	if r.hours[hour] == nil && len(r.hours) < maxHours {
		r.hours[hour] = make(map[string]int)
	}
	if r.hours[hour] != nil {
		bump(r.hours[hour], action)
	}
	if action != "abort" {
		r.scores[min(max(int(math.Floor(rec.Float("score"))), lowestScore), highestScore)]++
	}
	r.by.add(rec.raw("by"), 1)
	r.findings(rec, at)
	r.sender(rec, action)
	r.network(rec, action)
	for _, s := range stageNames {
		r.stages[s].add(rec.Int(s))
	}
	for part := range strings.SplitSeq(rec.Get("errors"), "; ") {
		if name, _, ok := strings.Cut(part, ": "); ok && name != "" {
			r.errors.add([]byte(name), 1).more = part
		}
	}
}

// maxActions bounds the kinds of action; Postern knows six.
const maxActions = 20

func bump(m map[string]int, key string) {
	if _, known := m[key]; known || len(m) < maxActions {
		m[key]++
	}
}

// network counts who was refused, and what the server behind said.
func (r *Reporter) network(rec *Record, action string) {
	ip := rec.raw("ip")
	if action == "reject" || action == "defer" {
		r.clients.add(ip, 1)
		r.networks.add([]byte(network(string(ip))), 1)
	}
	if n := int(rec.Int("rcpts_refused")); n > 0 {
		r.rep.RcptsRefused += n
		r.harvest.add(ip, n)
	}
	reply := rec.raw("upstream_reply")
	if to := rec.raw("upstream"); len(to) > 0 && len(reply) >= 3 {
		e := r.ups.add(to, 1)
		e.more.took.add(rec.Int("ms_upstream"))
		if e.more.replies == nil {
			e.more.replies = make(map[string]int)
		}
		bump(e.more.replies, string(reply[:3]))
	}
}

// sender counts how the domain in the From field fared.
func (r *Reporter) sender(rec *Record, action string) {
	domain := AddressDomain(rec.Get("from"))
	if domain == "" {
		domain = AddressDomain(rec.Get("mail_from"))
	}
	if domain == "" {
		return
	}
	if action == "reject" || action == "defer" {
		r.domains.add([]byte(domain), 1)
	}
	dmarc := string(rec.raw("dmarc"))
	if dmarc == "" {
		return
	}
	a := &r.auth.add([]byte(domain), 1).more
	if string(rec.raw("spf")) == "pass" {
		a.spf++
	}
	if string(rec.raw("dkim")) == "pass" {
		a.dkim++
	}
	switch dmarc {
	case "pass":
		a.pass++
	case "fail":
		a.fail++
		if a.from == nil {
			a.from = newTop[struct{}](20)
		}
		a.from.add(rec.raw("ip"), 1)
	}
}

// findings counts the rules of a message, and for which of them its action would have been milder without.
func (r *Reporter) findings(rec *Record, at time.Time) {
	by, _, _ := strings.Cut(rec.Get("by"), ",")
	action, score, limit := rec.Get("action"), rec.Float("score"), rec.Float("limit")
	if would := rec.Get("would"); would != "" {
		action = would
	}
	decided := by == "score" && score >= limit && action != "accept" && action != "abort"
	if l := (Limit{Action: action, Score: limit}); decided && (r.limits[l] > 0 || len(r.limits) < 100) {
		r.limits[l]++
	}
	for name, points := range Findings(rec.Get("rules")) {
		e := r.rules.add([]byte(name), 1)
		e.more.hit(points, at)
		if by == name || decided && score-points < limit {
			e.more.Alone++
		}
	}
	for name, points := range Findings(rec.Get("shadow")) {
		r.shadow.add([]byte(name), 1).more.hit(points, at)
	}
}

func (rule *Rule) hit(points float64, at time.Time) {
	rule.Points += points
	if at.After(rule.Last) {
		rule.Last = at
	}
}

// Report ends the gathering. Known are the names of the rules that could have hit.
func (r *Reporter) Report(unreadable int, known []string) *Report {
	rep := &r.rep
	rep.Unreadable = unreadable
	for at, actions := range r.hours {
		rep.Hours = append(rep.Hours, Hour{Hour: time.Unix(at, 0).UTC(), Actions: actions})
	}
	slices.SortFunc(rep.Hours, func(a, b Hour) int { return a.Hour.Compare(b.Hour) })
	for from, n := range r.scores {
		rep.Scores = append(rep.Scores, ScoreStep{From: from, Messages: n})
	}
	slices.SortFunc(rep.Scores, func(a, b ScoreStep) int { return a.From - b.From })
	for l := range r.limits {
		rep.Limits = append(rep.Limits, l)
	}
	slices.SortFunc(rep.Limits, func(a, b Limit) int {
		return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Action, b.Action))
	})
	rep.Decided = counts(r.by, listed)
	rep.Rules = append(rulesOf(r.rules, rep.Messages, false), rulesOf(r.shadow, rep.Messages, true)...)
	for _, rule := range rep.Rules {
		if strings.HasPrefix(rule.Name, "dnsbl.") {
			rep.DNSBL = append(rep.DNSBL, rule)
		}
	}
	for _, name := range known {
		if r.rules.entries[name] == nil && r.shadow.entries[name] == nil {
			rep.NeverHit = append(rep.NeverHit, name)
		}
	}
	slices.Sort(rep.NeverHit)
	rep.Clients, rep.Networks, rep.Domains = counts(r.clients, listed), counts(r.networks, listed), counts(r.domains, listed)
	rep.Harvesters, rep.SessionEnds = counts(r.harvest, listed), counts(r.ends, listed)
	rep.Parked, rep.Errors = failures(r.parked), failures(r.errors)
	for _, s := range stageNames {
		rep.Stages = append(rep.Stages, r.stages[s].latency(s))
	}
	r.servers()
	return rep
}

// servers lists the domains that mail came from and the servers that it went to.
func (r *Reporter) servers() {
	for _, e := range r.auth.ranking(listed) {
		d := AuthDomain{Domain: e.key, Messages: e.count, SPF: e.more.spf, DKIM: e.more.dkim, DMARC: e.more.pass, DMARCFail: e.more.fail}
		if e.more.from != nil {
			d.Failing = counts(e.more.from, 3)
		}
		r.rep.Auth = append(r.rep.Auth, d)
	}
	for _, e := range r.ups.ranking(listed) {
		u := Upstream{Latency: e.more.took.latency(e.key), Down: e.more.down}
		for code, n := range e.more.replies {
			u.Replies = append(u.Replies, Count{Name: code, Count: n})
		}
		slices.SortFunc(u.Replies, func(a, b Count) int { return strings.Compare(a.Name, b.Name) })
		r.rep.Upstream = append(r.rep.Upstream, u)
	}
}

func rulesOf(t *top[Rule], messages int, shadow bool) []Rule {
	var list []Rule
	for _, e := range t.ranking(0) {
		rule := e.more
		rule.Name, rule.Hits, rule.Shadow = e.key, e.count, shadow
		rule.Share = float64(e.count) / float64(messages)
		rule.Points = math.Round(rule.Points*100) / 100
		list = append(list, rule)
	}
	return list
}

func failures(t *top[string]) []Failure {
	var list []Failure
	for _, e := range t.ranking(listed) {
		list = append(list, Failure{Name: e.key, Count: e.count, Last: e.more})
	}
	return list
}
