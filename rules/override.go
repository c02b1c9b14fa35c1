package rules

import (
	"slices"

	"postern/rules/strict"
)

// overridden is the rule as it is in force: the file's, changed by what overrides it. The file's own is left as it is.
func (c *compiler) overridden(r *Rule) *Rule {
	o, ok := c.opt.Overrides[r.ID]
	perDomain := c.opt.PerDomain[r.ID]
	if !ok && !perDomain {
		return r
	}
	changed := *r
	changed.PerDomain = perDomain
	if o.Score != nil {
		changed.Score, changed.ScorePos, changed.ScoreOverridden = *o.Score, o.Pos, true
	}
	if o.Mode != nil {
		changed.Mode, changed.ModePos = *o.Mode, o.Pos
	}
	return &changed
}

// overrides complains about those of rules that there are not.
func (c *compiler) overrides() {
	for _, id := range names(c.opt.Overrides) {
		if _, ok := c.byID[id]; !ok {
			c.Addf(c.opt.Overrides[id].Pos, "%s", strict.Unknown("rule", id, names(c.byID)))
		}
	}
}

// ParseMode reads the name of a mode.
func ParseMode(name string) (Mode, bool) {
	i := slices.Index(modeNames[:], name)
	return Mode(max(i, 0)), i >= 0
}

// ParseScore reads points with at most two decimals into hundredths.
func ParseScore(s string) (int32, error) {
	v, err := parsePoints(s)
	return int32(v), err
}

// ModeNames are the names of the modes.
func ModeNames() []string { return slices.Clone(modeNames[:]) }
