package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"postern/proxy"
	"postern/rules/strict"
)

const configHelp = "the configuration `FILE`"

// configFlag is the flag -config of a command that works on the configuration that serves.
func (c *call) configFlag() *string {
	return c.flags.String("config", "", configHelp+" (default "+proxy.DefaultPath+")")
}

// onConfig makes the run of a command that takes no argument but -config: it loads the configuration and has do work on it.
// path is the one that was given, if any.
func onConfig(do func(ctx context.Context, c *call, path string, cfg *proxy.Config) int) func(context.Context, *call) int {
	return func(ctx context.Context, c *call) int {
		path := c.configFlag()
		if code, ok := c.parseFlagsOnly(); !ok {
			return code
		}
		cfg, err := loadConfig(*path)
		if err != nil {
			return c.explain(err)
		}
		return do(ctx, c, *path, cfg)
	}
}

// messageConfigFlag is the flag -config of a command that works on stored messages or on rules, which the embedded
// configuration will do for.
func (c *call) messageConfigFlag(path *string) {
	c.flags.StringVar(path, "config", "", configHelp+" (default "+proxy.DefaultPath+", else the embedded one)")
}

// loadConfig reads the configuration that was named, else the one in the default place, else what is embedded.
func loadConfig(path string) (*proxy.Config, error) {
	if path != "" {
		return proxy.LoadConfig(path)
	}
	_, err := os.Stat(proxy.DefaultPath)
	switch {
	case err == nil:
		return proxy.LoadConfig(proxy.DefaultPath)
	case errors.Is(err, fs.ErrNotExist):
		return proxy.EmbeddedConfig("Maildir"), nil
	}
	return nil, err
}

// build makes a runtime and prints its warnings, or logs them where there is a log.
func (c *call) build(ctx context.Context, cfg *proxy.Config, opt proxy.RuntimeOptions) (*proxy.Runtime, error) {
	rt, err := proxy.NewRuntime(ctx, cfg, opt)
	if err != nil {
		return nil, err
	}
	for _, w := range rt.Warnings {
		if opt.Log != nil {
			opt.Log.Warn("config_warning", "warning", w)
			continue
		}
		fmt.Fprintf(c.stderr, "warning: %s\n", w)
	}
	return rt, nil
}

// explain prints an error: problems with positions stand a line each, without more words, so that editors find them.
func (c *call) explain(err error) int {
	var problems strict.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(c.stderr, problems.Error())
		return exitBad
	}
	return c.fail(err)
}

func suggest(got string, known []string) string { return strict.Suggest(got, known) }
