package peertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A Debian is a folder with a small Debian system in it, in which packages can be installed and removed by its own dpkg.
// Nothing outside of the folder changes.
type Debian struct {
	t    testing.TB
	Root string
}

// CopyDebian makes one of this machine's own files: the essential packages, the named ones, and what these depend on, as
// the machine's dpkg knows them. It needs neither a network nor the right to mount.
func CopyDebian(t testing.TB, packages ...string) *Debian {
	t.Helper()
	d := &Debian{t: t, Root: filepath.Join(tempDir(t, "debian"), "root")}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/cache", "var/log", "etc", "run", "proc"} {
		makeDir(t, filepath.Join(d.Root, dir), 0o755, 0)
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(d.Root, link)); err != nil {
			t.Fatalf("make the links of the root folder: %v", err)
		}
	}
	makeDir(t, filepath.Join(d.Root, "tmp"), 0o777|os.ModeSticky, 0)
	makeDevices(t, d.Root)
	known := d.installedHere()
	chosen := known.closure(packages)
	d.copyPackages(chosen)
	d.copyStatus(known, chosen)
	for _, name := range []string{"passwd", "group"} {
		copyFile(t, "/usr/share/base-passwd/"+name+".master", filepath.Join(d.Root, "etc", name))
	}
	writeFile(t, filepath.Join(d.Root, "etc/shadow"), "")
	writeFile(t, filepath.Join(d.Root, "etc/gshadow"), "")
	d.Run("ldconfig")
	return d
}

// Debootstrap makes one with debootstrap, from the mirror that this machine's apt uses, with more packages than the
// smallest system has.
func Debootstrap(t testing.TB, packages ...string) *Debian {
	t.Helper()
	d := &Debian{t: t, Root: filepath.Join(tempDir(t, "debian"), "root")}
	out, err := exec.CommandContext(t.Context(), "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(RELEASE) $(SITE)", "Identifier: Packages").Output()
	if err != nil {
		t.Fatalf("ask apt for its sources: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 4 || f[0] != "Debian" || f[1] != "main" || strings.Contains(f[2], "-") {
			continue
		}
		args := []string{"--variant=minbase", f[2], d.Root, f[3]}
		if len(packages) > 0 {
			args = slices.Insert(args, 0, "--include="+strings.Join(packages, ","))
		}
		if out, err := exec.CommandContext(t.Context(), "debootstrap", args...).CombinedOutput(); err != nil {
			t.Fatalf("debootstrap: %v\n%s", err, out)
		}
		return d
	}
	t.Fatalf("apt has no source of Debian's main section (apt-get update was not run?):\n%s", out)
	return nil
}

