package proxy

import (
	"reflect"
	"slices"
	"strings"

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
	return &changed
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
