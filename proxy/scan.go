package proxy

import (
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/message"
	"postern/filters/message/mailbox"
	"postern/rules"
)

// Envelope is what is known about how a stored message came in. What is missing is taken from the message: the client
// from the topmost Received field that names one outside, the reverse-path from Return-Path.
type Envelope struct {
	IP    netip.Addr
	Helo  string
	From  *filters.Path
	Rcpts []filters.Rcpt
}

// ScanResult is the verdict on one stored message, as `postern scan -json` prints it.
type ScanResult struct {
	Path     string        `json:"path"`
	Action   string        `json:"action"`
	Score    json.Number   `json:"score"` // points
	Limit    json.Number   `json:"limit"` // the threshold that decided, or the highest one
	By       string        `json:"by"`
	Findings []ScanFinding `json:"findings"`
	Auth     ScanAuth      `json:"auth"`
	Lookups  []ScanLookup  `json:"lookups,omitempty"`
	Errors   []string      `json:"errors"`
}

// ScanFinding is one finding.
type ScanFinding struct {
	Symbol string      `json:"symbol"`
	Score  json.Number `json:"score"`
	Detail string      `json:"detail"`
	File   string      `json:"file"`
	Line   int         `json:"line"`
	Shadow bool        `json:"shadow"`
}

// ScanAuth is the results of the authentication methods; "" where one did not run.
type ScanAuth struct {
	SPF   string `json:"spf"`
	DKIM  string `json:"dkim"`
	DMARC string `json:"dmarc"`
	ARC   string `json:"arc"`
	Iprev string `json:"iprev"`
}

// ScanLookup is one look-up in DNS that the checks made.
type ScanLookup struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Answer []string `json:"answer,omitempty"`
	Error  string   `json:"error,omitempty"`
}

// Scan judges one stored message as if it came in now. Observe mode is not heeded: the action is the one that would be taken.
func (rt *Runtime) Scan(ctx context.Context, item mailbox.Item, env Envelope) ScanResult {
	if item.Err != nil {
		return notJudged(item.Path, item.Err)
	}
	msg, err := message.Read(item.Data, item.Size)
	if err != nil {
		return notJudged(item.Path, err)
	}
	x := rt.Examine(ctx, msg, env)
	defer x.Close()
	return x.scanResult(item.Path)
}

func notJudged(path string, err error) ScanResult {
	return ScanResult{
		Path: path, Action: filters.NoAction.String(), Score: "0", Limit: "0",
		Findings: []ScanFinding{}, Errors: []string{err.Error()},
	}
}

// An Examination is a stored message with all that was found out about it, open to further questions.
type Examination struct {
	Verdict  filters.Verdict
	Result   filters.Result
	Envelope Envelope // as it was given, and filled in from the message

	rt      *Runtime
	run     *filters.Run
	mail    *filters.Mail
	lookups lookupLog
}

// Examine judges a message as [Runtime.Scan] does. The examination has to be closed.
func (rt *Runtime) Examine(ctx context.Context, msg *message.Message, env Envelope) *Examination {
	x := &Examination{rt: rt}
	ctx = dns.WithTrace(ctx, x.lookups.add)
	rt.fillEnvelope(&env, msg)
	x.Envelope = env
	x.run = rt.pipeline.Start(ctx, &filters.Client{
		IP:      env.IP,
		Trusted: env.IP.IsValid() && within(rt.Config.Networks.Trusted, env.IP),
		OwnName: rt.Config.Hostname,
	}, time.Now)
	x.run.Detail()
	if rt.recorded != "" {
		x.run.Recall(filters.Recorded(msg.Header, rt.recorded))
	}
	if env.Helo != "" {
		x.run.Helo(&filters.Helo{Name: env.Helo, Extended: true})
	}
	x.mail = &filters.Mail{From: *env.From}
	x.run.Mail(x.mail)
	x.run.Message(env.Rcpts, msg)
	budget, cancel := context.WithTimeout(ctx, rt.Config.Budget.Filters)
	defer cancel()
	x.Result = x.run.Collect(budget)
	x.Verdict = x.decide(x.Result.Findings)
	return x
}

// Close ends what the checks still do.
func (x *Examination) Close() { x.run.Close() }

// decide gives the verdict on findings; observe mode is not heeded.
func (x *Examination) decide(findings []filters.Finding) filters.Verdict {
	return x.decideBy(*x.rt.policy, findings)
}

func (x *Examination) decideBy(policy filters.Policy, findings []filters.Finding) filters.Verdict {
	policy.Observe = false
	return policy.Decide(filters.Case{Mail: x.mail, Rcpts: x.Envelope.Rcpts, Findings: findings})
}

func (x *Examination) scanResult(path string) ScanResult {
	out := ScanResult{Path: path, Findings: []ScanFinding{}, Errors: []string{}}
	out.fill(x.Verdict, x.Result)
	out.Lookups = x.lookups.list()
	return out
}

// fillEnvelope takes from the message what was not given.
func (rt *Runtime) fillEnvelope(env *Envelope, msg *message.Message) {
	if !env.IP.IsValid() {
		hop, ok := filters.BehindRelays(msg.Header, func(ip netip.Addr) bool {
			return within(rt.Config.Networks.Relays, ip) || ip.IsPrivate() || ip.IsLoopback()
		})
		if ok {
			env.IP = hop.IP
			if env.Helo == "" {
				env.Helo = hop.Helo
			}
		}
	}
	if env.From == nil {
		field, _ := msg.Header.First("Return-Path")
		path, err := filters.ParsePath(field.Value())
		if err != nil {
			path = filters.Path{}
		}
		env.From = &path
	}
}

func (r *ScanResult) fill(v filters.Verdict, res filters.Result) {
	r.Action, r.By = v.Action.String(), v.By
	r.Score, r.Limit = json.Number(v.Score.String()), json.Number(v.Limit.String())
	for _, f := range v.Findings {
		r.Findings = append(r.Findings, ScanFinding{
			Symbol: f.Symbol,
			Score:  json.Number(f.Score.String()),
			Detail: f.Detail,
			File:   f.Pos.File,
			Line:   f.Pos.Line,
			Shadow: f.Shadow,
		})
	}
	r.Auth = ScanAuth{
		SPF:   authResult(res.Auth, "spf"),
		DKIM:  authResult(res.Auth, "dkim"),
		DMARC: authResult(res.Auth, "dmarc"),
		ARC:   authResult(res.Auth, "arc"),
		Iprev: authResult(res.Auth, "iprev"),
	}
	for _, e := range res.Errors {
		r.Errors = append(r.Errors, e.Check+": "+e.Err.Error())
	}
}

// Explain explains the rules that hit, those that stay unknown, and those that are named.
func (x *Examination) Explain(ctx context.Context, named ...string) []rules.Explained {
	if x.rt.Rules == nil {
		return nil
	}
	return x.run.Explain(ctx, x.rt.Rules, named...)
}

// Measure adds what the rules cost on this message to costs.
func (x *Examination) Measure(ctx context.Context, costs *rules.Costs) {
	if x.rt.Rules != nil {
		x.run.Measure(ctx, x.rt.Rules, costs)
	}
}

// Thresholds are those of the policy that holds for recipients of no particular domain.
func (rt *Runtime) Thresholds() filters.Thresholds { return rt.policy.Default }
