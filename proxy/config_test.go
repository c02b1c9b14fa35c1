package proxy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters/dns"
	"postern/rules/strict"
)

const configFolder = "../testdata/config"

// loadConfigFile does what `postern check` does with a configuration.
func loadConfigFile(t *testing.T, path string) error {
	t.Helper()
	cfg, err := LoadConfig(path)
	if err != nil {
		return err
	}
	rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{Resolver: dns.Offline()})
	if err != nil {
		return err
	}
	rt.Close()
	return nil
}

// Each file in bad is wrong in its own way; beside it stands what its writer is told.
func TestBadConfigs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(configFolder, "bad", "*.yaml"))
	if err != nil || len(files) < 150 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			err := loadConfigFile(t, file)
			var problems strict.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, expected problems with their places", err)
			}
			if err.Error() != problems.Error() {
				t.Errorf("there is more to the error than its problems: %v", err)
			}
			wellPut(t, problems)
			got := strings.ReplaceAll(err.Error(), configFolder, "testdata/config") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// wellPut wants of each problem that it has a place, stands in order and says something.
func wellPut(t *testing.T, problems strict.Problems) {
	t.Helper()
	for i, p := range problems {
		if p.Pos.Line == 0 || p.Pos.Col == 0 {
			t.Errorf("no place: %v", p)
		}
		if i > 0 && problems[i-1].Pos.Compare(p.Pos) > 0 {
			t.Errorf("%v stands after %v", p, problems[i-1])
		}
		if strings.ContainsAny(p.What, "\n\x00") || p.What == "" {
			t.Errorf("not one line of words: %q", p.What)
		}
	}
}

// A golden without its file would be believed to be tested.
func TestNoGoldenIsLeftOver(t *testing.T) {
	goldens, err := filepath.Glob(filepath.Join(configFolder, "bad", "*.want"))
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		if _, err := os.Stat(strings.TrimSuffix(golden, ".want") + ".yaml"); err != nil {
			t.Error(err)
		}
	}
}

func TestGoodConfigs(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(configFolder, "good", "*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			if err := loadConfigFile(t, file); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestConfigThatCannotBeRead(t *testing.T) {
	folder := t.TempDir()
	for _, dir := range []string{folder, filepath.Dir(folder)} { // nobody may look, but not read
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	closed := filepath.Join(folder, "closed.yaml")
	if err := os.WriteFile(closed, []byte("observe: true\n"), 0); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, path string
		want       error
	}{
		{name: "missing", path: filepath.Join(folder, "postern.yaml"), want: fs.ErrNotExist},
		{name: "no right to read", path: closed, want: fs.ErrPermission},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := asNobody(func() error {
				_, err := LoadConfig(c.path)
				return err
			})
			if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), c.path+": cannot read the configuration: ") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := LoadConfig(folder); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("of a folder: %v", err)
	}
}

