package filters

import (
	"context"

	"postern/rules"
)

// Explain puts the rules to the message of this run once more, and explains those that hit, those that stay unknown and
// those that are named. The other checks are awaited; none is run again.
func (r *Run) Explain(ctx context.Context, set *rules.Set, named ...string) []rules.Explained {
	return set.Explain(ctx, r.subject(ctx), named...)
}

// Measure puts the rules to the message of this run once more, and adds what they cost to costs.
func (r *Run) Measure(ctx context.Context, set *rules.Set, costs *rules.Costs) {
	set.Measure(ctx, r.subject(ctx), costs)
}

// subject is what rules may ask once all other checks have ended.
func (r *Run) subject(ctx context.Context) *subject {
	s := &subject{ctx: ctx, in: r.in}
	for i, stage := range r.p.stages {
		if t := r.tasks[i]; t != nil && stage.Check.Name() != ContentCheck {
			s.take(symbolOwner{check: stage.Check.Name(), patterns: symbolsOf(stage.Check)}, t.await(ctx))
		}
	}
	return s
}

// PassErrors has no failed check tag or defer a message, for the judging of stored mail without a network: there
// they fail for want of DNS, which says nothing about the message.
func (c *Config) PassErrors() {
	for _, onError := range []*OnError{
		&c.Iprev.OnError, &c.Helo.OnError, &c.SPF.OnError, &c.MailFrom.OnError, &c.DKIM.OnError,
		&c.ARC.OnError, &c.DMARC.OnError, &c.DNSBL.OnError, &c.Defects.OnError, &c.Classifier.OnError, &c.Content.OnError,
	} {
		*onError = PassOnError
	}
}
