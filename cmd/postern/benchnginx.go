package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// nginx's stream module passes octets on and reads none of them: what it carries is what a proxy could carry at best. With
// -nginx the two are measured in turn, between the same generator and the same mail server, so that whatever else the
// machine does meets both. Both are told the client's address in a PROXY header; nginx drops it and passes on what follows.

// A benchComparison is the proxy beside nginx. The rates are medians over the rounds, the share is that of the rounds' ratios.
type benchComparison struct {
	Rate     float64 `json:"nginx_messages_per_second"`
	Own      float64 `json:"messages_per_second"`
	Share    float64 `json:"share"`                    // Own in proportion to Rate
	CPU      float64 `json:"nginx_cpu_ms_per_message"` // of master and workers
	OwnCPU   float64 `json:"cpu_ms_per_message"`
	Messages int64   `json:"messages"` // through each
}

// Each message takes a local port for a minute, on the way to nginx and behind it, and there are 28,000 of them.
const (
	benchRounds        = 5
	benchRoundMessages = 2000 // through each of the two, where -count is not less
)

// compare sends through the proxy and through nginx in turn.
func (b *benchRun) compare(ctx context.Context) (*benchComparison, error) {
	other, err := b.startNginx(ctx)
	if err != nil {
		return nil, err
	}
	c, err := b.rounds(ctx, other)
	cpu, stopped := other.stop()
	if err = errors.Join(err, stopped); err != nil {
		return nil, err
	}
	c.CPU = inMS(cpu) / float64(c.Messages)
	return c, nil
}

func (b *benchRun) rounds(ctx context.Context, other *benchNginx) (*benchComparison, error) {
	c := &benchComparison{}
	var theirs, ours, shares []float64
	var cpu time.Duration
	var sent int64
	for range benchRounds {
		before, err := b.proxy.tell("usage")
		if err != nil {
			return nil, err
		}
		own, err := b.round(ctx, &benchLoad{addr: b.proxy.addr, proxied: true})
		if err != nil {
			return nil, err
		}
		after, err := b.proxy.tell("usage")
		if err != nil {
			return nil, err
		}
		plain, err := b.round(ctx, &benchLoad{addr: other.addr, proxied: true})
		if err != nil {
			return nil, fmt.Errorf("through nginx: %w", err)
		}
		cpu += after.CPU - before.CPU
		c.Messages += plain.delivered
		sent += own.delivered
		mine, its := float64(own.delivered)/own.took.Seconds(), float64(plain.delivered)/plain.took.Seconds()
		ours, theirs, shares = append(ours, mine), append(theirs, its), append(shares, mine/its)
	}
	c.OwnCPU = inMS(cpu) / float64(sent)
	c.Own, c.Rate, c.Share = median(ours), median(theirs), median(shares)
	return c, nil
}

// round is one load of which nothing may fail.
func (b *benchRun) round(ctx context.Context, l *benchLoad) (*benchOutcome, error) {
	l.mail, l.connections, l.count = b.mail, b.o.connections, benchRoundMessages
	if b.o.count > 0 {
		l.count = min(b.o.count, l.count)
	}
	out, err := l.run(ctx, b.o.warmup, func(int64) {})
	if err != nil {
		return nil, err
	}
	b.accepted += out.delivered
	if failed := total(out.failed) + total(out.refused); failed > 0 || out.delivered == 0 {
		return nil, fmt.Errorf("%d of %d messages failed (%v) or were refused (%v)", failed, failed+out.delivered, out.failed, out.refused)
	}
	return out, nil
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// A benchNginx is nginx as a stream proxy in front of the sink.
type benchNginx struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	addr string
}

// nginxModule is where Debian and its kin keep the stream module; elsewhere it is a part of the program.
const nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

const benchNginxConf = `
%s
worker_processes auto;
daemon off;
pid %s;
error_log stderr;
events { worker_connections %d; }
stream { server { listen %s proxy_protocol; proxy_pass %s; } }
`

// startNginx gives nginx a socket that listens already, as at a change of its program: no port has to be guessed, and nothing waited for.
func (b *benchRun) startNginx(ctx context.Context) (*benchNginx, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("-nginx needs nginx with its stream module (Debian: nginx-light, libnginx-mod-stream): %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	n := &benchNginx{addr: l.Addr().String()}
	load := ""
	if _, err := os.Stat(nginxModule); err == nil {
		load = "load_module " + nginxModule + ";"
	}
	conf := filepath.Join(b.dir, "nginx.conf")
	text := fmt.Sprintf(benchNginxConf, load, filepath.Join(b.dir, "nginx.pid"), 2*b.o.connections+100, n.addr, b.sink.addr())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	n.cmd = exec.CommandContext(ctx, program, "-p", b.dir, "-e", "stderr", "-c", conf)
	n.cmd.Env = append(os.Environ(), "NGINX=3;")
	n.cmd.ExtraFiles = []*os.File{socket}
	n.cmd.Stderr = &n.log
	n.cmd.WaitDelay = 10 * time.Second
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting nginx: %w", err)
	}
	// Passing it on has made it blocking, and nginx leaves an inherited socket as it is: of two processes that are woken for one
	// connection the slower would wait for the next. No connection is made before this.
	if err := syscall.SetNonblock(int(socket.Fd()), true); err != nil {
		_, stopped := n.stop()
		return nil, errors.Join(fmt.Errorf("preparing nginx's socket: %w", err), stopped)
	}
	return n, nil
}

// stop ends nginx and tells the processor time of all its processes.
func (n *benchNginx) stop() (time.Duration, error) {
	// It may have ended by itself, which Wait tells.
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	err := n.cmd.Wait()
	if err != nil {
		err = fmt.Errorf("nginx: %w: %s", err, bytes.TrimSpace(n.log.Bytes()))
	}
	return n.cmd.ProcessState.UserTime() + n.cmd.ProcessState.SystemTime(), err
}
