package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"postern/filters/dns"
	"postern/proxy"
	"postern/rules"
)

var rulesCommand = &command{
	name:    "rules",
	args:    "test | list | doc | hits | score | backtest | tune",
	summary: "test rules, look at them, try them on stored mail",
	help: `
Works on the rules that the configuration names, or on rule files that are given.`,
	verbs: []*command{rulesTestCommand, rulesListCommand, rulesDocCommand, rulesHitsCommand, rulesScoreCommand, rulesBacktestCommand, rulesTuneCommand},
}

// ruleFlags say which rules a command works on.
type ruleFlags struct {
	config  string
	noPacks bool
}

func (f *ruleFlags) register(c *call) {
	c.messageConfigFlag(&f.config)
	c.flags.BoolVar(&f.noPacks, "no-packs", false, "leave out the packs that the configuration names")
}

// errNoRules says that there is nothing to work on.
var errNoRules = errors.New("the configuration has filters.content switched off, so there are no rules")

// A ruleSet is a runtime with rules, and the files whose rules a command was asked to work on; none for all rules.
type ruleSet struct {
	*proxy.Runtime
	files []string
}

// asked reports whether the command works on a rule.
func (s *ruleSet) asked(r *rules.Rule) bool {
	return len(s.files) == 0 || slices.Contains(s.files, r.Pos.File)
}

// open builds what the flags describe. Paths of rule files and of folders of them stand in for the rule files of the
// configuration, where any are given.
func (f *ruleFlags) open(ctx context.Context, c *call, paths []string, options func(*proxy.Config) proxy.RuntimeOptions) (*ruleSet, error) {
	files, err := ruleFiles(paths)
	if err != nil {
		return nil, err
	}
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	cfg = f.choose(cfg, files)
	rt, err := c.build(ctx, cfg, options(cfg))
	if err != nil {
		return nil, err
	}
	if rt.Rules == nil {
		rt.Close()
		return nil, errNoRules
	}
	return &ruleSet{Runtime: rt, files: files}, nil
}

// untested are the options of a runtime that judges no mail.
func untested(*proxy.Config) proxy.RuntimeOptions {
	return proxy.RuntimeOptions{NoTests: true, Resolver: dns.Offline()}
}

// choose puts files in the place of the configured rule files, where any are given.
func (f *ruleFlags) choose(cfg *proxy.Config, files []string) *proxy.Config {
	switch {
	case len(files) > 0:
		return cfg.WithRules(files, !f.noPacks)
	case f.noPacks:
		cfg.Filters.Content.Own.Packs = nil
	}
	return cfg
}

// ruleFiles lists the rule files that paths name: files, and folders whose files are taken that end in .yaml or .yml.
func ruleFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, walkError(path, err)
		}
		found := []string{path}
		if info.IsDir() {
			if found, err = ruleFolder(path); err != nil {
				return nil, err
			}
		}
		for _, file := range found {
			src, err := os.ReadFile(file)
			if err != nil {
				return nil, walkError(file, err)
			}
			if proxy.IsConfig(src) {
				return nil, fmt.Errorf("%s is a configuration, expected a rule file", file)
			}
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

func ruleFolder(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, walkError(dir, err)
	}
	var files []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no rule file, expected files that end in .yaml", dir)
	}
	return files, nil
}