// Command is one that sees the folder as its root.
func (d *Debian) Command(program string, args ...string) *exec.Cmd {
	path := program
	for _, dir := range []string{"usr/local/bin", "usr/bin", "usr/sbin"} {
		if _, err := os.Stat(filepath.Join(d.Root, dir, program)); err == nil {
			path = filepath.Join(dir, program)
			break
		}
	}
	cmd := chrooted(d.Root, path, args...)
	cmd.Env = append(cmd.Env, "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	return cmd
}

// Run runs one, and gives what it prints.
func (d *Debian) Run(program string, args ...string) string {
	d.t.Helper()
	out, err := d.Command(program, args...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Owner tells mode, owner and group of a file in the folder, as in "755 root root"; "" if it isn't there.
func (d *Debian) Owner(path string) string {
	d.t.Helper()
	info, err := os.Lstat(filepath.Join(d.Root, path))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	if err != nil {
		d.t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%o %s %s", info.Mode().Perm(), d.named("passwd", stat.Uid), d.named("group", stat.Gid))
}

// named gives the account, or the group, with a number.
func (d *Debian) named(database string, id uint32) string {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join(d.Root, "etc", database))
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == fmt.Sprint(id) {
			return f[0]
		}
	}
	return fmt.Sprint(id)
}

// packagesHere are the packages that are installed on this machine, by name; what some provide leads to one of them.
type packagesHere struct {
	depends  map[string][][]string // of each, and for each dependency, the names any of which will do
	provides map[string]string
	first    []string // the essential ones
}

func (d *Debian) installedHere() packagesHere {
	d.t.Helper()
	out, err := exec.CommandContext(d.t.Context(), "dpkg-query", "-W", "-f", "${db:Status-Status}\t${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n").Output()
	if err != nil {
		d.t.Fatalf("ask dpkg what is installed: %v", err)
	}
	known := packagesHere{depends: make(map[string][][]string), provides: make(map[string]string)}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || f[0] != "installed" {
			continue
		}
		known.depends[f[1]] = relations(f[3])
		for _, names := range relations(f[4]) {
			known.provides[names[0]] = f[1]
		}
		if f[2] == "yes" {
			known.first = append(known.first, f[1])
		}
	}
	return known
}

// relations reads a field such as "libc6 (>= 2.36), awk | mawk:any".
func relations(field string) [][]string {
	var all [][]string
	for one := range strings.SplitSeq(field, ",") {
		var names []string
		for name := range strings.SplitSeq(one, "|") {
			if i := strings.IndexAny(strings.TrimSpace(name), " (:"); i >= 0 {
				name = strings.TrimSpace(name)[:i]
			}
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			all = append(all, names)
		}
	}
	return all
}

// closure gives the essential packages, these, and all that they depend on, sorted.
func (known packagesHere) closure(packages []string) []string {
	seen := make(map[string]bool)
	for todo := slices.Concat(known.first, packages); len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if real := known.provides[name]; known.depends[name] == nil && real != "" {
			name = real
		}
		if _, installed := known.depends[name]; !installed || seen[name] {
			continue
		}
		seen[name] = true
		for _, names := range known.depends[name] {
			for _, n := range names {
				if known.depends[n] != nil || known.provides[n] != "" {
					todo = append(todo, n)
					break
				}
			}
		}
	}
	var all []string
	for name := range seen {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// copyPackages copies the files that dpkg lists for them, but for documents.
func (d *Debian) copyPackages(names []string) {
	d.t.Helper()
	listed, err := exec.CommandContext(d.t.Context(), "dpkg-query", append([]string{"-L"}, names...)...).Output()
	if err != nil {
		d.t.Fatalf("ask dpkg for the files of packages: %v", err)
	}
	var files strings.Builder
	for line := range strings.Lines(string(listed)) {
		path := strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(path, "/") || slices.ContainsFunc([]string{"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info"}, func(p string) bool { return strings.HasPrefix(path, p) }) {
			continue
		}
		// Where /lib is a link to usr/lib, packages still name files by either.
		for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
			if strings.HasPrefix(path, dir) {
				path = "/usr" + path
			}
		}
		if info, err := os.Lstat(path); err == nil && (info.Mode().IsRegular() || info.Mode()&os.ModeSymlink != 0) {
			files.WriteString(strings.TrimPrefix(path, "/") + "\n")
		}
	}
	list := filepath.Join(filepath.Dir(d.Root), "files")
	writeFile(d.t, list, files.String())
	copied := exec.CommandContext(d.t.Context(), "sh", "-c", `tar -C / --no-recursion -T "$1" -cf - | tar -C "$2" -xpf - --keep-directory-symlink`, "sh", list, d.Root)
	if out, err := copied.CombinedOutput(); err != nil {
		d.t.Fatalf("copy the files of packages: %v\n%s", err, out)
	}
}

// copyStatus has the dpkg inside know these packages as installed.
func (d *Debian) copyStatus(known packagesHere, names []string) {
	d.t.Helper()
	const admin = "var/lib/dpkg"
	raw, err := os.ReadFile("/" + admin + "/status")
	if err != nil {
		d.t.Fatalf("read dpkg's database: %v", err)
	}
	var status strings.Builder
	for entry := range strings.SplitSeq(string(raw), "\n\n") {
		line, _, _ := strings.Cut(entry, "\n")
		if name, ok := strings.CutPrefix(line, "Package: "); ok && slices.Contains(names, name) {
			status.WriteString(strings.TrimSuffix(entry, "\n") + "\n\n")
		}
	}
	writeFile(d.t, filepath.Join(d.Root, admin, "status"), status.String())
	writeFile(d.t, filepath.Join(d.Root, admin, "available"), "")
	for _, name := range names {
		lists, err := filepath.Glob("/" + admin + "/info/" + name + "[.:]*list")
		if err != nil {
			d.t.Fatal(err)
		}
		for _, from := range lists {
			copyFile(d.t, from, filepath.Join(d.Root, from))
		}
	}
	format := "/" + admin + "/info/format"
	if _, err := os.Stat(format); err == nil {
		copyFile(d.t, format, filepath.Join(d.Root, format))
	}
}
