package filters

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/filters/dns"
	"postern/filters/dns/zone"
	"postern/filters/message"
)

// fakeCheck is a check whose work is a function.
type fakeCheck struct {
	name  string
	scope Scope
	needs []string
	run   func(ctx context.Context, in Input) Report
}

func (c fakeCheck) Name() string                             { return c.name }
func (c fakeCheck) Scope() Scope                             { return c.scope }
func (c fakeCheck) Needs() []string                          { return c.needs }
func (c fakeCheck) Run(ctx context.Context, in Input) Report { return c.run(ctx, in) }

// senderCheck is one that does not judge trusted clients.
type senderCheck struct{ fakeCheck }

func (senderCheck) JudgesSender() {}

func found(symbol string) func(context.Context, Input) Report {
	return func(context.Context, Input) Report { return Report{Findings: []Finding{{Symbol: symbol}}} }
}

func stages(checks ...Check) []Stage {
	var list []Stage
	for _, c := range checks {
		list = append(list, Stage{Check: c, Limit: time.Minute})
	}
	return list
}

func TestPipelineRefuses(t *testing.T) {
	nothing := found("x")
	cases := []struct {
		name   string
		stages []Stage
		want   string
	}{
		{"two of one name", stages(fakeCheck{"a", PerClient, nil, nothing}, fakeCheck{"a", PerMail, nil, nothing}), "check a is there twice"},
		{"unknown need", stages(fakeCheck{"a", PerClient, []string{"b"}, nothing}), "check a needs b, which does not exist"},
		{"need of a later scope", stages(fakeCheck{"a", PerClient, []string{"b"}, nothing}, fakeCheck{"b", PerMail, nil, nothing}), "check a (per client) needs b, whose scope is later (per mail)"},
		{"cycle", stages(fakeCheck{"a", PerMail, []string{"b"}, nothing}, fakeCheck{"b", PerMail, []string{"c"}, nothing}, fakeCheck{"c", PerMail, []string{"a"}, nothing}), "checks need each other: a → b → c → a"},
	}
	for _, c := range cases {
		if _, err := NewPipeline(c.stages); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func startRun(t *testing.T, list []Stage, client *Client) *Run {
	t.Helper()
	p, err := NewPipeline(list)
	if err != nil {
		t.Fatal(err)
	}
	run := p.Start(t.Context(), client, time.Now)
	t.Cleanup(run.Close)
	return run
}

func stranger() *Client { return &Client{IP: netip.MustParseAddr("192.0.2.1")} }

// oneMessage brings a run to its end.
func oneMessage(t *testing.T, run *Run) Result {
	t.Helper()
	text := "From: a@b.example\r\n\r\nhello\r\n"
	msg, err := message.Read(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	run.Helo(&Helo{Name: "h.example"})
	run.Mail(&Mail{})
	run.Message(nil, msg)
	return run.Collect(t.Context())
}

func symbols(res Result) string {
	var list []string
	for _, f := range res.Findings {
		list = append(list, f.Symbol)
	}
	return strings.Join(list, " ")
}

// TestOrder: results stand in the order of the pipeline, whichever check ends first and whatever its scope.
func TestOrder(t *testing.T) {
	release := make(chan struct{})
	slow := func(ctx context.Context, in Input) Report {
		<-release
		return Report{Findings: []Finding{{Symbol: "slow"}}}
	}
	fast := func(ctx context.Context, in Input) Report {
		close(release)
		return Report{Findings: []Finding{{Symbol: "fast"}}}
	}
	run := startRun(t, stages(
		fakeCheck{"message", PerMessage, nil, found("message")},
		fakeCheck{"slow", PerClient, nil, slow},
		fakeCheck{"fast", PerClient, nil, fast},
		fakeCheck{"helo", PerHelo, nil, found("helo")},
	), stranger())
	if got := symbols(oneMessage(t, run)); got != "message slow fast helo" {
		t.Errorf("order: %s", got)
	}
}

var numberKey = Key[int]{Check: "number"}

// TestFacts: a check gets the typed result of one that it needs, and of no other.
func TestFacts(t *testing.T) {
	number := fakeCheck{"number", PerClient, nil, func(context.Context, Input) Report { return Report{Fact: 42} }}
	ask := func(ctx context.Context, in Input) Report {
		n, err := Await(ctx, in.Facts, numberKey)
		return Report{Findings: []Finding{{Symbol: fmt.Sprint(n), Detail: fmt.Sprint(err)}}}
	}
	run := startRun(t, stages(
		fakeCheck{"declared", PerMessage, []string{"number"}, ask},
		fakeCheck{"undeclared", PerMessage, nil, ask},
		number,
	), stranger())
	res := oneMessage(t, run)
	if got := res.Findings[0]; got.Symbol != "42" || got.Detail != "<nil>" {
		t.Errorf("declared need: %+v", got)
	}
	if got := res.Findings[1]; got.Detail != "undeclared awaits number without needing it" {
		t.Errorf("undeclared need: %+v", got)
	}
}

func TestFactsOfAnotherType(t *testing.T) {
	run := startRun(t, stages(
		fakeCheck{"number", PerClient, nil, func(context.Context, Input) Report { return Report{Fact: "text"} }},
		fakeCheck{"asker", PerMessage, []string{"number"}, func(ctx context.Context, in Input) Report {
			_, err := Await(ctx, in.Facts, numberKey)
			return Report{Err: err}
		}},
	), stranger())
	if res := oneMessage(t, run); len(res.Errors) != 1 || !strings.Contains(res.Errors[0].Err.Error(), "number yields string, asker awaits int") {
		t.Errorf("errors: %v", res.Errors)
	}
}

// TestTrusted: a check that judges the sender does not run for a trusted client, and one that needs it is told so.
func TestTrusted(t *testing.T) {
	trusted := stranger()
	trusted.Trusted = true
	run := startRun(t, stages(
		senderCheck{fakeCheck{"number", PerClient, nil, found("judged")}},
		fakeCheck{"asker", PerMessage, []string{"number"}, func(ctx context.Context, in Input) Report {
			_, err := Await(ctx, in.Facts, numberKey)
			if !errors.Is(err, ErrSkipped) {
				return Report{Err: fmt.Errorf("not told that it was skipped: %w", err)}
			}
			return Report{Findings: []Finding{{Symbol: "told"}}}
		}},
	), trusted)
	if res := oneMessage(t, run); symbols(res) != "told" {
		t.Errorf("findings: %s, errors %v", symbols(res), res.Errors)
	}
}

// TestOff: a check that is switched off does not run, and one that needs it is told so.
func TestOff(t *testing.T) {
	off := stages(fakeCheck{"number", PerClient, nil, found("ran")})[0]
	off.Off = true
	run := startRun(t, append([]Stage{off}, stages(fakeCheck{"asker", PerMessage, []string{"number"}, func(ctx context.Context, in Input) Report {
		_, err := Await(ctx, in.Facts, numberKey)
		return Report{Findings: []Finding{{Symbol: fmt.Sprint(errors.Is(err, ErrSkipped))}}}
	}})...), stranger())
	if res := oneMessage(t, run); symbols(res) != "true" {
		t.Errorf("findings: %s", symbols(res))
	}
}

// TestFailures: an error, a panic and a time-out are findings, and on_error decides what comes of them.
func TestFailures(t *testing.T) {
	fails := func(context.Context, Input) Report { return Report{Err: errors.New("no answer")} }
	panics := func(context.Context, Input) Report { panic("index out of range") }
	hangs := func(ctx context.Context, in Input) Report {
		<-ctx.Done()
		return Report{Err: ctx.Err()}
	}
	run := startRun(t, []Stage{
		{Check: fakeCheck{"pass", PerClient, nil, fails}, Limit: time.Minute, OnError: PassOnError},
		{Check: fakeCheck{"tag", PerClient, nil, panics}, Limit: time.Minute, OnError: TagOnError},
		{Check: fakeCheck{"defer", PerClient, nil, hangs}, Limit: time.Millisecond, OnError: DeferOnError},
	}, stranger())
	res := oneMessage(t, run)
	if got := symbols(res); got != "pass.error tag.error defer.error" {
		t.Fatalf("findings: %s", got)
	}
	for i, want := range []Action{NoAction, Tag, Defer} {
		if res.Findings[i].Force != want {
			t.Errorf("%s forces %v, want %v", res.Findings[i].Symbol, res.Findings[i].Force, want)
		}
	}
	for i, want := range []string{"no answer", "panic: index out of range at pipeline_test.go", "time limit reached after 1ms"} {
		if got := res.Errors[i].Err.Error(); !strings.Contains(got, want) {
			t.Errorf("error %d: %s, want %s", i, got, want)
		}
	}
}

// TestBudget: when the budget of all checks is spent, those that are unfinished are errors.
func TestBudget(t *testing.T) {
	run := startRun(t, stages(
		fakeCheck{"hangs", PerClient, nil, func(ctx context.Context, in Input) Report {
			<-ctx.Done()
			return Report{Findings: []Finding{{Symbol: "too late"}}}
		}},
		fakeCheck{"quick", PerClient, nil, found("quick")},
	), stranger())
	if _, ok := run.Wait(t.Context(), "quick"); !ok {
		t.Fatal("quick did not run")
	}
	spent, cancel := context.WithCancel(t.Context())
	cancel()
	if res := run.Collect(spent); symbols(res) != "hangs.error quick" {
		t.Errorf("findings: %s", symbols(res))
	}
}

// TestLookupBudget: a check has so many look-ups and no more, and so have all of a scope together; the next message has
// them anew.
func TestLookupBudget(t *testing.T) {
	z, err := zone.Parse("budget.zone", []byte("a.example. 60 A 192.0.2.1\n"))
	if err != nil {
		t.Fatal(err)
	}
	server, err := zone.Serve(z)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	resolver, err := dns.New(dns.Config{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resolver.Close() })
	var made atomic.Int64
	greedy := func(ctx context.Context, in Input) Report {
		for n := 0; ; n++ {
			if _, err := resolver.A(ctx, "a.example"); dns.KindOf(err) == dns.OverBudget {
				return Report{Findings: []Finding{{Symbol: fmt.Sprint(n)}}}
			}
			made.Add(1)
		}
	}
	one := startRun(t, stages(fakeCheck{"greedy", PerMessage, nil, greedy}), stranger())
	for range 2 {
		if got := symbols(oneMessage(t, one)); got != fmt.Sprint(checkLookups) {
			t.Errorf("one check made %s look-ups, want %d", got, checkLookups)
		}
	}
	made.Store(0)
	var many []Check
	for i := range 5 {
		many = append(many, fakeCheck{fmt.Sprint("greedy", i), PerMessage, nil, greedy})
	}
	oneMessage(t, startRun(t, stages(many...), stranger()))
	// A look-up that a check's own budget refuses is charged to the scope too.
	if n := made.Load(); n > scopeLookups || n < scopeLookups-int64(len(many)) {
		t.Errorf("five checks made %d look-ups, want %d", n, scopeLookups)
	}
}

// TestScopes: a new HELO ends what was about the old one, RSET what was about the sender, and what was about the
// client stays.
func TestScopes(t *testing.T) {
	ran := make(chan string, 20)
	note := func(scope Scope) Check {
		return fakeCheck{scope.String(), scope, nil, func(ctx context.Context, in Input) Report {
			ran <- scope.String()
			symbol := scope.String()
			if in.Helo != nil {
				symbol += ":" + in.Helo.Name
			}
			return Report{Findings: []Finding{{Symbol: symbol}}}
		}}
	}
	run := startRun(t, stages(note(PerClient), note(PerHelo), note(PerMail)), stranger())
	run.Helo(&Helo{Name: "one"})
	run.Mail(&Mail{})
	if got := symbols(run.Collect(t.Context())); got != "client helo:one mail:one" {
		t.Errorf("first: %s", got)
	}
	run.Reset()
	if got := symbols(run.Collect(t.Context())); got != "client helo:one" {
		t.Errorf("after RSET: %s", got)
	}
	run.Helo(&Helo{Name: "two"})
	run.Mail(&Mail{})
	if got := symbols(run.Collect(t.Context())); got != "client helo:two mail:two" {
		t.Errorf("after another HELO: %s", got)
	}
	if clients := len(ran); clients != 5 {
		t.Errorf("%d runs, want 5: the client's check once, the others twice", clients)
	}
}

// TestUnknownClient: without a client nothing runs.
func TestUnknownClient(t *testing.T) {
	run := startRun(t, stages(fakeCheck{"a", PerClient, nil, found("a")}, fakeCheck{"b", PerMessage, nil, found("b")}), nil)
	if res := oneMessage(t, run); len(res.Findings) != 0 {
		t.Errorf("findings about nobody: %s", symbols(res))
	}
}
