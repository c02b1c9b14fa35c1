package store_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/filters/store"
)

// TestBoltDiskFull lets files grow no further for a while: writes fail, reads go on, and once there is room again so do
// writes. What a failed write returned an error for has not happened.
//
// The limit holds for a whole process, and so for what the test program writes about itself: the test runs in a
// process of its own.
func TestBoltDiskFull(t *testing.T) {
	if os.Getenv("POSTERN_TEST_DISKFULL") == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestBoltDiskFull$", "-test.v")
		child.Env = append(os.Environ(), "POSTERN_TEST_DISKFULL=1")
		out, err := child.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestBoltDiskFull") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	setLimit := func(n uint64) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer setLimit(before.Cur)

	path := filepath.Join(t.TempDir(), "state.db")
	b := openBolt(t, path, store.BoltOptions{})
	defer func() { b.Close() }()
	value := strings.Repeat("v", store.MaxValue)
	put(t, b, "first", value, time.Hour)
	add(t, b, "count", 1, time.Hour)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	setLimit(uint64(info.Size()))
	stored := 0
	for stored < 1000 {
		if err = b.Put([]byte(fmt.Sprintf("k%d", stored)), []byte(value), time.Hour); err != nil {
			break
		}
		stored++
	}
	if err == nil {
		t.Fatal("16 MB went into a file that cannot grow")
	}
	if strings.Contains(err.Error(), "corrupt") {
		t.Errorf("a full disk is called %v", err)
	}
	expect(t, "the entry before", get(t, b, "first"), value)
	expect(t, "the entry that failed", get(t, b, fmt.Sprintf("k%d", stored)), "-")

	setLimit(before.Cur)
	put(t, b, "after", "x", time.Hour)
	expect(t, "the counter", add(t, b, "count", 1, time.Hour), int64(2))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBolt(t, path, store.BoltOptions{}) // verifies the file
	for i := range stored {
		expect(t, "a stored entry", get(t, b, fmt.Sprintf("k%d", i)), value)
	}
	expect(t, "the entry afterwards", get(t, b, "after"), "x")
}
