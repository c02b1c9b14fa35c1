package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/proxy/peertest"
)

var packaging = filepath.Join("..", "..", "packaging")

// One command builds the programs and packages of both architectures, the same octets each time, with sums that agree.
// It takes a minute.
func TestBuildScript(t *testing.T) {
	if !full() {
		t.Skip("a long run: POSTERN_FULL=1")
	}
	peertest.Need(t, "bash", "dpkg-deb")
	dir := t.TempDir()
	out := runWith(t, packaging, []string{"SOURCE_DATE_EPOCH=1000000000", "TWICE=1"}, "./build.sh", dir, "1.2.3")
	if !strings.Contains(out, "built twice, and no byte differs") {
		t.Errorf("it says\n%s", out)
	}
	if sums := runIn(t, dir, "sha256sum", "-c", "SHA256SUMS"); strings.Count(sums, ": OK\n") != 5 {
		t.Errorf("the sums:\n%s", sums)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		deb := fmt.Sprintf("postern_1.2.3_%s.deb", arch)
		if info := runIn(t, dir, "dpkg-deb", "-I", deb); !strings.Contains(info, " Architecture: "+arch+"\n") {
			t.Errorf("the package for %s says\n%s", arch, info)
		}
	}
	licences, err := os.ReadFile(filepath.Join(dir, "postern_1.2.3_licences.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range regexp.MustCompile(`(?m)^dep\t(\S+)`).FindAllStringSubmatch(strings.ReplaceAll(runIn(t, dir, "go", "version", "-m", "postern_1.2.3_linux_amd64"), "\n\t", "\n"), -1) {
		if !strings.Contains(string(licences), "==== "+module[1]+": LICENSE") {
			t.Errorf("no licence of %s", module[1])
		}
	}
	imageRuns(t, dir)
	packageLives(t, peertest.Debootstrap(t, "systemd"), filepath.Join(dir, "postern_1.2.3_"+architecture(t)+".deb"))
}

// Versions of Debian sort as releases do.
func TestPackageVersion(t *testing.T) {
	peertest.Need(t, "bash", "dpkg")
	var before string
	for _, version := range []string{"0.1.0-dev.20261124123316.abcdef0", "1.2.3-rc1", "1.2.3", "1.2.3-4-gabcdef0", "1.2.4"} {
		debian := strings.TrimSpace(runIn(t, packaging, "./deb.sh", "-version", version))
		if before != "" {
			runIn(t, packaging, "dpkg", "--compare-versions", before, "lt", debian)
		}
		before = debian
	}
}

func architecture(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(runIn(t, t.TempDir(), "dpkg", "--print-architecture"))
}

// The package is installed, upgraded, removed and purged in a small system of this machine's own packages; what is
// installed serves.
func TestPackage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	peertest.Need(t, peertest.NeedRoot, "bash", "dpkg-deb", "systemd-sysusers")
	program, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	runWith(t, packaging, []string{"COMPRESS=none"}, "./deb.sh", program, architecture(t), "1.2.3", "LICENSE", dir)
	deb := filepath.Join(dir, "postern_1.2.3_"+architecture(t)+".deb")
	t.Run("with systemd", func(t *testing.T) {
		packageLives(t, peertest.CopyDebian(t, "passwd", "systemd"), deb)
	})
	t.Run("without", func(t *testing.T) {
		d := peertest.CopyDebian(t, "passwd")
		for _, tool := range []string{"systemctl", "systemd-sysusers"} {
			if err := os.Remove(filepath.Join(d.Root, "usr/bin", tool)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		packageLives(t, d, deb)
		packageTellsSystemd(t, d, deb)
	})
}

// olderOf makes a package of an older version, whose file for logrotate is another.
func olderOf(t *testing.T, deb string) string {
	t.Helper()
	dir := t.TempDir()
	tree, older := filepath.Join(dir, "tree"), filepath.Join(dir, "older.deb")
	runIn(t, dir, "dpkg-deb", "-R", deb, tree)
	for name, pair := range map[string][2]string{"DEBIAN/control": {"Version: 1.2.3\n", "Version: 1.2.2\n"}, "etc/logrotate.d/postern": {"rotate 30\n", "rotate 7\n"}} {
		edit(t, filepath.Join(tree, name), pair[0], pair[1])
	}
	runIn(t, dir, "dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, older)
	return older
}

// edit replaces a text in a file, which must hold it.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), old) {
		t.Fatalf("%s does not say %q:\n%s", path, old, raw)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// debs puts a package and an older version of it where the system can see them.
func debs(t *testing.T, d *peertest.Debian, deb string) (older, newer string) {
	t.Helper()
	for name, from := range map[string]string{"older.deb": olderOf(t, deb), "newer.deb": deb} {
		runIn(t, d.Root, "cp", from, filepath.Join(d.Root, "tmp", name))
	}
	return "/tmp/older.deb", "/tmp/newer.deb"
}

// packageLives goes through the life of a package in a system.
func packageLives(t *testing.T, d *peertest.Debian, deb string) {
	older, newer := debs(t, d, deb)
	if err := os.MkdirAll(filepath.Join(d.Root, "etc/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := filesOf(t, d)
	if out := d.Run("dpkg", "-i", older); !strings.Contains(out, "no configuration yet") {
		t.Errorf("installing says\n%s", out)
	}
	wantOwners(t, d, map[string]string{
		"usr/bin/postern": "755 root root", "etc/postern": "755 root root", "etc/logrotate.d/postern": "644 root root",
		"var/lib/postern": "750 postern postern", "var/lib/postern/quarantine": "700 postern postern", "var/log/postern": "750 postern adm",
		"etc/systemd/system/multi-user.target.wants/postern.service": "", // nothing is enabled
	})
	passwd, err := os.ReadFile(filepath.Join(d.Root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^postern:[^:]*:\d+:\d+:Postern mail filter:/var/lib/postern:/usr/sbin/nologin$`).Match(passwd) {
		t.Errorf("no account in\n%s", passwd)
	}

	serveInstalled(t, d, true)
	// What systemctl enable does.
	wants := filepath.Join(d.Root, "etc/systemd/system/multi-user.target.wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/lib/systemd/system/postern.service", filepath.Join(wants, "postern.service")); err != nil {
		t.Fatal(err)
	}
	rotate := filepath.Join(d.Root, "etc/logrotate.d/postern")
	edit(t, rotate, "rotate 7\n", "rotate 99\n")
	config, err := os.ReadFile(filepath.Join(d.Root, "etc/postern/postern.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d.Run("dpkg", "--force-confold", "-i", newer)
	if got := d.Run("dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "postern"); got != "1.2.3 installed" {
		t.Errorf("after the upgrade it is %s", got)
	}
	if got, err := os.ReadFile(filepath.Join(d.Root, "etc/postern/postern.yaml")); err != nil || string(got) != string(config) {
		t.Errorf("after the upgrade the configuration is %q, %v", got, err)
	}
	if got := d.Run("dpkg", "--verify", "postern"); !regexp.MustCompile(`^\S+ c /etc/logrotate.d/postern\n$`).MatchString(got) {
		t.Errorf("expected the changed file for logrotate, and it alone, to differ:\n%s", got)
	}
	edit(t, rotate, "rotate 99\n", "rotate 30\n")
	wantOwners(t, d, map[string]string{"etc/systemd/system/multi-user.target.wants/postern.service": "777 root root"})
	serveInstalled(t, d, false)

	d.Run("dpkg", "--remove", "postern")
	wantOwners(t, d, map[string]string{
		"usr/bin/postern": "", "usr/lib/systemd/system/postern.service": "", "etc/logrotate.d/postern": "644 root root",
		"etc/postern/postern.yaml": "644 root root", "var/lib/postern/state.db": "600 postern postern",
	})
	mail := filepath.Join(d.Root, "var/lib/postern/quarantine/new/1.mail")
	if err := os.MkdirAll(filepath.Dir(mail), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mail, []byte(hello), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Run("dpkg", "--purge", "postern")
	left := slices.DeleteFunc(filesOf(t, d), func(path string) bool { return slices.Contains(before, path) })
	if want := []string{"var/lib/postern", "var/lib/postern/quarantine", "var/lib/postern/quarantine/new", "var/lib/postern/quarantine/new/1.mail"}; !slices.Equal(left, want) {
		t.Errorf("a purge with mail in the quarantine leaves %q, expected %q", left, want)
	}
	if err := os.Remove(mail); err != nil {
		t.Fatal(err)
	}
	d.Run("dpkg", "-i", newer)
	d.Run("dpkg", "--purge", "postern")
	if after := filesOf(t, d); !slices.Equal(after, before) {
		t.Errorf("a purge leaves %q, takes %q", slices.DeleteFunc(slices.Clone(after), func(path string) bool { return slices.Contains(before, path) }),
			slices.DeleteFunc(slices.Clone(before), func(path string) bool { return slices.Contains(after, path) }))
	}
}

// filesOf lists what is in a system, but for accounts, the tools' own databases and scratch files.
func filesOf(t *testing.T, d *peertest.Debian) []string {
	t.Helper()
	var all []string
	own := regexp.MustCompile(`^(var/lib/dpkg|var/lib/systemd|var/log/dpkg\.log|var/cache|tmp|etc/\.pwd\.lock|etc/(passwd|group|g?shadow|sub[ug]id)-?|usr/bin/systemctl|systemctl\.log|run/systemd)(/|$)`)
	err := filepath.WalkDir(d.Root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.Root, path)
		if err != nil {
			return err
		}
		if own.MatchString(rel) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantOwners(t *testing.T, d *peertest.Debian, want map[string]string) {
	t.Helper()
	for path, owner := range want {
		if got := d.Owner(path); got != owner {
			t.Errorf("/%s is %q, expected %q", path, got, owner)
		}
	}
}

// serveInstalled has the installed program write its configuration, if it shall, and serve as its own account: a message
// passes, and it stops.
func serveInstalled(t *testing.T, d *peertest.Debian, configure bool) {
	t.Helper()
	sink := peertest.StartSink(t, peertest.Sink{})
	config := filepath.Join(d.Root, "etc/postern/postern.yaml")
	if configure {
		d.Run("postern", "init", "-hostname", "mx.example.org", "-domains", "example.org", "-upstream", "smtp://"+sink.Addr, "-listen", "127.0.0.1:0",
			"-dns", peertest.StartNames(t, initZone).Addr(), "-dnsbl", "none")
		edit(t, config, `"127.0.0.1:9125"`, `"127.0.0.1:0"`)
	} else {
		raw, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		old := regexp.MustCompile(`smtp://127[^"]*`).FindString(string(raw))
		edit(t, config, old, "smtp://"+sink.Addr)
	}
	d.Run("postern", "check")
	p := spawnCommand(t, d.Command("setpriv", "--reuid=postern", "--regid=postern", "--init-groups", "--no-new-privs", "--bounding-set=-all", "postern", "serve"))
	p.addr = value(p.await(`event=listening`), "address")
	c := dial(t, p.addr)
	c.say("EHLO mail.corp.example", 250)
	c.send("carol@home.example", "alice@example.org", hello, 250)
	c.say("QUIT", 221)
	if got := sink.Transactions(); len(got) != 1 || !strings.HasSuffix(string(got[0].Data), hello) {
		t.Errorf("the server behind got %d messages", len(got))
	}
	uid := regexp.MustCompile(`(?m)^Uid:\t(\d+)`)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	passwd, err := os.ReadFile(filepath.Join(d.Root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if m := uid.FindStringSubmatch(string(status)); m == nil || !strings.Contains(string(passwd), "postern:x:"+m[1]+":") {
		t.Errorf("it runs as %q", m)
	}
	p.signal(syscall.SIGTERM)
	if code, rest := p.end(); code != exitFine || !strings.Contains(strings.Join(rest, "\n"), "event=stopped") {
		t.Errorf("it ended with %d:\n%s", code, strings.Join(rest, "\n"))
	}
}

// packageTellsSystemd wants what runs to be restarted by an upgrade and stopped by a removal, where systemd runs, and a
// policy that forbids it to be kept.
func packageTellsSystemd(t *testing.T, d *peertest.Debian, deb string) {
	older, newer := debs(t, d, deb)
	for path, text := range map[string]string{"usr/bin/systemctl": "#!/bin/sh\necho \"$*\" >> /systemctl.log\n", "systemctl.log": ""} {
		if err := os.WriteFile(filepath.Join(d.Root, path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(d.Root, "run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	asked := func(want string, args ...string) {
		t.Helper()
		d.Run("dpkg", args...)
		log := filepath.Join(d.Root, "systemctl.log")
		raw, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if string(raw) != want {
			t.Errorf("dpkg %v asks systemctl\n%s\nexpected\n%s", args, raw, want)
		}
		if err := os.Truncate(log, 0); err != nil {
			t.Fatal(err)
		}
	}
	asked("--system daemon-reload\n", "-i", older)
	asked("--system daemon-reload\ntry-restart postern.service\n", "-i", newer)
	asked("stop postern.service\n--system daemon-reload\n", "--remove", "postern")
	asked("--system daemon-reload\ntry-restart postern.service\n", "-i", newer)
	if err := os.WriteFile(filepath.Join(d.Root, "usr/sbin/policy-rc.d"), []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	asked("--system daemon-reload\n", "--purge", "postern")
}

// An image of what is built has the program, which runs, and a folder for its state that is its own.
func imageRuns(t *testing.T, dir string) {
	t.Helper()
	peertest.Need(t, "buildah", peertest.NeedRoot)
	store := t.TempDir()
	args := []string{"--storage-driver", "vfs", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
	buildah := func(more ...string) string {
		t.Helper()
		return strings.TrimSpace(runIn(t, dir, "buildah", append(slices.Clone(args), more...)...))
	}
	file, err := filepath.Abs(filepath.Join(packaging, "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}
	buildah("build", "--quiet", "--isolation", "chroot", "--build-arg", "TARGETARCH="+architecture(t), "-f", file, "-t", "postern", dir)
	buildah("from", "--quiet", "--pull-never", "--name", "tried", "localhost/postern")
	if got := buildah("run", "--isolation", "chroot", "tried", "--", "/usr/bin/postern", "version"); !strings.HasPrefix(got, "postern 1.2.3 ") {
		t.Errorf("the program in the image says %s", got)
	}
	root := buildah("mount", "tried")
	info, err := os.Stat(filepath.Join(root, "var/lib/postern"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 65532 || owner.Gid != 65532 {
		t.Errorf("the folder of the state belongs to %d", owner.Uid)
	}
	buildah("umount", "tried")
	buildah("rm", "tried")
}

// The Containerfile takes nothing but what packaging/build.sh makes, and needs no other image.
func TestContainerfile(t *testing.T) {
	var script, file string
	for name, to := range map[string]*string{"build.sh": &script, "Containerfile": &file} {
		raw, err := os.ReadFile(filepath.Join(packaging, name))
		if err != nil {
			t.Fatal(err)
		}
		*to = string(raw)
	}
	var taken []string
	for _, m := range regexp.MustCompile(`(?m)^(FROM|COPY)(?: --\S+)* (\S+)`).FindAllStringSubmatch(file, -1) {
		taken = append(taken, m[2])
	}
	if want := []string{"scratch", "postern_*_linux_${TARGETARCH}", "state"}; !slices.Equal(taken, want) {
		t.Errorf("it takes %q, expected %q", taken, want)
	}
	for _, made := range []string{`bin=postern_${version}_linux_$arch`, `mkdir -p "$to/state"`} {
		if !strings.Contains(script, made) {
			t.Errorf("build.sh does not say %s", made)
		}
	}
}
