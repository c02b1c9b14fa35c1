package peertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// peersDir is where fetch.sh has unpacked the servers that cannot be installed beside Postfix.
func peersDir() string {
	if dir := os.Getenv("POSTERN_PEERS"); dir != "" {
		return dir
	}
	return "/var/cache/postern-peers"
}

// missingTree says why the unpacked server cannot be used, or "".
func missingTree(name, program string) string {
	tree := filepath.Join(peersDir(), name)
	for _, f := range []string{"complete", program} {
		if _, err := os.Stat(filepath.Join(tree, f)); err != nil {
			return fmt.Sprintf("no %s in %s (test.sh fetches it)", name, tree)
		}
	}
	return ""
}

// account is a user, and a group of the same name and number, inside a chroot. The numbers mean nothing outside.
type account struct {
	name string
	id   int
	home string
}

// newRoot copies an unpacked server into a folder of the test, as the root folder that the server will see: its
// accounts, the files that name look-ups want, and the devices.
func newRoot(t testing.TB, name string, accounts []account) string {
	t.Helper()
	root := filepath.Join(tempDir(t, name), "root")
	if out, err := exec.Command("cp", "-a", "--reflink=auto", filepath.Join(peersDir(), name), root).CombinedOutput(); err != nil {
		t.Fatalf("copy the server %s: %v\n%s", name, err, out)
	}
	for _, dir := range []string{"dev", "etc", "run", "tmp", "mail", "var/empty", "var/run", "var/spool"} {
		makeDir(t, filepath.Join(root, dir), 0o755, 0)
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatalf("open the temp folder of %s: %v", name, err)
	}
	var passwd, group strings.Builder
	for _, a := range append([]account{{name: "root", id: 0, home: "/"}, {name: "mail", id: 8, home: "/var/empty"}}, accounts...) {
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:/bin/sh\n", a.name, a.id, a.id, a.home)
		fmt.Fprintf(&group, "%s:x:%d:\n", a.name, a.id)
	}
	writeFile(t, filepath.Join(root, "etc/passwd"), passwd.String())
	writeFile(t, filepath.Join(root, "etc/group"), group.String())
	writeFile(t, filepath.Join(root, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")
	writeFile(t, filepath.Join(root, "etc/hosts"), "127.0.0.1 localhost\n")
	writeFile(t, filepath.Join(root, "etc/resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
	makeDevices(t, root)
	return root
}

// makeDevices makes those that every program may ask for.
func makeDevices(t testing.TB, root string) {
	t.Helper()
	makeDir(t, filepath.Join(root, "dev"), 0o755, 0)
	for _, dev := range []struct {
		name         string
		major, minor int
	}{{"null", 1, 3}, {"zero", 1, 5}, {"random", 1, 8}, {"urandom", 1, 9}} {
		path := filepath.Join(root, "dev", dev.name)
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, dev.major<<8|dev.minor); err != nil {
			t.Fatalf("make the device %s below %s: %v", dev.name, root, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatalf("open the device %s: %v", dev.name, err)
		}
	}
}

// copyFile puts a file of the test where the server finds it.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("read a file for the server: %v", err)
	}
	writeFile(t, to, string(text))
}

// makeDir makes a folder, and those above it, for a user and its group.
func makeDir(t testing.TB, path string, mode os.FileMode, id int) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatalf("make a folder for the server: %v", err)
	}
	if err := os.Chown(path, id, id); err != nil {
		t.Fatalf("give a folder to the server: %v", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatalf("set the mode of a folder: %v", err)
	}
}

// makeSetgid has a program run with the rights of a group.
func makeSetgid(t testing.TB, path string, group int) {
	t.Helper()
	if err := os.Chown(path, 0, group); err != nil {
		t.Fatalf("give a program to its group: %v", err)
	}
	if err := os.Chmod(path, 0o755|os.ModeSetgid); err != nil {
		t.Fatalf("let a program run with its group: %v", err)
	}
}

// chrooted is a command that sees root as its root folder.
func chrooted(root, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("/"+program, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TZ=UTC"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	return cmd
}
