package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"postern/proxy"
	"postern/rules/strict"
)

var reloadCommand = &command{
	name:    "reload",
	args:    "[-config FILE]",
	summary: "have the running proxy read its configuration again",
	help: `
Checks the configuration as postern check does, then has the proxy that serves it put it in force, and says what came
of it. Transactions under way end by the old configuration. It reaches the proxy by the socket that the key control
names, which only the proxy's own user and root may open. Exits 0 when the new configuration is in force, 1 when it is
not: then the old one still serves.`,
	run: onConfig(runReload),
}

func runReload(ctx context.Context, c *call, _ string, cfg *proxy.Config) int {
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{OwnTests: true})
	if err != nil {
		return c.explain(err)
	}
	rt.Close()
	if cfg.Control == "" {
		return c.fail(errors.New("the configuration names no control socket: expected control: PATH, or a file for the store, beside which it stands; SIGHUP reloads too, and tells the log what came of it"))
	}
	file, err := absolute(cfg.File)
	if err != nil {
		return c.fail(err)
	}
	result, err := askControl(ctx, cfg.Control, controlOrder{Do: "reload", Config: file})
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return c.fail(fmt.Errorf("no Postern answers at %s: is it running, and was control the same when it was started?", cfg.Control))
	case err != nil:
		return c.fail(fmt.Errorf("control socket %s: %w", cfg.Control, err))
	case result.Error != "":
		fmt.Fprintf(c.stderr, "%s\npostern reload: not reloaded, the old configuration serves on\n", result.Error)
		return exitBad
	}
	for _, w := range result.Warnings {
		fmt.Fprintf(c.stderr, "warning: %s\n", w)
	}
	fmt.Fprintf(c.stdout, "%s: in force, %d rules, listening on %s\n", cfg.File, result.Rules, strings.Join(result.Listening, ", "))
	return exitFine
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// A service is the proxy that serves, with what a reload may change around it.
type service struct {
	server *proxy.Server
	path   string // of the configuration, as it was given
	logger *slog.Logger
	log    *proxy.LogSwitch
	system *notifier

	mu   sync.Mutex
	file string           // absolute path of the configuration in force; "" for the embedded one
	cfg  proxy.Log        // of the output
	out  *proxy.LogOutput // in use
}

// reload puts the configuration as it is now in force, if it is sound. One reload runs at a time.
func (s *service) reload(ctx context.Context) (controlResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warn(s.system.reloading())
	result, err := s.change(ctx)
	if err != nil {
		s.server.ReloadFailed(err)
		result.Error = plainError(err)
	}
	// Ready it is in either case: what is in force serves.
	s.warn(s.system.tell("READY=1", s.status()))
	return result, err
}

func (s *service) change(ctx context.Context) (controlResult, error) {
	var result controlResult
	cfg, err := loadConfig(s.path)
	if err != nil {
		return result, err
	}
	file, err := absolute(cfg.File)
	if err != nil {
		return result, err
	}
	rt, err := proxy.NewRuntime(ctx, cfg, proxy.RuntimeOptions{Log: s.logger, OwnTests: true})
	if err != nil {
		return result, err
	}
	result.Warnings = rt.Warnings
	if rt.Rules != nil {
		result.Rules = len(rt.Rules.Rules())
	}
	next := s.out
	if cfg.Log.Output != s.cfg.Output {
		if next, err = proxy.OpenLog(cfg.Log.Output); err != nil {
			rt.Close()
			return result, err
		}
	}
	if err := s.server.Reload(ctx, rt); err != nil {
		if next != s.out {
			err = errors.Join(err, next.Close())
		}
		return result, err
	}
	for _, w := range rt.Warnings {
		s.logger.Warn("config_warning", "warning", w)
	}
	s.file = file
	s.turnLog(cfg.Log, next)
	result.Listening = s.server.Addrs()
	return result, nil
}

// turnLog has the log written as the configuration now wants it.
func (s *service) turnLog(cfg proxy.Log, next *proxy.LogOutput) {
	if cfg == s.cfg {
		return
	}
	s.logger.Info("log_changed", "output", cfg.Output, "format", cfg.Format, "loglevel", cfg.Level)
	old := s.out
	s.log.Turn(cfg.Handler(next))
	s.cfg, s.out = cfg, next
	if old != next {
		s.warn(old.Close())
	}
}

// reopenLog opens the log's file anew, after it was rotated.
func (s *service) reopenLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.out.Reopen(); err != nil {
		s.logger.Error("log_not_reopened", "error", err.Error())
	}
}

// order answers a request on the control socket.
func (s *service) order(ctx context.Context, order controlOrder) controlResult {
	s.mu.Lock()
	file := s.file
	s.mu.Unlock()
	if order.Config != file {
		return controlResult{Error: fmt.Sprintf("the Postern that runs serves %s, not %s", orEmbedded(file), orEmbedded(order.Config))}
	}
	result, _ := s.reload(ctx) // the error is in the result too
	return result
}

func orEmbedded(file string) string {
	if file == "" {
		return "the embedded configuration"
	}
	return file
}

func (s *service) status() string {
	return "STATUS=Listening on " + strings.Join(s.server.Addrs(), ", ")
}

// warn logs what went wrong beside the matter.
func (s *service) warn(err error) {
	if err != nil {
		s.logger.Warn("service", "error", err.Error())
	}
}

// close closes the log.
func (s *service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.out.Close() // there is no log any more to tell of it
}

// plainError is what a user reads: problems with positions a line each, without more words.
func plainError(err error) string {
	var problems strict.Problems
	if errors.As(err, &problems) {
		return problems.Error()
	}
	return err.Error()
}
