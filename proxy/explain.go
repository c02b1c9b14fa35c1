package proxy

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"postern/filters"
	"postern/filters/message"
)

// Thresholds are those that hold for the message: its first recipient's.
func (x *Examination) Thresholds() filters.Thresholds {
	if len(x.Envelope.Rcpts) == 0 {
		return x.rt.policy.Default
	}
	return x.rt.policy.For(x.Envelope.Rcpts[0].To.Domain)
}

// A Shadowed is what a shadow rule, or all of them together, would have changed.
type Shadowed struct {
	Rule    string // "" for all together
	Finding filters.Finding
	Verdict filters.Verdict // if it were enforced
}

// Shadows tells what each shadow rule that hits would have changed, and, where there are several, all together.
// What other rules would have made of their symbols is not looked at.
func (x *Examination) Shadows() []Shadowed {
	return x.rt.Shadows(filters.Case{Mail: x.mail, Rcpts: x.Envelope.Rcpts, Findings: x.Verdict.Findings})
}

// Shadows is [Examination.Shadows] for findings that are as the policy of the recipients' domain sees them: its scores and
// modes of rules are not laid over them once more, else what it has in shadow mode could not be thought enforced.
func (rt *Runtime) Shadows(c filters.Case) []Shadowed {
	policy := *rt.policy
	policy.Rules, policy.Observe = nil, false
	decide := func(enforced func(i int) bool) filters.Verdict {
		own := c
		own.Findings = slices.Clone(c.Findings)
		for i := range own.Findings {
			own.Findings[i].Shadow = own.Findings[i].Shadow && !enforced(i)
		}
		return policy.Decide(own)
	}
	var list []Shadowed
	for i, f := range c.Findings {
		if f.Shadow {
			list = append(list, Shadowed{Rule: f.Symbol, Finding: f, Verdict: decide(func(j int) bool { return j == i })})
		}
	}
	if len(list) > 1 {
		list = append(list, Shadowed{Verdict: decide(func(int) bool { return true })})
	}
	return list
}

// ScanResult is the verdict as `postern scan -json` prints it.
func (x *Examination) ScanResult(path string) ScanResult { return x.scanResult(path) }

// Observing reports whether live mail is only observed, so that the verdict would not have been carried out.
func (rt *Runtime) Observing() bool { return rt.Config.Observe }

// Original gives a diverted message as it was passed on, without the fields that diverting has put on top, and its envelope.
func (q *Quarantine) Original(id string) ([]byte, Envelope, error) {
	var env Envelope
	item, err := q.Find(id)
	if err != nil {
		return nil, env, err
	}
	raw, err := os.ReadFile(item.File)
	if err != nil {
		return nil, env, err
	}
	msg, err := message.Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, env, fmt.Errorf("reading %s: %w", item.File, err)
	}
	from, err := filters.ParsePath(item.From)
	if err != nil {
		return nil, env, fmt.Errorf("the stored reverse-path %q is %w", item.From, err)
	}
	env.From = &from
	for _, to := range item.Rcpts {
		path, err := filters.ParsePath(to)
		if err != nil {
			return nil, env, fmt.Errorf("the stored recipient %q is %w", to, err)
		}
		env.Rcpts = append(env.Rcpts, filters.Rcpt{To: path})
	}
	return raw[len(joinFields(ownBlock(msg.Header))):], env, nil
}
