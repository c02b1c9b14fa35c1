package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern/filters"
	"postern/filters/dns"
	"postern/filters/message"
	"postern/rules/strict"
)

const configPage = "../docs/configuration.md"

// A docRow is a row of the page's tables: a key, its default and its meaning.
var docRow = regexp.MustCompile("(?m)^\\| `([a-zA-Z_.]+)` \\| (.*?) \\| (.*?) ?\\|$")

// documented gives the default that the page states for each key.
func documented(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]string)
	for _, row := range docRow.FindAllStringSubmatch(string(page), -1) {
		if _, twice := keys[row[1]]; twice {
			t.Errorf("%s is documented twice", row[1])
		}
		keys[row[1]] = row[2]
	}
	return keys
}

// A keyWalker gathers the keys of the configuration with their defaults, as the page writes them.
type keyWalker struct{ keys map[string]string }

func (w keyWalker) walk(path string, v reflect.Value) {
	switch x := v.Interface().(type) {
	case Domains:
		w.keys[path], w.keys[path+".file"] = "required", "none"
		return
	case Certificates:
		w.walk(path, reflect.ValueOf(Certificate{}))
		return
	case filters.RuleOverrides:
		w.keys[path] = "`{}`"
		return
	case filters.Scores:
		w.keys[path] = scoresText(x)
		return
	case netip.Prefix, time.Duration, strict.Size, filters.OnError, filters.ClassifierScores:
		w.keys[path] = valueText(v)
		return
	}
	switch {
	case path == "routes.upstream":
		w.keys[path] = "required"
	case v.Kind() == reflect.Struct:
		w.fields(path, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != reflect.TypeFor[netip.Prefix]():
		w.walk(path, v.Index(0))
	case v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.Struct:
		w.walk(path+".DOMAIN", v.MapIndex(v.MapKeys()[0]))
	default:
		w.keys[path] = valueText(v)
	}
}

func (w keyWalker) fields(path string, v reflect.Value) {
	for i := range v.NumField() {
		name, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			w.fields(path, v.Field(i))
		case name == "" || name == "-":
		case path == "":
			w.walk(name, v.Field(i))
		default:
			w.walk(path+"."+name, v.Field(i))
		}
	}
}

func valueText(v reflect.Value) string {
	text := ""
	switch x := v.Interface().(type) {
	case time.Duration:
		text = x.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(text, zero) {
				text = text[:len(text)-2]
			}
		}
	case filters.OnError:
		text = []string{"pass", "tag", "defer"}[x]
	case string:
		text = x
	case filters.ClassifierScores:
		text = x.String()
	default:
		switch v.Kind() {
		case reflect.Slice:
			words := make([]string, v.Len())
			for i := range words {
				words[i] = fmt.Sprint(v.Index(i).Interface())
			}
			text = "[" + strings.Join(words, ", ") + "]"
		case reflect.Map:
			text = "{}"
		default:
			text = fmt.Sprint(x)
		}
	}
	if text == "" {
		return "none"
	}
	return "`" + text + "`"
}

func scoresText(scores filters.Scores) string {
	words := make([]string, 0, len(scores))
	same := true
	for _, name := range slices.Sorted(maps.Keys(scores)) {
		words = append(words, name+": "+scores[name].String())
		same = same && scores[name] == 0
	}
	if same {
		return "`0` each"
	}
	return "`{" + strings.Join(words, ", ") + "}`"
}

// oneOfEach is a configuration with one entry in each list, that says nothing of what it need not say.
const oneOfEach = "domains: [example.org]\nlisten: [{address: ':2525'}]\nupstream: [{address: smtp://192.0.2.25}]\n" +
	"routes: [{domains: [example.org], upstream: [{address: smtp://192.0.2.26}]}]\npolicies: {example.org: {}}\n" +
	"filters: {dnsbl: {lists: [{zone: dnsbl.example}]}}\nhostname: mx.example.org\n"

// The page names every key of the code and no other, with the default that the code has.
func TestConfigurationPageNamesEveryKey(t *testing.T) {
	cfg, err := ParseConfig("f.yaml", []byte(oneOfEach))
	if err != nil {
		t.Fatal(err)
	}
	w := keyWalker{keys: make(map[string]string)}
	w.fields("", reflect.ValueOf(*cfg))
	w.keys["hostname"] = "the machine's"
	for _, path := range []string{"listen.address", "upstream.address", "routes.domains", "filters.dnsbl.lists.zone"} {
		w.keys[path] = "required"
	}
	for _, threshold := range []string{"tag", "quarantine", "reject"} {
		w.keys["policies.DOMAIN."+threshold] = "as `policy`"
	}
	if len(w.keys) < 80 {
		t.Fatalf("only %d keys are found", len(w.keys))
	}
	if d := cmp.Diff(w.keys, documented(t)); d != "" {
		t.Errorf("the code (-) and the page (+) differ:\n%s", d)
	}
}

// The page names every kind of defect, in the words of the reader of messages.
func TestConfigurationPageNamesEveryDefect(t *testing.T) {
	page, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `defects\\.([a-z0-9_]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		got[row[1]] = row[2]
	}
	if d := cmp.Diff(message.DefectKinds(), got); d != "" {
		t.Error(d)
	}
}

// Each example of the page is read, laid over the least configuration that serves, and can serve.
func TestConfigurationPageExamples(t *testing.T) {
	page, err := os.ReadFile(configPage)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(configFolder, "good"))); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"mx.cert.pem": "cert.pem", "mx.key.pem": "key.pem", "other.cert.pem": "other.cert.pem", "other.key.pem": "other.key.pem"} {
		pem, err := os.ReadFile(filepath.Join(configFolder, "tls", from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(examples) < 10 {
		t.Fatalf("only %d examples are found", len(examples))
	}
	for i, example := range examples {
		t.Run(strconv.Itoa(i+1), func(t *testing.T) {
			text := example[1]
			for line := range strings.Lines(minimalConfig) {
				if key, _, _ := strings.Cut(line, ":"); !regexp.MustCompile("(?m)^" + key + ":").MatchString(text) {
					text += line
				}
			}
			cfg, err := ParseConfig(filepath.Join(dir, "postern.yaml"), []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			rt, err := NewRuntime(t.Context(), cfg, RuntimeOptions{Resolver: dns.Offline()})
			if err != nil {
				t.Fatal(err)
			}
			rt.Close()
		})
	}
}

// full.yaml has every key, so that none is accepted only in theory.
func TestFullConfigurationIsComplete(t *testing.T) {
	path := filepath.Join(configFolder, "good", "full.yaml")
	cfg, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	for key := range documented(t) {
		steps := strings.Split(key, ".")
		if !stands(cfg.doc.Root(), steps) {
			t.Errorf("%s does not stand in %s", key, path)
		}
	}
}

// stands reports whether a key is given: in a list by any of its entries.
func stands(n *strict.Node, path []string) bool {
	if n == nil || len(path) == 0 {
		return n != nil
	}
	switch n.Kind() {
	case strict.Sequence:
		return slices.ContainsFunc(n.Items(), func(item *strict.Node) bool { return stands(item, path) })
	case strict.Mapping:
		if path[0] == "DOMAIN" {
			return slices.ContainsFunc(n.Pairs(), func(p strict.Pair) bool { return stands(p.Value, path[1:]) })
		}
		return stands(n.Get(path[0]), path[1:])
	}
	return false
}
