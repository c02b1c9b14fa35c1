package filters

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/strict"
)

// ContentConfig names the rule files.
type ContentConfig struct {
	Rules []string `yaml:"rules"` // files or patterns, relative to the configuration's folder
	Packs []string `yaml:"packs"` // packs that ship with Postern
}

func defaultContentConfig() ContentConfig {
	return ContentConfig{Packs: []string{"default"}}
}

// RuleOptions are what loading rules needs beside their names.
type RuleOptions struct {
	Path       func(string) string // makes a configured path absolute or relative to the working directory
	Symbols    []string            // what the checks can yield
	Thresholds Thresholds          // the policy's, to compare with what packs assume
}

// LoadRules reads, parses and compiles the configured packs and files. The error lists all that is wrong in all files.
func LoadRules(cfg ContentConfig, opt RuleOptions) (*rules.Set, error) {
	var files []*rules.File
	var problems strict.Problems
	var failures []error
	parse := func(name string, src []byte, err error) {
		var file *rules.File
		if err == nil {
			file, err = rules.Parse(name, src)
		}
		var list strict.Problems
		switch {
		case errors.As(err, &list):
			problems = append(problems, list...)
		case err != nil:
			failures = append(failures, err)
		default:
			files = append(files, file)
		}
	}
	for _, name := range cfg.Packs {
		file, src, err := packs.Open(name)
		parse(file, src, err)
	}
	paths, err := rulePaths(cfg.Rules, opt.Path)
	if err != nil {
		failures = append(failures, err)
	}
	for _, path := range paths {
		src, err := os.ReadFile(path)
		parse(path, src, err)
	}
	if err := errors.Join(append(failures, problems.Err())...); err != nil {
		return nil, err
	}
	return rules.Compile(files, rules.Options{
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
}

// rulePaths expands the patterns. A pattern that matches nothing is fine, a file that does not exist is not.
func rulePaths(patterns []string, resolve func(string) string) ([]string, error) {
	var paths []string
	for _, p := range patterns {
		full := resolve(p)
		if !strings.ContainsAny(p, "*?[") {
			paths = append(paths, full)
			continue
		}
		found, err := filepath.Glob(full)
		if err != nil {
			return nil, fmt.Errorf("rules: %q is not a pattern: %w", p, err)
		}
		slices.Sort(found)
		paths = append(paths, found...)
	}
	return slices.Compact(paths), nil
}

// TestRules runs the tests that stand in the rule files. The error lists those that fail, each with its position.
func TestRules(ctx context.Context, set *rules.Set) error {
	now := time.Now()
	failures := set.RunTests(ctx, func(c rules.Case) (rules.Subject, error) {
		return TestSubject(ctx, c, now)
	})
	errs := make([]error, len(failures))
	for i, f := range failures {
		errs[i] = f
	}
	return errors.Join(errs...)
}
