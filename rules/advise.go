package rules

import (
	"fmt"
	"slices"
	"strings"
)

// advise warns about what is allowed and looks unintended.
func (c *compiler) advise() {
	for _, f := range c.files {
		c.adviseThresholds(f)
		kept := len(f.Rules) == 0 // a file without rules keeps things for others, and for some that are not here
		for i := range f.Rules {
			c.adviseNot(f.Rules[i].when, nil)
		}
		for _, name := range names(f.Conditions) {
			cond := f.Conditions[name]
			c.adviseNot(cond.when, nil)
			if !kept && !c.used[cond] {
				c.warnf(cond.Pos, "the condition %s is used by no rule", name)
			}
		}
		for _, name := range names(f.Lists) {
			if list := f.Lists[name]; !kept && !c.used[list] {
				c.warnf(list.Pos, "the list %s is used by no rule", name)
			}
		}
	}
}

// adviseThresholds compares what a pack's scores assume with the policy. Scores are never rescaled.
func (c *compiler) adviseThresholds(f *File) {
	if f.Pack == nil {
		return
	}
	var differ []string
	for _, t := range []struct {
		name         string
		pack, policy int32
	}{
		{name: "tag", pack: f.Pack.Thresholds.Tag, policy: c.opt.Thresholds.Tag},
		{name: "quarantine", pack: f.Pack.Thresholds.Quarantine, policy: c.opt.Thresholds.Quarantine},
		{name: "reject", pack: f.Pack.Thresholds.Reject, policy: c.opt.Thresholds.Reject},
	} {
		if t.pack != 0 && t.policy != 0 && t.pack != t.policy {
			differ = append(differ, fmt.Sprintf("%s at %s, the policy has %s", t.name, FormatScore(t.pack), FormatScore(t.policy)))
		}
	}
	if len(differ) > 0 {
		c.warnf(f.Pack.Pos, "the scores of the pack %s assume %s", f.Pack.Name, strings.Join(differ, "; "))
	}
}

// Fields that nearly every message has. What is not said of another field is often true because the field is absent.
var usualFields = []string{"from", "to", "subject", "date", "message-id", "received"}

// adviseNot warns about a comparison with a header field that may be absent under `not`, where nothing beside it asks
// for that field: "the reply goes elsewhere" is meant of messages that say where the reply goes.
// asked holds the fields that must be there for the condition to matter.
func (c *compiler) adviseNot(e *expr, asked []string) {
	if e == nil {
		return
	}
	if e.op == opAll {
		for _, a := range e.args {
			if a.op == opTest && a.test.src.subject == "header" && (a.test.exists == nil || *a.test.exists) {
				asked = append(slices.Clone(asked), strings.ToLower(a.test.src.name))
			}
		}
	}
	if e.op == opNot && e.args[0].op == opTest {
		t := e.args[0].test
		field := strings.ToLower(t.src.name)
		compares := slices.ContainsFunc(t.preds, func(p predExpr) bool { return p.op == "same_as" || p.op == "in" || p.op == "equals" })
		if t.src.subject == "header" && t.src.part != "count" && compares && !slices.Contains(usualFields, field) && !slices.Contains(asked, field) {
			c.warnf(e.pos, "also true where there is no %s field: if that is not meant, add {header: %s, exists: true}", t.src.name, t.src.name)
		}
	}
	for _, a := range e.args {
		c.adviseNot(a, asked)
	}
}
