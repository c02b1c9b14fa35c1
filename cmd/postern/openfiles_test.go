package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/proxy"
)

func TestTooFewFiles(t *testing.T) {
	cfg := proxy.DefaultConfig()
	if got := tooFewFiles(&cfg, 1<<20); got != "" {
		t.Errorf("a million files are not enough: %s", got)
	}
	got := tooFewFiles(&cfg, 1024)
	if !strings.HasPrefix(got, "limits.connections: 2000 connections can need 6100 open files, the system allows this process 1024") || !strings.HasSuffix(got, "or at most 308 connections") {
		t.Errorf("got %s", got)
	}
	cfg.Limits.Connections = 308
	if got := tooFewFiles(&cfg, 1024); got != "" {
		t.Errorf("what was advised is not enough: %s", got)
	}
}

// check and serve say so.
func TestTooFewFilesIsSaid(t *testing.T) {
	dir := folder(t, map[string]string{"postern.yaml": serveConfig("127.0.0.1:53", "limits: {connections: 100000000}\n")})
	out, err := exec.Command("postern", "check", "-config", filepath.Join(dir, "postern.yaml")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "warning: limits.connections: 100000000 connections can need 300000100 open files") {
		t.Errorf("check: %v\n%s", err, out)
	}
	p := spawn(t, dir, "serve", "-config", "postern.yaml")
	p.await(`event=config_warning warning="limits.connections: 100000000 connections can need 300000100 open files`)
	p.await(`event=listening`)
}
