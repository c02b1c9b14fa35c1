package filters

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
	"postern/filters/message"
)

// OnError says what becomes of a message when a check could not do its work.
type OnError uint8

// What a failed check leads to.
const (
	PassOnError  OnError = iota // nothing, but the error is a finding and stands in the log
	TagOnError                  // the message is tagged
	DeferOnError                // the client hears 451 and comes again
)

// A Stage is a check in its place in the pipeline.
type Stage struct {
	Check   Check
	Limit   time.Duration // how long one run may take
	OnError OnError
	Off     bool // it does not run; those that need it are told so
}

// A Pipeline is the immutable chain of checks. Its order is the order of results.
type Pipeline struct {
	stages []Stage
	index  map[string]int
}

// How many look-ups in DNS one run of a check may make, and all checks of one scope together. What goes beyond them fails,
// and so is an error of the check, which on_error decides about.
const (
	checkLookups = 200
	scopeLookups = 500
)

// errTimeLimit is the cause of a check's context that ended by the check's own limit or by the budget of all.
var errTimeLimit = errors.New("time limit reached")

// NewPipeline puts stages in order. It refuses two checks of one name, needs that no check meets, needs of a later
// scope, and cycles.
func NewPipeline(stages []Stage) (*Pipeline, error) {
	p := &Pipeline{stages: stages, index: make(map[string]int, len(stages))}
	for i, s := range stages {
		if _, twice := p.index[s.Check.Name()]; twice {
			return nil, fmt.Errorf("check %s is there twice", s.Check.Name())
		}
		p.index[s.Check.Name()] = i
	}
	for _, s := range stages {
		for _, need := range s.Check.Needs() {
			i, ok := p.index[need]
			switch {
			case !ok:
				return nil, fmt.Errorf("check %s needs %s, which does not exist", s.Check.Name(), need)
			case stages[i].Check.Scope() > s.Check.Scope():
				return nil, fmt.Errorf("check %s (per %s) needs %s, whose scope is later (per %s)",
					s.Check.Name(), s.Check.Scope(), need, stages[i].Check.Scope())
			}
		}
	}
	for _, s := range stages {
		if path := p.cycle(s.Check.Name(), nil); path != nil {
			return nil, fmt.Errorf("checks need each other: %s", strings.Join(path, " → "))
		}
	}
	return p, nil
}

// SelfTest has the checks test what they rely on, as far as that is due. It is called at start and every now and then.
func (p *Pipeline) SelfTest(ctx context.Context, now time.Time) {
	for _, s := range p.stages {
		if tester, ok := s.Check.(SelfTester); ok && !s.Off {
			tester.SelfTest(ctx, now)
		}
	}
}

// ListStates gives, for each list in DNS that a check asks, why it is parked; "" if it is not.
func (p *Pipeline) ListStates(now time.Time) map[string]string {
	all := make(map[string]string)
	for _, s := range p.stages {
		user, ok := s.Check.(ListUser)
		if !ok || s.Off {
			continue
		}
		for zone, why := range user.ListStates(now) {
			if all[zone] == "" {
				all[zone] = why
			}
		}
	}
	return all
}

func (p *Pipeline) cycle(name string, path []string) []string {
	if slices.Contains(path, name) {
		return append(path, name)
	}
	for _, need := range p.stages[p.index[name]].Check.Needs() {
		if found := p.cycle(need, append(slices.Clone(path), name)); found != nil {
			return found
		}
	}
	return nil
}

// A task is one run of one check.
type task struct {
	done   chan struct{} // closed when report is final
	report Report
}

// closed is the done of a task whose report was there from the start.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// A Run is the checks of one SMTP connection under way. Its methods are called by one goroutine, the session's.
type Run struct {
	p     *Pipeline
	now   func() time.Time
	stats dns.Stats
	told  DNSCost // of stats, by Spent
	lists listCosts
	in    Input
	tasks []*task // by stage; nil: not started, or does not judge this client

	recorded map[string][]AuthResult // what checks take over in place of running, by their names
	root     context.Context
	scopes   [PerMessage + 1]scopeContext
	wg       sync.WaitGroup
}

type scopeContext struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// Start begins a Run for a connection and starts the checks of its client. A nil client is one that is not known
// yet (a relay's, whose Received field has still to come); Client is then called later. The clock is for checks that ask for the time.
func (p *Pipeline) Start(ctx context.Context, client *Client, now func() time.Time) *Run {
	r := &Run{p: p, now: now, tasks: make([]*task, len(p.stages))}
	ctx = context.WithValue(dns.WithStats(ctx, &r.stats), listCostsKey{}, &r.lists)
	r.root = ctx
	r.open(PerClient)
	if client != nil {
		r.in.Client = client
		r.start(PerClient)
	}
	return r
}

