package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A limitRow is a row of the tables of docs/limits.md: limit, default, what the client hears, what the log says.
var limitRow = regexp.MustCompile("(?m)^\\| `(limits\\.[a-z_]+)` \\| (`.*?`) \\| (.*?) \\| (.*?) \\|$")

// The page has every limit of the configuration, with its default, and what it quotes of replies and log lines stands in the code.
func TestLimitsPage(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	source := sources(t, ".", "wire")
	seen := make(map[string]string)
	for _, row := range limitRow.FindAllStringSubmatch(string(text), -1) {
		seen[row[1]] = row[2]
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[3], -1) {
			wantReply(t, row[1], quoted[1], source)
		}
		for _, quoted := range regexp.MustCompile("(reason|by|event|limit)=(?:\"([^\"]+)\"|([a-z_.]+))").FindAllStringSubmatch(row[4], -1) {
			word := quoted[2] + quoted[3]
			// A reason may have its cause behind a colon.
			word, _, _ = strings.Cut(word, ": ")
			if !strings.Contains(source, `"`+word+`"`) && !strings.Contains(source, `"`+word+`: `) {
				t.Errorf("%s: the log never says %s", row[1], quoted[0])
			}
		}
	}
	for key, value := range documented(t) {
		if strings.HasPrefix(key, "limits.") && seen[key] != value {
			t.Errorf("%s has the default %s, docs/limits.md says %q", key, value, seen[key])
		}
		if strings.HasPrefix(key, "limits.") {
			delete(seen, key)
		}
	}
	for key := range seen {
		t.Errorf("docs/limits.md tells of %s, which there is not", key)
	}
}

// wantReply looks for the words of a reply in the code. Numbers and our name are put in there.
func wantReply(t *testing.T, key, reply, source string) {
	t.Helper()
	m := regexp.MustCompile(`^(\d{3}) (\d\.\d\.\d) (?:HOST )?(.*)$`).FindStringSubmatch(reply)
	if m == nil {
		t.Errorf("%s: %q is no reply", key, reply)
		return
	}
	words := strings.TrimSuffix(m[3], ", closing connection")
	for _, part := range regexp.MustCompile(`\d+`).Split(words, -1) {
		if part = strings.Trim(part, " "); !strings.Contains(source, part) {
			t.Errorf("%s: no reply has the words %q", key, part)
		}
	}
	if !strings.Contains(source, m[1]) || !strings.Contains(source, `"`+m[2]+`"`) {
		t.Errorf("%s: no reply has the codes %s %s", key, m[1], m[2])
	}
}

// sources is the text of the packages, without their tests.
func sources(t *testing.T, dirs ...string) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(src)
		}
	}
	return all.String()
}

// The sum on the page is the one of the code.
func TestLimitsPageSum(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Listen = []Listen{{Address: ":25"}}
	plain := cfg.MemoryBound() >> 20
	cfg.Listen[0].TLS = Certificates{{Cert: "cert.pem", Key: "key.pem"}}
	encrypted := cfg.MemoryBound() >> 20
	for _, want := range []string{
		fmt.Sprintf("%d MiB + connections × (%d KiB, with TLS %d KiB) + 2 × spool_memory_total", ownMemory>>20, connectionMemory>>10, (connectionMemory+tlsMemory)>>10),
		fmt.Sprintf("%d MiB with the defaults, %d MiB with TLS", plain, encrypted),
		fmt.Sprintf("%d + %d × connections", ownFiles, connectionFiles),
	} {
		if !strings.Contains(strings.ReplaceAll(string(text), "\n", " "), want) {
			t.Errorf("docs/limits.md does not say: %s", want)
		}
	}
}
