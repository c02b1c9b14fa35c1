package main

import (
	"context"
	"encoding/json"

	"postern/logs"
)

var logsShadowCommand = &command{
	name:    "logs shadow",
	args:    "[-since T] [-until T] [-config FILE] [-json] [FILE...]",
	summary: "what rules in shadow mode, and observe mode, would have changed",
	help: `
Tells of each rule in shadow mode how many messages it hit, which of them would have fared otherwise if it were enforced, with
examples, and whether it is safe to enforce: it is not when it would have been hard on mail that has less than half of the tag
threshold without it. Of observe mode it tells what would have been done. Each rule is weighed alone, by its points; what else
than the sum decided stays decided.

The thresholds are those of the configuration (-config FILE, else the usual place, else 5, 8 and 12). Reads log files, plain or
compressed by gzip, in either format; without FILE, or for -, standard input. T is a time (2026-11-23T18:00:00Z), a day
(2026-11-23, in UTC), or how long ago (36h).

  postern logs shadow -since 168h /var/log/postern.log*`,
	run: runLogsShadow,
}

func runLogsShadow(ctx context.Context, c *call) int {
	in := c.logFlags()
	var config string
	c.messageConfigFlag(&config)
	asJSON := c.flags.Bool("json", false, "print one object of JSON")
	files, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	if err := in.prepare(); err != nil {
		return c.misuse("%v", err)
	}
	cfg, err := loadConfig(config)
	if err != nil {
		return c.explain(err)
	}
	gather := logs.NewShadowReporter(logs.Thresholds{Tag: cfg.Policy.Tag, Quarantine: cfg.Policy.Quarantine, Reject: cfg.Policy.Reject})
	if err := in.read(ctx, files, gather.Add); err != nil {
		return c.fail(err)
	}
	rep := gather.Report()
	if *asJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(rep)
	} else {
		err = rep.WriteText(c.stdout, printable)
	}
	if err != nil {
		return c.fail(err)
	}
	return exitFine
}