// Secure notes what became known about the client after its checks began: TLS, and talking out of turn.
func (r *Run) Secure(state *tls.ConnectionState, earlyTalk bool) {
	if r.in.Client == nil {
		return
	}
	client := *r.in.Client
	client.TLS, client.EarlyTalk = state, earlyTalk
	r.in.Client = &client
}

// Helo ends what was about an earlier HELO and starts the checks of this one.
func (r *Run) Helo(h *Helo) {
	r.end(PerHelo)
	r.in.Helo = h
	r.begin(PerHelo)
}

// Mail ends what was about an earlier transaction and starts the checks of this reverse-path.
func (r *Run) Mail(m *Mail) {
	r.end(PerMail)
	r.in.Mail = m
	r.begin(PerMail)
}

// Detail has the checks tell in each finding what they found, which nobody reads while mail is served. It is called
// before the scope of such a check begins.
func (r *Run) Detail() { r.in.Detail = true }

// Message starts the checks of the message.
func (r *Run) Message(rcpts []Rcpt, msg *message.Message) {
	r.end(PerMessage)
	r.in.Rcpts, r.in.Message = rcpts, msg
	r.begin(PerMessage)
}

// Reset ends the transaction (RSET); client and HELO stay.
func (r *Run) Reset() { r.end(PerMail) }

// Close ends all checks and waits for them.
func (r *Run) Close() {
	r.end(PerClient)
	r.wg.Wait()
}

// DNSCost is what checks asked of DNS.
type DNSCost struct {
	Waited  time.Duration // in which at least one look-up waited for an answer
	Lookups int           // records that were asked for
	Queries int           // those of them that the cache could not answer
	Lists   []ListCost    // by zone, each once
}

// Plus adds what another run cost.
func (c DNSCost) Plus(other DNSCost) DNSCost {
	return DNSCost{
		Waited: c.Waited + other.Waited, Lookups: c.Lookups + other.Lookups, Queries: c.Queries + other.Queries,
		Lists: mergedLists(c.Lists, other.Lists),
	}
}

// Spent tells what the checks asked of DNS since it was last told. The first message of a connection is charged with
// the client's checks.
func (r *Run) Spent() DNSCost {
	total := DNSCost{Waited: r.stats.Time(), Lookups: r.stats.Lookups(), Queries: r.stats.Queries()}
	spent := DNSCost{
		Waited: total.Waited - r.told.Waited, Lookups: total.Lookups - r.told.Lookups, Queries: total.Queries - r.told.Queries,
	}
	r.told = total
	spent.Lists = r.lists.take()
	return spent
}

// Input is what the run knows so far.
func (r *Run) Input() Input { return r.in }

// end cancels the scope and all later ones, and forgets their tasks and inputs.
func (r *Run) end(s Scope) {
	for later := s; later <= PerMessage; later++ {
		if r.scopes[later].cancel != nil {
			r.scopes[later].cancel()
			r.scopes[later] = scopeContext{}
		}
	}
	for i, stage := range r.p.stages {
		if stage.Check.Scope() >= s {
			r.tasks[i] = nil
		}
	}
	if s <= PerHelo {
		r.in.Helo = nil
	}
	if s <= PerMail {
		r.in.Mail = nil
	}
	r.in.Rcpts, r.in.Message = nil, nil
}

func (r *Run) begin(s Scope) {
	r.open(s)
	r.start(s)
}

// open makes the context of a scope, with its own budget of look-ups.
func (r *Run) open(s Scope) {
	r.scopes[s].ctx, r.scopes[s].cancel = context.WithCancel(dns.WithBudget(r.root, scopeLookups))
}

// start launches the checks of one scope. All tasks exist before the first runs, so that a need finds them
// whatever the order of the stages.
func (r *Run) start(s Scope) {
	if r.in.Client == nil {
		return
	}
	r.in.Now = r.now()
	for i, stage := range r.p.stages {
		if stage.Check.Scope() != s || stage.Off {
			continue
		}
		if report, ok := r.recalled(stage.Check, r.in); ok {
			r.tasks[i] = &task{done: closed, report: report}
		} else if r.judges(stage.Check) {
			r.tasks[i] = &task{done: make(chan struct{})}
		}
	}
	for i, stage := range r.p.stages {
		if t := r.tasks[i]; t != nil && t.done != closed && stage.Check.Scope() == s {
			in := r.in
			in.Facts = r.facts(stage.Check)
			ctx := r.scopes[s].ctx
			r.wg.Go(func() { t.run(ctx, stage, in) })
		}
	}
}

