package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"postern/proxy"
)

var serveCommand = &command{
	name:    "serve",
	args:    "[-config FILE]",
	summary: "run the proxy",
	help: `
Serves the listeners of the configuration until SIGTERM or SIGINT; then it stops accepting, lets the transactions under
way end, and exits. A second signal ends it at once. SIGHUP reads the configuration again: a broken one is logged and
the old one stays in force. SIGUSR1 reopens the log file.

Without -config, and without ` + proxy.DefaultPath + `, it listens on 127.0.0.1:2525, delivers to ./Maildir,
and only observes: nothing is refused or tagged for its content.`,
	run: runServe,
}

func runServe(ctx context.Context, c *call) int {
	path := c.configFlag()
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return c.explain(err)
	}
	logger, out, err := proxy.NewLogger(cfg.Log)
	if err != nil {
		return c.fail(err)
	}
	defer out.Close()
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{Log: logger})
	if err != nil {
		return c.explain(err)
	}
	server, err := proxy.NewServer(rt, logger)
	if err != nil {
		return c.fail(err)
	}
	server.Version = version
	if err := server.Listen(); err != nil {
		server.Close()
		return c.fail(err)
	}
	if cfg.File == "" {
		maildir, _ := filepath.Abs("Maildir")
		fmt.Fprintf(c.stderr, "no configuration: listening on %s, delivering to %s, observing only\n", server.Addrs()[0], maildir)
	}
	stop := handleSignals(ctx, server, *path, logger, out)
	defer stop()
	if err := server.Serve(ctx); err != nil {
		return c.fail(err)
	}
	return exitFine
}

// handleSignals serves SIGHUP and SIGUSR1 until stop is called. Once ctx has ended, the first SIGTERM or SIGINT was
// taken, and the next one ends the process.
func handleSignals(ctx context.Context, server *proxy.Server, path string, logger *slog.Logger, out *proxy.LogOutput) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	done := make(chan struct{})
	go func() {
		draining := ctx.Done()
		for {
			select {
			case <-done:
				return
			case <-draining:
				draining = nil
				signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
			case sig := <-signals:
				switch sig {
				case syscall.SIGHUP:
					reload(ctx, server, path, logger)
				case syscall.SIGUSR1:
					if err := out.Reopen(); err != nil {
						logger.Error("log_not_reopened", "error", err.Error())
					}
				default:
					os.Exit(exitBad)
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// reload puts the configuration as it is now in force, if it is sound.
func reload(ctx context.Context, server *proxy.Server, path string, logger *slog.Logger) {
	cfg, err := loadConfig(path)
	var rt *proxy.Runtime
	if err == nil {
		rt, err = proxy.NewRuntime(ctx, cfg, proxy.RuntimeOptions{Log: logger})
	}
	if err == nil {
		err = server.Reload(ctx, rt)
	}
	if err != nil {
		server.ReloadFailed(err)
	}
}
