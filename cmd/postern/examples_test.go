package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"postern/proxy/peertest"
)

// examples is the folder of the files that other programs read.
var examples = filepath.Join("..", "..", "docs", "examples")

// runIn runs a program in a folder and gives all that it prints.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// Prometheus takes the alerts and the configuration, and the alerts fire when they should and not else.
func TestAlertRules(t *testing.T) {
	peertest.Need(t, "promtool")
	dir := filepath.Join(examples, "prometheus")
	runIn(t, dir, "promtool", "check", "config", "prometheus.yml")
	runIn(t, dir, "promtool", "check", "rules", "alerts.yml")
	runIn(t, dir, "promtool", "test", "rules", "alerts.test.yml")
}