// judges reports whether the check runs for this client at all.
func (r *Run) judges(c Check) bool {
	_, sender := c.(SenderJudge)
	return !sender || !r.in.Client.Trusted && r.in.Client.IP.IsValid()
}

func (r *Run) facts(c Check) *Facts {
	f := &Facts{owner: c.Name(), needs: make(map[string]*task)}
	for _, need := range c.Needs() {
		f.needs[need] = r.tasks[r.p.index[need]]
	}
	return f
}

// run does the check's work under its limit. A panic is an error like any other, never a pass.
func (t *task) run(ctx context.Context, stage Stage, in Input) {
	growStack()
	ctx, cancel := context.WithTimeoutCause(dns.WithBudget(ctx, checkLookups), stage.Limit, errTimeLimit)
	defer cancel()
	defer close(t.done)
	defer func() {
		if cause := recover(); cause != nil {
			t.report = Report{Err: fmt.Errorf("panic: %v at %s", cause, panicSite())}
		}
	}()
	t.report = stage.Check.Run(ctx, in)
	if t.report.Err != nil && context.Cause(ctx) == errTimeLimit {
		t.report.Err = fmt.Errorf("%w after %v: %w", errTimeLimit, stage.Limit, t.report.Err)
	}
}

// growStack makes the stack of a goroutine large enough for a check while there is next to nothing on it. It begins with a few
// KB, and would be copied at each doubling with all that is on it by then: 5 % of the processor time of a message.
//
//go:noinline
func growStack() {
	var room [checkStack]byte
	runtime.KeepAlive(&room)
}

// checkStack is what verifying a signature takes.
const checkStack = 8 << 10

// panicSite is the function and line that panicked, for the log.
func panicSite() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "panic(") && i+3 < len(lines) {
			file, _, _ := strings.Cut(strings.TrimSpace(lines[i+3]), " ")
			return file[strings.LastIndexByte(file, '/')+1:]
		}
	}
	return "unknown place"
}

// A CheckError is a check that could not do its work.
type CheckError struct {
	Check string
	Err   error
}

// A Result is what all checks found, in the order of the pipeline.
type Result struct {
	Findings []Finding
	Auth     []AuthResult
	Fields   []message.Field
	Errors   []CheckError
	Facts    map[string]any // each check's fact by its name, where it gave one
}

// Collect awaits the checks that were started and merges their reports in the pipeline's order. When ctx ends first,
// those that are unfinished are errors: on expiry nothing is believed that was not found.
func (r *Run) Collect(ctx context.Context) Result {
	res := Result{Facts: make(map[string]any)}
	for i, stage := range r.p.stages {
		if t := r.tasks[i]; t != nil {
			res.add(stage, t.await(ctx))
		}
	}
	return res
}

// Wait awaits one check that was started; ok is false when it was not. An early refusal asks so.
func (r *Run) Wait(ctx context.Context, check string) (report Report, ok bool) {
	i, exists := r.p.index[check]
	if !exists || r.tasks[i] == nil {
		return Report{}, false
	}
	return r.tasks[i].await(ctx), true
}

func (t *task) await(ctx context.Context) Report {
	select {
	case <-t.done:
		return t.report
	default:
	}
	select {
	case <-t.done:
		return t.report
	case <-ctx.Done():
		return Report{Err: fmt.Errorf("%w: the budget for all checks is spent", errTimeLimit)}
	}
}

func (res *Result) add(stage Stage, report Report) {
	name := stage.Check.Name()
	res.Findings = append(res.Findings, report.Findings...)
	res.Auth = append(res.Auth, report.Auth...)
	res.Fields = append(res.Fields, report.Fields...)
	if report.Fact != nil {
		res.Facts[name] = report.Fact
	}
	if report.Err == nil {
		return
	}
	res.Errors = append(res.Errors, CheckError{Check: name, Err: report.Err})
	failed := Finding{Symbol: name + ".error", Detail: report.Err.Error()}
	switch stage.OnError {
	case TagOnError:
		failed.Force = Tag
	case DeferOnError:
		failed.Force = Defer
		_, failed.Malware = stage.Check.(MalwareJudge)
		failed.Reply = "a check of your message could not be finished just now; please try again later"
	case PassOnError:
	}
	res.Findings = append(res.Findings, failed)
}
