package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

var versionCommand = &command{
	name:    "version",
	summary: "print the version",
	help:    "Prints the version of Postern, and what it was built with.",
	run:     runVersion,
}

func runVersion(_ context.Context, c *call) int {
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	fmt.Fprintf(c.stdout, "postern %s%s %s %s/%s\n", version, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return exitFine
}
