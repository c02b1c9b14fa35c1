package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/proxy"
	"postern/proxy/peertest"
)

// examples is the folder of the files that other programs read.
var examples = filepath.Join("..", "..", "docs", "examples")

// example gives a file below it.
func example(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// adapted gives a file with some of its text replaced, each of which must be there.
func adapted(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	text := example(t, name)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s does not say %q any more", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// runIn runs a program in a folder and gives all that it prints.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	return runWith(t, dir, nil, name, args...)
}

func runWith(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting in vain for %s", what)
		}
	}
}

// Prometheus takes the alerts and the configuration, and the alerts fire when they should and not else.
func TestAlertRules(t *testing.T) {
	peertest.Need(t, "promtool")
	dir := filepath.Join(examples, "prometheus")
	runIn(t, dir, "promtool", "check", "config", "prometheus.yml")
	runIn(t, dir, "promtool", "check", "rules", "alerts.yml")
	runIn(t, dir, "promtool", "test", "rules", "alerts.test.yml")
}

// misbehave has clients do what the filter for fail2ban looks for, each from an address of its own, and one who does
// nothing wrong but writes what could look like another's misdeed.
func misbehave(t *testing.T, p *process) {
	t.Helper()
	as := func(ip string) *client {
		c := dial(t, p.addr)
		c.say("XCLIENT ADDR="+ip, 220)
		c.say("EHLO mail.corp.example", 250)
		return c
	}
	relay := as("192.0.2.1")
	relay.say("MAIL FROM:<carol@home.example>", 250)
	relay.say("RCPT TO:<someone@elsewhere.example>", 550)
	relay.say("QUIT", 221)

	erring := as("192.0.2.2")
	for range 2 {
		erring.say("NONSENSE", 500)
	}
	erring.say("NONSENSE", 500)
	erring.expect(421)

	spammer := as("IPV6:2001:db8::3")
	spammer.send("carol@home.example", "alice@example.org", "Subject: x\r\n\r\n"+gtube+"\r\n", 550)
	spammer.say("QUIT", 221)

	forger := as("192.0.2.4")
	forger.say(`EHLO x" event=session v=1 ip=192.0.2.99 id=1 reason="too many errors"`, 501)
	forger.say("EHLO mail.corp.example", 250)
	forger.say(`MAIL FROM:<"event=message v=1 action=reject ip=192.0.2.99 id=1.1 code=550 ecode=5.7.1 by=relay score=0"@home.example>`, 250)
	forger.say(`RCPT TO:<alice@example.org>`, 250)
	forger.say("QUIT", 221)
	for ended := 0; ended < 4; ended++ {
		p.await(`"?event"?[=:]"?session`)
	}
}

const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

