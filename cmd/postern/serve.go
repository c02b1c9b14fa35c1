package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"postern/proxy"
)

var serveCommand = &command{
	name:    "serve",
	args:    "[-config FILE]",
	summary: "run the proxy",
	help: `
Serves the listeners of the configuration until SIGTERM or SIGINT; then it stops accepting, lets the transactions under
way end, and exits. A second signal ends it at once. SIGHUP reads the configuration again, as postern reload does: a
broken one is logged and the old one stays in force. SIGUSR1 reopens the log file.

Without -config, and without ` + proxy.DefaultPath + `, it listens on 127.0.0.1:2525, delivers to ./Maildir,
and only observes: nothing is refused or tagged for its content.`,
	run: onConfig(runServe),
}

func runServe(ctx context.Context, c *call, path string, cfg *proxy.Config) int {
	svc, err := c.prepareService(ctx, cfg, path)
	if err != nil {
		return c.explain(err)
	}
	defer svc.close()
	if cfg.File == "" {
		maildir, _ := filepath.Abs("Maildir")
		fmt.Fprintf(c.stderr, "no configuration: listening on %s, delivering to %s, observing only\n", svc.server.Addrs()[0], maildir)
	}
	if cfg.Control != "" {
		control, err := listenControl(cfg.Control, svc.order)
		if err != nil {
			svc.server.Close()
			return c.fail(err)
		}
		control.serve(ctx)
		defer control.close()
	}
	return svc.serve(ctx, c)
}

// prepareService makes the proxy of a configuration and binds its listeners.
func (c *call) prepareService(ctx context.Context, cfg *proxy.Config, path string) (*service, error) {
	sockets, err := inheritedSockets()
	if err != nil {
		return nil, err
	}
	file, err := absolute(cfg.File)
	if err != nil {
		return nil, err
	}
	logger, out, err := proxy.NewLogger(cfg.Log)
	if err != nil {
		return nil, err
	}
	handler := proxy.NewLogSwitch(logger.Handler())
	svc := &service{path: path, file: file, logger: slog.New(handler), log: handler, system: newNotifier(), cfg: cfg.Log, out: out}
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{Log: svc.logger, OwnTests: true})
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if w := openFilesWarning(cfg); w != "" {
		svc.logger.Warn("config_warning", "warning", w)
	}
	server, err := proxy.NewServer(rt, svc.logger)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	server.Version, server.Inherited = version, sockets
	if err := server.Listen(); err != nil {
		server.Close()
		return nil, errors.Join(err, out.Close())
	}
	svc.server = server
	return svc, nil
}

// serve answers clients until ctx ends and the transactions under way have.
func (s *service) serve(ctx context.Context, c *call) int {
	done := make(chan struct{})
	var beside sync.WaitGroup
	defer beside.Wait()
	defer close(done)
	beside.Go(func() { s.handleSignals(ctx, done) })
	beside.Go(func() {
		select {
		case <-ctx.Done():
			s.warn(s.system.tell("STOPPING=1", "STATUS=Letting the transactions under way end"))
		case <-done:
		}
	})
	// What the watchdog watches: that the listeners are not locked up.
	beside.Go(func() { s.system.keepAlive(done, func() { s.server.Addrs() }) })
	s.server.Ready = func() { s.warn(s.system.tell("READY=1", s.status())) }
	if err := s.server.Serve(ctx); err != nil {
		return c.fail(err)
	}
	return exitFine
}

// handleSignals serves SIGHUP and SIGUSR1 until done is closed. Once ctx has ended, the first SIGTERM or SIGINT was
// taken, and the next one ends the process.
func (s *service) handleSignals(ctx context.Context, done <-chan struct{}) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
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
				_, _ = s.reload(ctx) // it has logged the error
			case syscall.SIGUSR1:
				s.reopenLog()
			default:
				os.Exit(exitBad)
			}
		}
	}
}
