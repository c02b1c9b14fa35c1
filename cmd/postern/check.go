package main

import (
	"context"
	"fmt"

	"postern/proxy"
	"postern/rules/packs"
)

var checkCommand = &command{
	name:    "check",
	args:    "[-config FILE]",
	summary: "check the configuration, the rules and the tests in the rule files",
	help: `
Reads the configuration and everything that it names (certificates, lists, rule files), and runs the tests that stand
in the rule files. Nothing is bound and no DNS is asked. Each error stands on a line of its own as
file:line:column: what is wrong, what was expected. Exits 0 when the configuration can serve, else 1.`,
	run: onConfig(runCheck),
}

func runCheck(ctx context.Context, c *call, _ string, cfg *proxy.Config) int {
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{})
	if err != nil {
		return c.explain(err)
	}
	defer rt.Close()
	name := cfg.File
	if name == "" {
		name = "embedded configuration"
	}
	if w := openFilesWarning(cfg); w != "" {
		fmt.Fprintf(c.stderr, "warning: %s\n", w)
	}
	rules, tests := 0, 0
	if rt.Rules != nil {
		for _, costly := range rt.Rules.Costly() {
			if !packs.Shipped(costly.Pos.File) {
				fmt.Fprintf(c.stderr, "warning: %v\n", costly.Problem())
			}
		}
		rules, tests = len(rt.Rules.Rules()), len(rt.Rules.Tests())
	}
	fmt.Fprintf(c.stdout, "%s: OK, %d rules, %d rule tests passed\n", name, rules, tests)
	return exitFine
}
