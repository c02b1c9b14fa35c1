package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A benchLoad sends messages over a number of connections at once: one message a connection, a command at a time, as
// a server does that has a single message for a domain.
type benchLoad struct {
	addr        string
	mail        *benchMail
	connections int
	count       int64         // messages; 0: as many as there is time for
	duration    time.Duration // 0: until count is reached
	proxied     bool          // the clients' addresses are told in PROXY headers

	next  atomic.Int64 // the number of the next message
	ended atomic.Int64 // messages that are over
}

// benchLimit bounds each wait for the proxy.
const benchLimit = time.Minute

// A benchOutcome is what became of the messages of a load.
type benchOutcome struct {
	delivered int64
	took      time.Duration
	whole     []time.Duration // from connecting to the reply after the final dot, sorted
	dot       []time.Duration // from the final dot to its reply, sorted
	refused   map[string]int64
	failed    map[string]int64
}

// A benchRefusal is a reply other than the one that was hoped for.
type benchRefusal struct{ reply string }

func (r *benchRefusal) Error() string { return r.reply }

// run sends until the count or the duration is over. tick is called now and then with the messages that are over.
func (l *benchLoad) run(ctx context.Context, first int64, tick func(done int64)) (*benchOutcome, error) {
	l.next.Store(first)
	l.ended.Store(0)
	limit := ctx
	if l.duration > 0 {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, l.duration)
		defer cancel()
	}
	workers := make([]*benchWorker, l.connections)
	var work sync.WaitGroup
	started := time.Now()
	for i := range workers {
		w := &benchWorker{load: l, in: bufio.NewReader(nil), out: benchOutcome{refused: map[string]int64{}, failed: map[string]int64{}}}
		workers[i] = w
		work.Go(func() { w.run(limit, first) })
	}
	stop := every(progressEvery, func() { tick(l.ended.Load()) })
	work.Wait()
	took := time.Since(started)
	stop()
	all := merge(workers)
	all.took = took
	return all, ctx.Err()
}

// every calls f again and again until stop is called; afterwards f is not called any more.
func every(interval time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		work.Wait()
	}
}

func merge(workers []*benchWorker) *benchOutcome {
	all := &benchOutcome{refused: map[string]int64{}, failed: map[string]int64{}}
	for _, w := range workers {
		all.delivered += w.out.delivered
		all.whole = append(all.whole, w.out.whole...)
		all.dot = append(all.dot, w.out.dot...)
		for reply, n := range w.out.refused {
			all.refused[reply] += n
		}
		for cause, n := range w.out.failed {
			all.failed[cause] += n
		}
	}
	slices.Sort(all.whole)
	slices.Sort(all.dot)
	return all
}

// percentile of sorted times; 0 of none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

// A benchWorker sends one message after the other. Its buffers are used again, so that little of the machine's time
// goes into the generator.
type benchWorker struct {
	load *benchLoad
	conn net.Conn
	in   *bufio.Reader
	line []byte
	out  benchOutcome
}

func (w *benchWorker) run(ctx context.Context, first int64) {
	for ctx.Err() == nil {
		n := w.load.next.Add(1) - 1
		if w.load.count > 0 && n-first >= w.load.count {
			return
		}
		started := time.Now()
		times, err := w.send(n)
		w.load.ended.Add(1)
		var refused *benchRefusal
		switch {
		case errors.As(err, &refused):
			w.out.refused[withoutID(refused.reply)]++
		case err != nil:
			w.out.failed[withoutAddress(err)]++
		default:
			w.out.delivered++
			w.out.whole = append(w.out.whole, times.answered.Sub(started))
			w.out.dot = append(w.out.dot, times.answered.Sub(times.dot))
		}
	}
}

// withoutID takes from a refusal what differs each time, so that equal ones can be counted.
func withoutID(reply string) string {
	text, _, _ := strings.Cut(reply, " (id ")
	return text
}

// withoutAddress takes the addresses from a network's error.
func withoutAddress(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// benchTimes are those of one message.
type benchTimes struct {
	dot      time.Time // the final dot was written
	answered time.Time // its reply was read
}

// send sends one message on a connection of its own.
func (w *benchWorker) send(n int64) (times benchTimes, err error) {
	all := int64(len(w.load.mail.messages))
	msg, host := &w.load.mail.messages[n%all], int(n/all)%benchHosts
	if err := w.open(msg.sender, host); err != nil {
		return times, err
	}
	defer w.conn.Close()
	for _, step := range []struct {
		want int
		line string
	}{
		{want: 250, line: "EHLO " + benchHostName(msg.sender, host)},
		{want: 250, line: fmt.Sprintf("MAIL FROM:<b%d@%s>", n, msg.from)}, // one for each message, as mailing lists have it
		{want: 250, line: fmt.Sprintf("RCPT TO:<user%d@%s>", n%1000, benchRcpt)},
		{want: 354, line: "DATA"},
	} {
		if err := w.say(step.line, step.want); err != nil {
			return times, err
		}
	}
	if _, err := w.conn.Write(msg.stuffed); err != nil {
		return times, err
	}
	times.dot = time.Now()
	if err := w.expect(250); err != nil {
		return times, err
	}
	times.answered = time.Now()
	return times, w.say("QUIT", 221)
}

// open connects as the host of a site and reads the greeting.
func (w *benchWorker) open(site, host int) error {
	conn, err := net.Dial("tcp", w.load.addr)
	if err != nil {
		return err
	}
	w.conn = conn
	if err := w.greet(site, host); err != nil {
		conn.Close()
		return err
	}
	return nil
}

func (w *benchWorker) greet(site, host int) error {
	if err := w.conn.SetDeadline(time.Now().Add(benchLimit)); err != nil {
		return err
	}
	w.in.Reset(w.conn)
	if !w.load.proxied {
		return w.expect(220)
	}
	return w.say(fmt.Sprintf("PROXY TCP4 %s 127.0.0.1 30000 25", benchAddr(site, host)), 220)
}

// say writes a command and reads its reply.
func (w *benchWorker) say(line string, want int) error {
	w.line = append(append(w.line[:0], line...), "\r\n"...)
	if _, err := w.conn.Write(w.line); err != nil {
		return err
	}
	return w.expect(want)
}

// expect reads a reply. One with another code is a *benchRefusal.
func (w *benchWorker) expect(want int) error {
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[3] == '-' {
			continue
		}
		code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
		if code != want {
			return &benchRefusal{reply: printable(strings.TrimRight(string(line), "\r\n"))}
		}
		return nil
	}
}
