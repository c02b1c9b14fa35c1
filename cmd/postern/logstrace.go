package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"postern/logs"
)

var logsTraceCommand = &command{
	name:    "logs trace",
	args:    "[-since T] [-until T] [-json] ID|ADDRESS|MESSAGE-ID [FILE...]",
	summary: "the story of a message, a client or a correspondent, in words",
	help: `
Tells what became of a message, from connection to the answer of the server behind. What is looked for is the id of a
transaction (D81592DC.1, as in replies and in the log) or of a connection (D81592DC), a Message-ID, an address of a sender or
recipient, or the address of a client. Attempts at one message, by the same sender with the same Message-ID, stand together; of an
id, too, unless the log is standard input, which is read once.

Reads log files, plain or compressed by gzip, in either format; without FILE, or for -, standard input. T is a time
(2026-11-23T18:00:00Z), a day (2026-11-23, in UTC), or how long ago (36h). Exits 1 when nothing is found.

  postern logs trace D81592DC.1 /var/log/postern.log
  postern logs trace -since 48h bob@example.org /var/log/postern.log /var/log/postern.log.1.gz`,
	run: runLogsTrace,
}

func runLogsTrace(ctx context.Context, c *call) int {
	in := c.logFlags()
	asJSON := c.flags.Bool("json", false, "print one object of JSON")
	args, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	if len(args) == 0 || args[0] == "" {
		return c.misuse("expected an id, an address or a Message-ID")
	}
	if err := in.prepare(); err != nil {
		return c.misuse("%v", err)
	}
	what, files := args[0], args[1:]
	gather := logs.NewTracer(what)
	err := in.read(ctx, files, gather.Add)
	if err == nil && gather.Again() && len(files) > 0 && !slices.Contains(files, "-") {
		err = in.read(ctx, files, gather.Add)
	}
	if err != nil {
		return c.fail(err)
	}
	story := gather.Story()
	if *asJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(story)
	} else {
		err = story.WriteText(c.stdout, printable)
	}
	if err != nil {
		return c.fail(err)
	}
	if len(story.Messages)+len(story.Sessions) == 0 {
		return c.fail(fmt.Errorf("nothing about %q in the log", what))
	}
	return exitFine
}
