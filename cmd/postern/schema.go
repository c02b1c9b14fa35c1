package main

import (
	"context"

	"postern/proxy"
	"postern/rules"
)

var schemaCommand = &command{
	name:    "schema",
	args:    "config|rules",
	summary: "print the JSON Schema of the configuration or of rule files, for editors",
	help: `
Prints the JSON Schema (draft 7) by which an editor completes what is written and marks mistakes: of the configuration,
or of rule files. It is made of what this version of Postern reads. What an editor accepts may still be wrong in ways that
a schema cannot say; postern check finds those too.

For example: postern schema rules > /etc/postern/rules.schema.json`,
	run: runSchema,
}

func runSchema(_ context.Context, c *call) int {
	if code, ok := c.parse(); !ok {
		return code
	}
	if c.flags.NArg() != 1 {
		return c.misuse("expected config or rules, got %d arguments", c.flags.NArg())
	}
	var schema map[string]any
	switch of := c.flags.Arg(0); of {
	case "config":
		schema = proxy.ConfigSchema()
	case "rules":
		schema = rules.Schema()
	default:
		return c.misuse("unknown schema %q, expected config or rules", of)
	}
	if err := encodeJSON(c.stdout, schema); err != nil {
		return c.fail(err)
	}
	return exitFine
}
