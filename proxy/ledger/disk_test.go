package ledger

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// roomLeft is the size of the disk, or of a file, while it is small, in KiB.
const roomLeft = 256

// TestDisksFill fills the disk of store and spool: what can't be remembered on it is remembered all the same, a message
// that can't be spooled is put off, all else goes on, and nothing crashes. In the end there is room again.
func TestDisksFill(t *testing.T) {
	t.Parallel()
	t.Run("files that cannot grow", func(t *testing.T) {
		t.Parallel()
		fillDisk(t, fmt.Sprintf("ulimit -S -f %d; ", roomLeft*2), func(string) error { return nil }, func(p *postern) error {
			unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
			return unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unlimited, nil)
		})
	})
	t.Run("a small file system", func(t *testing.T) {
		t.Parallel()
		mount := func(dir, options string) error {
			return exec.Command("mount", "-t", "tmpfs", "-o", options, "none", dir).Run()
		}
		if os.Geteuid() != 0 {
			t.Log("not root: only files that cannot grow were tried")
			return
		}
		fillDisk(t, "", func(dir string) error {
			if err := mount(dir, fmt.Sprintf("size=%dk", roomLeft)); err != nil {
				return err
			}
			t.Cleanup(func() {
				if err := exec.Command("umount", dir).Run(); err != nil {
					t.Errorf("umount: %v", err)
				}
			})
			return nil
		}, func(p *postern) error { return mount(filepath.Join(p.dir, "small"), "remount,size=16m") })
	})
}

// fillDisk goes through it on a disk that prepare makes small, or limits in the shell, and grow large again.
func fillDisk(t *testing.T, limits string, prepare func(dir string) error, grow func(*postern) error) {
	b := newBook()
	h := startHop(t, pooledHop, ownAddress(t), b, nil)
	config := strings.NewReplacer("path: state.db", "path: small/state.db", "log: {output: postern.log}", "log: {output: stderr}").Replace(commonConfig)
	p := preparePostern(t, config+"dns: {servers: ['127.0.0.1:9']}\nfilters: {iprev: {enabled: false}, helo: {enabled: false}}\n"+
		"domains: [lane.example]\nupstream: [{address: 'smtp://"+h.addr+"'}]\n")
	small := filepath.Join(p.dir, "small")
	p.env = append(p.env, "TMPDIR="+small, "GOMEMLIMIT=64MiB")
	p.limits = limits
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := prepare(small); err != nil {
		t.Logf("a small disk can't be had here: %v", err)
		return
	}
	p.start()
	l := &lane{domain: "lane.example", hop: h, proxy: p, book: b}
	for _, fill := range []struct{ messages, rcpts int }{{30, 100}, {30, 10}, {60, 2}} { // what is larger fails first
		for range fill.messages {
			l.leaveInDoubt(fill.rcpts)
		}
	}
	for _, kind := range []string{"close", "reset", "garbage", "half, then close", "stall"} {
		for _, took := range []bool{false, true} {
			l.try(point{hop: pooledHop, fault: &hopFault{step: "dot", kind: kind, took: took}})
		}
	}
	for _, kind := range []string{"close", "reset"} {
		l.try(point{hop: pooledHop, client: &clientFault{step: "unread reply", kind: kind}})
		l.try(point{hop: pooledHop, client: &clientFault{step: "final dot", kind: kind}, held: "taken"})
	}
	l.tooLarge(t, small)
	if err := grow(p); err != nil {
		t.Fatalf("giving the disk room again: %v", err)
	}
	l.try(point{hop: pooledHop, large: true, client: &clientFault{step: "unread reply", kind: "close"}})
	l.try(point{hop: pooledHop, fault: &hopFault{step: "dot", kind: "close", took: true}})
	p.finish()
	log := p.log()
	failed := 0
	for line := range strings.Lines(log) {
		if strings.Contains(line, "delivery memory: ") {
			failed++
		}
	}
	if failed == 0 {
		t.Error("the store was never full")
	}
	t.Logf("the store took nothing from %d transactions", failed)
	if strings.Contains(log, "event=store_moved_aside") {
		t.Error("a full disk is taken for a corrupt store")
	}
	b.report(t, "A full disk: "+strings.ReplaceAll(filepath.Base(t.Name()), "_", " "), "faults", log)
}

// leaveInDoubt offers a message that the next hop never answers, for many recipients, and does not come again.
func (l *lane) leaveInDoubt(rcpts int) {
	id := newID("full")
	p := point{client: &none}
	a := l.book.open(id, cause{where: none.step, kind: none.kind}, nil, p.message(id))
	a.abandoned = true
	for n := range rcpts {
		a.rcpts = append(a.rcpts, fmt.Sprintf("r%d.%s@%s", n, id, l.domain))
	}
	l.hop.arm(&hopFault{step: "dot", kind: "close", lasting: true})
	l.client(false).attempt(a, a.rcpts, nil)
	l.hop.disarm()
}

// tooLarge sends a message that has no room in the spool.
func (l *lane) tooLarge(t *testing.T, dir string) {
	t.Helper()
	id := newID("large")
	p := point{large: true, client: &none}
	a := l.book.open(id, cause{where: none.step, kind: none.kind}, []string{"first." + id + "@" + l.domain}, p.message(id))
	a.abandoned = true
	c := l.client(false)
	c.attempt(a, a.rcpts, nil)
	if c.last != 452 {
		t.Errorf("a message for which there is no room was answered with %d, want 452", c.last)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "postern-spool-*")); err != nil || len(files) > 0 {
		t.Errorf("left behind in the spool: %q, %v", files, err)
	}
}
