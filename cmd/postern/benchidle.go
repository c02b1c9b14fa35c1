package main

import (
	"bufio"
	"context"
	"fmt"
	"syscall"
)

// A benchIdle is the proxy's memory while connections are open on which nothing happens, in bytes a connection.
type benchIdle struct {
	Connections int   `json:"connections"`
	Greeted     int64 `json:"bytes_before_command"` // the banner was read, nothing was said
	After       int64 `json:"bytes_after_ehlo"`
	RSS         int64 `json:"rss_bytes"` // of the whole process, after EHLO on all
}

// benchSpareFiles is how many files the measurement has open beside the connections.
const benchSpareFiles = 200

// idle measures a proxy of its own, whose memory no load has stirred. What is left of garbage is given back before each
// look, so that what the connections hold is seen.
func (b *benchRun) idle(ctx context.Context) (*benchIdle, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil && uint64(b.o.idle+benchSpareFiles) > files.Cur {
		return nil, fmt.Errorf("-idle %d needs %d open files, the system allows %d (see ulimit -n)", b.o.idle, b.o.idle+benchSpareFiles, files.Cur)
	}
	fresh, err := b.startProxy(ctx)
	if err != nil {
		return nil, err
	}
	l := &benchLoad{addr: fresh.addr, mail: b.mail, connections: 1, count: 20, proxied: true}
	idle, err := b.holdIdle(ctx, fresh, l)
	if stopped := fresh.stop(); err == nil {
		err = stopped
	}
	return idle, err
}

func (b *benchRun) holdIdle(ctx context.Context, fresh *benchProxy, l *benchLoad) (*benchIdle, error) {
	if _, err := l.run(ctx, 0, func(int64) {}); err != nil {
		return nil, err
	}
	empty, err := fresh.tell("settle")
	if err != nil || empty.RSS == 0 {
		return nil, err
	}
	var open []*benchWorker
	defer func() {
		for _, w := range open {
			w.conn.Close()
		}
	}()
	for i := range b.o.idle {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w := &benchWorker{load: l, in: bufio.NewReaderSize(nil, 512)}
		if err := w.open(i, i%benchHosts); err != nil {
			return nil, fmt.Errorf("idle connection %d: %w", i+1, err)
		}
		open = append(open, w)
	}
	greeted, err := fresh.tell("settle")
	if err != nil {
		return nil, err
	}
	for i, w := range open {
		if err := w.say("EHLO "+benchHostName(i, i%benchHosts), 250); err != nil {
			return nil, fmt.Errorf("idle connection %d: %w", i+1, err)
		}
	}
	after, err := fresh.tell("settle")
	if err == nil && b.o.profile != "" {
		_, err = fresh.tell("heap")
	}
	n := int64(len(open))
	return &benchIdle{Connections: len(open), Greeted: (greeted.RSS - empty.RSS) / n, After: (after.RSS - empty.RSS) / n, RSS: after.RSS}, err
}
