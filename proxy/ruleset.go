package proxy

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"postern/filters"
	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// WithRules gives the configuration with other rule files: these stand in for filters.content.rules, and relative names
// among them are relative to the working directory. The packs stay, or go where packs is false.
func (c *Config) WithRules(files []string, packs bool) *Config {
	changed := *c
	changed.ruleFiles = files
	changed.Filters.Content.Enabled = true
	changed.Filters.Content.Own.Rules = files
	if !packs {
		changed.Filters.Content.Own.Packs = nil
	}
	changed.dropOverrides()
	return &changed
}

// dropOverrides leaves out the overrides of rules that were in the files which others stand in for.
func (c *Config) dropOverrides() {
	there := map[string]bool{}
	note := func(sources []rules.Source, err error) {
		if err != nil {
			return // it is complained about when the rules are loaded
		}
		for _, s := range sources {
			if f, _ := rules.Parse(s.Name, s.Src); f != nil {
				for i := range f.Rules {
					there[f.Rules[i].ID] = true
				}
			}
		}
	}
	for _, pack := range c.Filters.Content.Own.Packs {
		sources, err := packs.Open(pack)
		note(sources, err)
	}
	for _, file := range c.ruleFiles {
		src, err := os.ReadFile(file)
		note([]rules.Source{{Name: file, Src: src}}, err)
	}
	only := func(o filters.RuleOverrides) filters.RuleOverrides {
		o = maps.Clone(o)
		maps.DeleteFunc(o, func(id string, _ filters.RuleOverride) bool { return !there[id] })
		return o
	}
	c.Filters.Content.Own.Overrides = only(c.Filters.Content.Own.Overrides)
	c.Policies = maps.Clone(c.Policies)
	for domain, p := range c.Policies {
		p.Rules = only(p.Rules)
		c.Policies[domain] = p
	}
}

// rulePath is Path for the names of rule files.
func (c *Config) rulePath(p string) string {
	if slices.Contains(c.ruleFiles, p) {
		return p
	}
	return c.Path(p)
}

// IsConfig reports whether src is meant as a configuration, and not as a rule file: it has a key that only
// configurations have.
func IsConfig(src []byte) bool {
	doc, err := strict.Parse("", src)
	if err != nil || doc.Root() == nil {
		return false
	}
	known := map[string]bool{}
	for f := range reflect.TypeFor[Config]().Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			known[name] = true
		}
	}
	return slices.ContainsFunc(doc.Root().Pairs(), func(p strict.Pair) bool { return known[p.Key.Text()] })
}
