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
type defectsCheck struct{ cfg DefectsConfig }

func newDefects(cfg DefectsConfig) *defectsCheck { return &defectsCheck{cfg: cfg} }

func (c *defectsCheck) Name() string      { return "defects" }
func (c *defectsCheck) Scope() Scope      { return PerMessage }
func (c *defectsCheck) Needs() []string   { return nil }
func (c *defectsCheck) Symbols() []string { return c.cfg.Scores.symbols("defects") }

func (c *defectsCheck) Run(_ context.Context, in Input) Report {
	var report Report
	for _, d := range in.Message.Defects() {
		report.Findings = append(report.Findings, c.cfg.Scores.finding("defects", d.Kind, d.Detail))
	}
	return report
}
