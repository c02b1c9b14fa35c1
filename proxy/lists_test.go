package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/proxy/peertest"
)

// listRules refuse what a list names.
const listRules = `
lists: {unwanted: {file: unwanted.txt}}
rules:
  - {id: UNWANTED, action: reject, when: {header: From, part: domain, in: unwanted}}
  - {id: OTHER, score: 1, when: {header: Subject, equals: other}}
`

// A list's file is followed without a reload, a broken one is logged and changes nothing, and a reload tells what is
// different.
func TestListsFollowTheirFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stamp := time.Unix(1_700_000_000, 0)
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		stamp = stamp.Add(time.Second)
		if err := os.Chtimes(path, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := write("unwanted.txt", "one.example\n")
	file := write("rules.yaml", listRules)
	sink := peertest.StartSink(t, peertest.Sink{})
	config := fmt.Sprintf(baseConfig, testZone(t), "", "smtp://"+sink.Addr)
	p := startTestProxy(t, config, func(cfg *Config) {
		cfg.Filters.Content.Own.Packs = nil
		cfg.Filters.Content.Own.Rules = []string{file}
	})
	client := hello(t, p.addr)
	send := func(domain string, want int) {
		t.Helper()
		if code, text := client.Deliver("carol@plain.example", []string{"alice@example.org"}, "From: a@"+domain+"\r\n\r\ntext\r\n"); code != want {
			t.Errorf("%s: %d %s, want %d", domain, code, text, want)
		}
	}
	look := func() { p.server.refreshLists(); p.server.refreshLists() }
	send("one.example", 550)
	send("two.example", 250)

	write("unwanted.txt", "two.example\nthree.example\n")
	look()
	send("one.example", 250)
	send("two.example", 550)
	if lines := p.events("list_read"); len(lines) != 1 || !strings.Contains(lines[0], "list=unwanted file="+list+" entries=2 before=1") {
		t.Errorf("%v", lines)
	}

	write("unwanted.txt", "one.example\n.\n")
	look()
	send("one.example", 250)
	send("two.example", 550)
	if lines := p.events("list_not_read"); len(lines) != 1 || !strings.Contains(lines[0], "unwanted.txt:2:1: the list entry") {
		t.Errorf("%v", lines)
	}

	write("unwanted.txt", "one.example\n")
	write("rules.yaml", strings.Replace(strings.Replace(listRules, "score: 1", "score: 2.5", 1), "id: UNWANTED", "id: NOT_WANTED", 1))
	cfg, err := ParseConfig(filepath.Join(dir, "postern.yaml"), []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Filters.Content.Own.Packs, cfg.Filters.Content.Own.Rules = nil, []string{file}
	rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Reload(t.Context(), rt); err != nil {
		t.Fatal(err)
	}
	send("one.example", 550)
	client.Want("QUIT", 221)
	want := `rules=2 rules_added=NOT_WANTED rules_removed=UNWANTED rules_rescored="OTHER (2.5, was 1)" lists="unwanted (1, was 2)"`
	if lines := p.events("reloaded"); len(lines) != 1 || !strings.Contains(lines[0], want) {
		t.Errorf("%v, want %s", lines, want)
	}
}
