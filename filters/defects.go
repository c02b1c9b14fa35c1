package filters

import (
	"context"

	"postern/filters/message"
)

// DefectsConfig is the configuration of the check of the message's form.
type DefectsConfig struct {
	Scores Scores `yaml:"scores"`
}

// defaultDefectsConfig weighs nothing: what a defect means is for rules to say, which see it as a symbol.
func defaultDefectsConfig() DefectsConfig {
	scores := make(Scores)
	for kind := range message.DefectKinds() {
		scores[kind] = 0
	}
	return DefectsConfig{Scores: scores}
}

// defectsCheck makes findings of what is not as RFC 5322 and MIME have it: "defects.bad_date".
type defectsCheck struct {
	cfg    DefectsConfig
	bodies bool // they are decoded to find what is wrong with them
}

// newDefects makes the check. Decoding the bodies is the dearest part of it, so that is done only where somebody can
// tell the difference: where rules may ask, or where a defect of bodies has a score.
func newDefects(cfg DefectsConfig, rules bool) *defectsCheck {
	c := &defectsCheck{cfg: cfg, bodies: rules}
	for kind, score := range cfg.Scores {
		c.bodies = c.bodies || score != 0 && message.BodyDefect(kind)
	}
	return c
}

func (c *defectsCheck) Name() string      { return "defects" }
func (c *defectsCheck) Scope() Scope      { return PerMessage }
func (c *defectsCheck) Needs() []string   { return nil }
func (c *defectsCheck) Symbols() []string { return c.cfg.Scores.symbols("defects") }

func (c *defectsCheck) Run(_ context.Context, in Input) Report {
	var report Report
	found := in.Message.KnownDefects
	if c.bodies {
		found = in.Message.Defects
	}
	for _, d := range found() {
		if !c.bodies && message.BodyDefect(d.Kind) {
			continue // another check happened to come upon it first
		}
		report.Findings = append(report.Findings, c.cfg.Scores.finding("defects", d.Kind, d.Detail))
	}
	return report
}
