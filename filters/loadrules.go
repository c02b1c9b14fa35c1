package filters

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// ContentConfig names the rule files.
type ContentConfig struct {
	Rules     []string      `yaml:"rules"` // files or patterns, relative to the configuration's folder
	Packs     []string      `yaml:"packs"` // packs that ship with Postern
	Overrides RuleOverrides `yaml:"overrides"`
}

func defaultContentConfig() ContentConfig {
	return ContentConfig{Packs: []string{packs.Default}}
}

// RuleOptions are what loading rules needs beside their names.
type RuleOptions struct {
	Path       func(string) string          // makes a configured path absolute or relative to the working directory
	Pos        func(path ...any) strict.Pos // where a key below `content:` stands in the configuration
	Symbols    []string                     // what the checks can yield
	Thresholds Thresholds                   // the policy's, to compare with what packs assume
	Domains    map[string]RuleOverrides     // the overrides of recipient domains
}

// LoadRules reads, parses and compiles the configured packs and files. The error is of type [strict.Problems] and
// lists all that is wrong in the configuration's lists and in all files.
func LoadRules(cfg ContentConfig, opt RuleOptions) (*rules.Set, error) {
	l := &ruleLoader{opt: opt, seen: make(map[string]bool), shipped: make(map[string]bool)}
	for i, name := range cfg.Packs {
		sources, err := packs.Open(name)
		if err != nil {
			l.problems.Addf(opt.Pos("packs", i), "%v", err)
			l.missing = true
			continue
		}
		for _, s := range sources {
			if !l.shipped[s.Name] {
				l.shipped[s.Name] = true
				l.parse(s.Name, s.Src)
			}
		}
	}
	for i, pattern := range cfg.Rules {
		l.files(pattern, opt.Pos("rules", i))
	}
	if l.missing {
		return nil, l.problems.Err() // names may be unknown because their file could not be read at all
	}
	set, err := rules.Compile(l.parsed, rules.Options{
		Overrides: cfg.Overrides.compiled(),
		PerDomain: perDomain(opt.Domains),
		KnownSymbol: func(name string) bool {
			return slices.ContainsFunc(opt.Symbols, func(pattern string) bool {
				return matchesSymbol(pattern, name) || matchesSymbol(name, pattern)
			})
		},
		Symbols: opt.Symbols,
		Thresholds: rules.Thresholds{
			Tag:        int32(opt.Thresholds.Tag),
			Quarantine: int32(opt.Thresholds.Quarantine),
			Reject:     int32(opt.Thresholds.Reject),
		},
	})
	var wrong strict.Problems
	if errors.As(err, &wrong) {
		l.problems.Add(wrong)
	} else if err != nil {
		return nil, err
	}
	if err := l.problems.Err(); err != nil {
		return nil, err
	}
	if err := unknownRules(set, opt.Domains).Err(); err != nil {
		return nil, err
	}
	return set, nil
}

// A ruleLoader reads rule files and gathers what is wrong with them.
type ruleLoader struct {
	opt      RuleOptions
	seen     map[string]bool // the files that were read: two patterns may match the same
	shipped  map[string]bool // the files of packs that were read: packs have files in common
	parsed   []*rules.File
	problems strict.Problems
	missing  bool // a file could not be read at all
}

// files reads a file, or those that a pattern matches. A pattern that matches nothing is fine, a file that is not there
// is not.
func (l *ruleLoader) files(pattern string, pos strict.Pos) {
	paths := []string{l.opt.Path(pattern)}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if paths, err = filepath.Glob(paths[0]); err != nil {
			l.problems.Addf(pos, "%q is not a pattern: %v, expected one such as rules/*.yaml", pattern, err)
			l.missing = true
			return
		}
		slices.Sort(paths)
	}
	for _, path := range paths {
		if l.seen[path] {
			continue
		}
		l.seen[path] = true
		src, err := os.ReadFile(path)
		if err != nil {
			var bad *fs.PathError
			if errors.As(err, &bad) {
				err = bad.Err
			}
			l.problems.Addf(pos, "cannot read the rule file %s: %v", path, err)
			l.missing = true
			continue
		}
		l.parse(path, src)
	}
}

// parse keeps what could be read of a file that has something wrong in it, so that all that is wrong is told at once.
func (l *ruleLoader) parse(name string, src []byte) {
	file, err := rules.Parse(name, src)
	var list strict.Problems
	switch {
	case errors.As(err, &list):
		l.problems.Add(list)
	case err != nil:
		l.problems.Addf(strict.Pos{File: name}, "%v", err)
	}
	if file == nil {
		l.missing = true
		return
	}
	l.parsed = append(l.parsed, file)
}