// asNobody calls f on a thread that has no more rights to files than anybody: root may read everything. The thread ends
// with the goroutine that it is locked to.
func asNobody(f func() error) error {
	if os.Geteuid() != 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func parseConfig(t *testing.T, src string) *Config {
	t.Helper()
	cfg, err := ParseConfig("/etc/postern/postern.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

const minimalConfig = "hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: ':2525'}]\nupstream: [{address: smtp://192.0.2.25}]\n"

// What is not said keeps its default.
func TestDefaultsStay(t *testing.T) {
	got, want := parseConfig(t, minimalConfig+"limits: {per_ip: 3}\nfilters: {spf: {scores: {fail: 4}}}\n"), DefaultConfig()
	if got.Limits.PerIP != 3 || got.Limits.Connections != want.Limits.Connections || got.Limits.Session != 30*time.Minute {
		t.Errorf("limits are %+v", got.Limits)
	}
	scores := got.Filters.SPF.Own.Scores
	if scores["fail"] != 400 || scores["softfail"] != want.Filters.SPF.Own.Scores["softfail"] {
		t.Errorf("scores of SPF are %v", scores)
	}
	if DefaultConfig().Filters.SPF.Own.Scores["fail"] == 400 {
		t.Error("reading a configuration has changed the defaults")
	}
	if u := got.Upstream[0]; u.ClientInfo != "auto" {
		t.Errorf("upstream is %+v", u)
	}
	if l := got.Listen[0]; l.BareNewline != "reject" || l.ImplicitTLS || l.TLS != nil {
		t.Errorf("listener is %+v", l)
	}
	if d := cmp.Diff(want.Policy, got.Policy); d != "" {
		t.Error(d)
	}
}

// A domain's own policy replaces the thresholds that it names, and no other.
func TestPoliciesInherit(t *testing.T) {
	cfg := parseConfig(t, minimalConfig+"policy: {tag: 4, reject: 10}\npolicies:\n  example.org: {reject: 15}\n  example.com: {tag: 0}\n  example.net: {}\n")
	want := map[string]DomainPolicy{
		"example.org": {Thresholds: Thresholds{Tag: 4, Reject: 15}},
		"example.com": {Thresholds: Thresholds{Tag: 0, Reject: 10}}, // 0 is said, and means never
		"example.net": {Thresholds: Thresholds{Tag: 4, Reject: 10}},
	}
	if d := cmp.Diff(want, cfg.Policies); d != "" {
		t.Error(d)
	}
}

// Paths are relative to the folder of the configuration, whatever the working directory is.
func TestPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(configFolder)); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(filepath.Join(dir, "good", "full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good")
	for _, c := range []struct{ name, got, want string }{
		{"certificate", cfg.Listen[0].TLS[0].Cert, filepath.Join(dir, "tls", "mx.cert.pem")},
		{"store", cfg.Store.Path, filepath.Join(good, "state.db")},
		{"log", cfg.Log.Output, filepath.Join(good, "postern.log")},
		{"rule file", cfg.Path("rules/local.yaml"), filepath.Join(good, "rules", "local.yaml")},
		{"absolute", cfg.Path("/var/lib/postern"), "/var/lib/postern"},
		{"maildir", cfg.UpstreamAddress("maildir:quarantine"), "maildir:" + filepath.Join(good, "quarantine")},
		{"absolute maildir", cfg.UpstreamAddress("maildir:/var/mail"), "maildir:/var/mail"},
		{"server", cfg.UpstreamAddress("smtp://192.0.2.25"), "smtp://192.0.2.25"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, expected %s", c.name, c.got, c.want)
		}
	}
}

func TestStoreWithAPathIsAFile(t *testing.T) {
	if got := parseConfig(t, minimalConfig+"store: {path: /var/lib/postern/state.db}\n").Store.Kind; got != "bbolt" {
		t.Errorf("kind is %s", got)
	}
	if got := parseConfig(t, minimalConfig).Store.Kind; got != "memory" {
		t.Errorf("without a path kind is %s", got)
	}
}

func TestDomainsAccept(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "domains.txt")
	if err := os.WriteFile(list, []byte("# ours\nexample.org  # the first\n\nBücher.example\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const rest = "hostname: mx.example.org\nlisten: [{address: ':2525'}]\nupstream: [{address: smtp://192.0.2.25}]\n"
	cases := []struct {
		name, domains string
		yes, no       []string
	}{
		{
			name:    "list",
			domains: "[Example.org, bücher.example, xn--strae-oqa.example]",
			yes:     []string{"example.org", "EXAMPLE.ORG", "example.org.", "xn--bcher-kva.example", "BÜCHER.example", "straße.example"},
			no:      []string{"sub.example.org", "notexample.org", "example.org.evil.example", "", ".", "example.or"},
		},
		{
			name:    "file, with comments, empty lines and CR",
			domains: "{file: " + list + "}",
			yes:     []string{"example.org", "bücher.example"},
			no:      []string{"the", "first", "ours", "sub.example.org"},
		},
		{
			name:    "the upstream decides",
			domains: "upstream",
			yes:     []string{"example.org", "anything.example"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := parseConfig(t, rest+"domains: "+c.domains+"\n")
			for _, d := range c.yes {
				if !cfg.Domains.Accepts(d) {
					t.Errorf("%q is refused", d)
				}
			}
			for _, d := range c.no {
				if cfg.Domains.Accepts(d) {
					t.Errorf("%q is accepted", d)
				}
			}
		})
	}
}

// Without domains nothing but a Maildir may stand behind, as it can't relay: one server among the upstreams is enough
// for a refusal to start.
func TestNoDomainsOnlyBeforeAMaildir(t *testing.T) {
	const rest = "hostname: mx.example.org\nlisten: [{address: ':2525'}]\n"
	cfg := parseConfig(t, rest+"upstream: [{address: 'maildir:/var/mail'}]\n")
	if !cfg.Domains.Accepts("anything.example") {
		t.Error("a Maildir does not take all domains")
	}
	for _, upstreams := range []string{
		"upstream: [{address: 'maildir:/var/mail'}, {address: smtp://192.0.2.25}]\n",
		"upstream: [{address: 'maildir:/var/mail'}]\nroutes: [{domains: [example.org], upstream: [{address: smtp://192.0.2.25}]}]\n",
		"upstream: [{address: 'lmtp+unix:/run/lmtp'}]\n",
	} {
		_, err := ParseConfig("postern.yaml", []byte(rest+upstreams))
		if err == nil || !strings.Contains(err.Error(), "no domains") {
			t.Errorf("%s: got %v", upstreams, err)
		}
	}
}

// Listeners and upstreams on one port that do not meet.
func TestNoLoopAndNoOverlap(t *testing.T) {
	const head = "hostname: mx.example.org\ndomains: [example.org]\n"
	for _, c := range []struct{ why, listen, upstream string }{
		{"another port", ":2525", "smtp://127.0.0.1:25"},
		{"another address of the loopback net", "127.0.0.1:2525", "smtp://127.0.0.2:2525"},
		{"another family than the wildcard's", "0.0.0.0:2525", "smtp://[::1]:2525"},
		{"a machine that is not this one", ":2525", "smtp://192.0.2.25:2525"},
		{"a socket", ":2525", "lmtp+unix:/run/lmtp:2525"},
	} {
		if _, err := ParseConfig("f.yaml", []byte(head+"listen: [{address: '"+c.listen+"'}]\nupstream: [{address: '"+c.upstream+"'}]\n")); err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
	}
	for _, c := range []struct{ why, one, other string }{
		{"two families", "0.0.0.0:2525", "[::1]:2525"},
		{"two addresses", "127.0.0.1:2525", "127.0.0.2:2525"},
		{"two ports", ":2525", ":2526"},
		{"two free ports", "127.0.0.1:0", "127.0.0.1:0"},
	} {
		if _, err := ParseConfig("f.yaml", []byte(head+"upstream: [{address: smtp://192.0.2.25}]\nlisten: [{address: '"+c.one+"'}, {address: '"+c.other+"'}]\n")); err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func TestEmbeddedConfigServes(t *testing.T) {
	rt, err := NewRuntime(context.Background(), EmbeddedConfig(t.TempDir()), RuntimeOptions{Resolver: dns.Offline()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	if !rt.Config.Observe || rt.Config.Listen[0].Address != "127.0.0.1:2525" {
		t.Errorf("it would serve %+v, observe %v", rt.Config.Listen, rt.Config.Observe)
	}
}

func TestIsHostname(t *testing.T) {
	for name, want := range map[string]bool{
		"mx.example.org":                  true,
		"localhost":                       true,
		"MX-1.Example.ORG":                true,
		"1.example":                       true, // RFC 1123 section 2.1
		"":                                false,
		".":                               false,
		"mx.example.org.":                 false, // a final dot is no part of an EHLO name
		"mx..org":                         false,
		"-mx.example.org":                 false,
		"mx-.example.org":                 false,
		"mx_1.example.org":                false,
		"mx.exämple.org":                  false,
		"mx example":                      false,
		"mx.example.org\r\nX: y":          false,
		"[127.0.0.1]":                     false,
		strings.Repeat("a", 63) + ".org":  true,
		strings.Repeat("a", 64) + ".org":  false,
		strings.Repeat("a.", 127) + "a":   true,
		strings.Repeat("a.", 128) + "a":   false,
		strings.Repeat("abcdefg.", 40000): false,
	} {
		if got := IsHostname(name); got != want {
			t.Errorf("IsHostname(%.80q) = %v", name, got)
		}
	}
}

// Whatever stands in the file, reading ends with a configuration or with problems that have a place.
func FuzzParseConfig(f *testing.F) {
	for _, folder := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join(configFolder, folder, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		cfg, err := ParseConfig("f.yaml", src)
		if (cfg == nil) == (err == nil) {
			t.Fatalf("configuration %v, error %v: expected one of them", cfg, err)
		}
		var problems strict.Problems
		if err != nil && !errors.As(err, &problems) {
			t.Errorf("an error without a place: %v", err)
		}
	})
}

func BenchmarkParseConfig(b *testing.B) {
	src, err := os.ReadFile(filepath.Join(configFolder, "good", "full.yaml"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseConfig(filepath.Join(configFolder, "good", "full.yaml"), src); err != nil {
			b.Fatal(err)
		}
	}
}