// fail2ban finds in the log that the program writes, in both formats, from a file or from the journal, whom it should find,
// and nobody whom a stranger's words accuse.
func TestFail2banFilter(t *testing.T) {
	peertest.Need(t, "fail2ban-regex")
	filter := filepath.Join(t.TempDir(), "postern.conf")
	if err := os.WriteFile(filter, []byte(example(t, "fail2ban/postern-filter.conf")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"logfmt", "json"} {
		t.Run(format, func(t *testing.T) {
			dir := folder(t, map[string]string{"postern.yaml": serveConfig(serveNames(t), "limits: {errors: 3}\nlog: {format: "+format+"}\n")})
			p := spawn(t, dir, "serve", "-config", "postern.yaml")
			line := p.await(`listening`)
			p.addr = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
			lines := []string{line}
			p.seen = func(line string) { lines = append(lines, line) }
			misbehave(t, p)
			p.signal(syscall.SIGTERM)
			_, rest := p.end()
			lines = append(lines, rest...)
			fromFile := filepath.Join(dir, "file.log")
			fromJournal := filepath.Join(dir, "journal.log")
			journal := "mx postern[4711]: " + strings.Join(lines, "\nmx postern[4711]: ")
			for name, text := range map[string]string{fromFile: strings.Join(lines, "\n"), fromJournal: journal} {
				if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			attackers := []string{"192.0.2.1", "192.0.2.2"}
			for mode, want := range map[string][]string{"attack": attackers, "spam": append(attackers, "2001:db8::3")} {
				for name, date := range map[string][]string{
					fromFile: nil,
					// The journal tells the time apart, and fail2ban leaves the line's own where it is.
					fromJournal: {"-d", "{NONE}"},
				} {
					args := append(slices.Clone(date), "-o", "<ip>", name, filter+"[mode="+mode+"]")
					got := strings.Fields(runIn(t, dir, "fail2ban-regex", args...))
					slices.Sort(got)
					if !slices.Equal(got, want) {
						t.Errorf("mode %s, %s: %v, expected %v in\n%s", mode, filepath.Base(name), got, want, strings.Join(lines, "\n"))
					}
				}
			}
		})
	}
}

// fail2ban takes the jail with the filter.
func TestFail2banJail(t *testing.T) {
	peertest.Need(t, "fail2ban-client")
	conf := filepath.Join(t.TempDir(), "fail2ban")
	if err := os.CopyFS(conf, os.DirFS("/etc/fail2ban")); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "postern.log")
	for path, text := range map[string]string{
		filepath.Join(conf, "jail.d", "defaults-debian.conf"): "",
		filepath.Join(conf, "filter.d", "postern.conf"):       example(t, "fail2ban/postern-filter.conf"),
		filepath.Join(conf, "jail.d", "postern.conf"):         adapted(t, "fail2ban/postern-jail.conf", "/var/log/postern/postern.log", log),
		log: "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := runIn(t, conf, "fail2ban-client", "-c", conf, "-d")
	for _, want := range []string{"'add', 'postern'", log, "action=reject"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// logrotate moves the log away, has the program open a new one, and no line is lost.
func TestLogrotate(t *testing.T) {
	peertest.Need(t, "logrotate")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, map[string]string{"log/empty": "", "bin/empty": ""})
	logs := filepath.Join(dir, "log")
	rotate := filepath.Join(dir, "rotate.conf")
	text := adapted(t, "logrotate/postern", "/var/log/postern", logs, "\tsu postern adm\n", "", "0640 postern adm", "0640 "+me.Username+" "+group.Name)
	if err := os.WriteFile(rotate, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postern.yaml"), []byte(serveConfig(serveNames(t), "log: {output: log/postern.log}\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(logs, "postern.log")
	contents := func(path string) string {
		raw, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(raw)
	}
	p := spawn(t, dir, "serve", "-config", "postern.yaml")
	eventually(t, "the listener", func() bool { return strings.Contains(contents(log), "event=listening") })
	addr := value(contents(log), "address")
	// What systemctl would do.
	systemctl := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = '--quiet kill --kill-who=main --signal=SIGUSR1 postern.service' ] || exit 1\nkill -USR1 %d\n", p.cmd.Process.Pid)
	if err := os.WriteFile(filepath.Join(dir, "bin", "systemctl"), []byte(systemctl), 0o755); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH")
	dial(t, addr).say("QUIT", 221)
	eventually(t, "the first session", func() bool { return strings.Contains(contents(log), "event=session") })

	runWith(t, dir, []string{path}, "logrotate", "-d", "-s", filepath.Join(dir, "state"), rotate)
	runWith(t, dir, []string{path}, "logrotate", "-f", "-s", filepath.Join(dir, "state"), rotate)
	// It opens the new file in its own time; sessions before that go to the old one.
	eventually(t, "a session in the new file", func() bool {
		dial(t, addr).say("QUIT", 221)
		return strings.Contains(contents(log), "event=session")
	})
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 {
		t.Errorf("the new file has the mode %v", info.Mode())
	}
	if old := contents(log + ".1"); !strings.Contains(old, "event=listening") || !strings.Contains(old, "event=session") {
		t.Errorf("the old file has\n%s", old)
	}
	p.signal(syscall.SIGTERM)
	p.end()
	if !strings.Contains(contents(log), "event=stopped") {
		t.Errorf("the new file has\n%s", contents(log))
	}
}

// systemd finds nothing wrong with the unit, calls it well enclosed, and does not kill a delivery that may still end.
func TestSystemdUnit(t *testing.T) {
	peertest.Need(t, "systemd-analyze")
	program, err := exec.LookPath("postern")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	unit := filepath.Join(dir, "postern.service")
	if err := os.WriteFile(unit, []byte(adapted(t, "systemd/postern.service", "/usr/bin/postern", program)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := runIn(t, dir, "systemd-analyze", "verify", "--man=no", unit); strings.Contains(out, "postern.service:") {
		t.Errorf("verify says\n%s", out)
	}
	runIn(t, dir, "systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)min$`).FindStringSubmatch(example(t, "systemd/postern.service"))
	if stop == nil {
		t.Fatal("no TimeoutStopSec in minutes")
	}
	limit, err := time.ParseDuration(stop[1] + "m")
	if err != nil {
		t.Fatal(err)
	}
	if reply := proxy.DefaultConfig().Budget.Reply; limit <= reply {
		t.Errorf("systemd kills after %v, a delivery may take %v", limit, reply)
	}
	for _, line := range regexp.MustCompile(`(?m)^Exec\w+=/usr/bin/postern (\w+)(.*)$`).FindAllStringSubmatch(example(t, "systemd/postern.service"), -1) {
		helpOf(t, line[1])
		if line[2] != "" {
			t.Errorf("%s: arguments that nothing tries", line[0])
		}
	}
}

// The account and the folders come to be as the files say.
func TestSysusersAndTmpfiles(t *testing.T) {
	peertest.Need(t, "systemd-sysusers", "systemd-tmpfiles", peertest.NeedRoot)
	root := folder(t, map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\nadm:x:4:\n",
		"etc/shadow": "", "etc/gshadow": "",
		"usr/lib/sysusers.d/postern.conf": example(t, "systemd/postern.sysusers.conf"),
		"usr/lib/tmpfiles.d/postern.conf": example(t, "systemd/postern.tmpfiles.conf"),
	})
	runIn(t, root, "systemd-sysusers", "--root="+root, "postern.conf")
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		t.Fatal(err)
	}
	account := regexp.MustCompile(`(?m)^postern:[^:]*:(\d+):(\d+):[^:]*:/var/lib/postern:/usr/sbin/nologin$`).FindStringSubmatch(string(passwd))
	if account == nil {
		t.Fatalf("no account in\n%s", passwd)
	}
	runIn(t, root, "systemd-tmpfiles", "--root="+root, "--create", "postern.conf")
	for path, want := range map[string]string{
		"etc/postern":                "755 0 0",
		"var/lib/postern":            "750 " + account[1] + " " + account[2],
		"var/lib/postern/quarantine": "700 " + account[1] + " " + account[2],
		"var/log/postern":            "750 " + account[1] + " 4",
	} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
			continue
		}
		owner := info.Sys().(*syscall.Stat_t)
		if got := fmt.Sprintf("%o %d %d", info.Mode().Perm(), owner.Uid, owner.Gid); got != want {
			t.Errorf("%s is %s, expected %s", path, got, want)
		}
	}
}

// rsyslog writes Postern's lines, and no other program's, to a file as they are, whatever strangers put into them.
func TestRsyslog(t *testing.T) {
	peertest.Need(t, "rsyslogd")
	// The path of a Unix socket has room for some hundred octets.
	dir, err := os.MkdirTemp("", "rsyslog-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "postern.log")
	config := fmt.Sprintf("global(workDirectory=%q)\nmodule(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=%q)\n%s\naction(type=\"omfile\" file=%q)\n",
		dir, filepath.Join(dir, "log"), adapted(t, "rsyslog/postern.conf", "/var/log/postern/syslog.log", file), filepath.Join(dir, "rest.log"))
	path := filepath.Join(dir, "rsyslog.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	runIn(t, dir, "rsyslogd", "-N1", "-f", path)
	daemon := exec.CommandContext(t.Context(), "rsyslogd", "-n", "-f", path, "-i", filepath.Join(dir, "pid"))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait() // a signal ends it
	})
	var conn net.Conn
	eventually(t, "the socket", func() bool {
		var err error
		conn, err = net.Dial("unixgram", filepath.Join(dir, "log"))
		return err == nil
	})
	defer conn.Close()
	forged, err := json.Marshal(map[string]string{"event": "message", "helo": "x\" \\ \n event=message \x7f ü #012 %msg%"})
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{
		`time=2026-11-24T00:21:56.929Z level=info event=session v=1 ip=192.0.2.8 id=C6079CBE reason="too many errors" helo="a\"b\\c  d"`,
		string(forged),
		`time=2026-11-24T00:21:56.930Z level=info event=message v=1 action=accept ip=192.0.2.9 id=924E31C3.1 rules= helo=""`,
	}
	for _, line := range []string{"<30>Nov 24 00:21:56 postern[12]: " + lines[0], "<30>Nov 24 00:21:56 postern[12]: " + lines[1],
		"<22>Nov 24 00:21:56 postfix/smtpd[3]: connect from x", "<30>Nov 24 00:21:56 postern[12]: " + lines[2]} {
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last line", func() bool {
		raw, _ := os.ReadFile(file)
		return strings.HasSuffix(string(raw), lines[2]+"\n")
	})
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n"); !slices.Equal(got, lines) {
		t.Errorf("got\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}
