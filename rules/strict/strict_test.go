package strict

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type inner struct {
	Name string        `yaml:"name"`
	Wait time.Duration `yaml:"wait"`
}

type shared struct {
	OnError string `yaml:"on_error"`
}

type level uint8

func (l *level) UnmarshalText(b []byte) error {
	switch string(b) {
	case "low":
		*l = 1
	case "high":
		*l = 2
	default:
		return fmt.Errorf("expected low or high, got %q", b)
	}
	return nil
}

// oneOrMany reads one word or a list of them.
type oneOrMany []string

func (o *oneOrMany) UnmarshalStrict(n *Node) Problems {
	if n.Kind() == Scalar {
		*o = oneOrMany{n.Text()}
		return nil
	}
	return n.Decode((*[]string)(o))
}

type config struct {
	Host    string                 `yaml:"host"`
	On      bool                   `yaml:"on"`
	Count   int                    `yaml:"count"`
	Small   uint8                  `yaml:"small"`
	Ratio   float64                `yaml:"ratio"`
	Wait    time.Duration          `yaml:"wait"`
	Max     Size                   `yaml:"max"`
	Nets    []netip.Prefix         `yaml:"nets"`
	Addr    netip.Addr             `yaml:"addr"`
	Names   []string               `yaml:"names"`
	Words   oneOrMany              `yaml:"words"`
	Level   level                  `yaml:"level"`
	Inner   inner                  `yaml:"inner"`
	Ptr     *inner                 `yaml:"ptr"`
	List    []inner                `yaml:"list"`
	Scores  map[string]float64     `yaml:"scores"`
	Codes   map[netip.Addr]float64 `yaml:"codes"`
	Filters map[string]inner       `yaml:"filters"`
	Raw     *Node                  `yaml:"raw"`
	At      Pos                    `yaml:",pos"`
	shared  `yaml:",inline"`
	Ignored string
}

func decode(t *testing.T, src string, into any) string {
	t.Helper()
	doc, err := Parse("f.yaml", []byte(src))
	if err != nil {
		return err.Error()
	}
	if err := doc.Decode(into).Err(); err != nil {
		return err.Error()
	}
	return ""
}

func TestDecodeValues(t *testing.T) {
	var c config
	const src = `
host: mx.example.org
on: true
count: -5
small: 255
ratio: 1.5
wait: 1d12h
max: 50MiB
nets: [10.0.0.0/8, 192.0.2.7, "2001:db8::1"]
addr: ::ffff:192.0.2.1
names: [yes, "no", 12, ~x]
words: one
level: high
inner: {name: a, wait: 0}
ptr: {name: b}
list:
  - {name: c}
  - name: d
scores: {fail: 3}
codes: {127.0.0.10: 3}
on_error: pass
`
	if msg := decode(t, src, &c); msg != "" {
		t.Fatal(msg)
	}
	want := config{
		Host: "mx.example.org", On: true, Count: -5, Small: 255, Ratio: 1.5, Wait: 36 * time.Hour, Max: 50 << 20,
		Nets:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::1/128")},
		Addr:   netip.MustParseAddr("192.0.2.1"),
		Names:  []string{"yes", "no", "12", "~x"},
		Words:  oneOrMany{"one"},
		Level:  2,
		Inner:  inner{Name: "a"},
		Ptr:    &inner{Name: "b"},
		List:   []inner{{Name: "c"}, {Name: "d"}},
		Scores: map[string]float64{"fail": 3},
		Codes:  map[netip.Addr]float64{netip.MustParseAddr("127.0.0.10"): 3},
		At:     Pos{File: "f.yaml", Line: 2, Col: 1},
		shared: shared{OnError: "pass"},
	}
	opts := []cmp.Option{cmp.AllowUnexported(config{}, shared{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(want, c, opts...); d != "" {
		t.Error(d)
	}
}

func TestDecodeKeepsDefaults(t *testing.T) {
	def := inner{Name: "default", Wait: time.Second}
	scores := map[string]float64{"fail": 3, "soft": 1}
	names := []string{"a", "b"}
	c := config{
		Host: "default.example", Inner: def, Ptr: &def, Names: names, Scores: scores,
		Filters: map[string]inner{"spf": {Name: "spf", Wait: time.Minute}},
	}
	msg := decode(t, "inner: {name: x}\nptr: {name: y}\nnames: [c]\nscores: {fail: 4}\nfilters: {spf: {name: z}, dkim: }\n", &c)
	if msg != "" {
		t.Fatal(msg)
	}
	check := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	check("an absent key keeps the default", c.Host, "default.example")
	check("a struct is merged", c.Inner, inner{Name: "x", Wait: time.Second})
	check("a pointer's struct is merged", *c.Ptr, inner{Name: "y", Wait: time.Second})
	check("a list replaces the default", c.Names, []string{"c"})
	check("a map is merged", c.Scores, map[string]float64{"fail": 4, "soft": 1})
	check("structs in a map are merged", c.Filters["spf"], inner{Name: "z", Wait: time.Minute})
	if _, ok := c.Filters["dkim"]; !ok {
		t.Error("an empty value of struct type says that it is there")
	}
	check("the default that a pointer showed to is untouched", def, inner{Name: "default", Wait: time.Second})
	check("the default map is untouched", scores, map[string]float64{"fail": 3, "soft": 1})
	check("the default list is untouched", names, []string{"a", "b"})
}

func TestProblems(t *testing.T) {
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'h'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 10), ", "))
	}
	chain := "a0: &a0 [[[[[[[[[[x]]]]]]]]]]\n"
	for i := 1; i < 12; i++ {
		chain += fmt.Sprintf("a%d: &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i, i-1)
	}
	tests := []struct{ why, src, want string }{
		{"a key that nobody knows, with the near one", "hots: x", `f.yaml:1:1: unknown key "hots" (did you mean "host"?)`},
		{"few known keys are all named", "inner: {nam: x}", `f.yaml:1:9: unknown key "nam", did you mean "name"? (known: name, wait)`},
		{"all problems at once, in order", "count: x\nhots: y\nwait: soon", `f.yaml:1:8: expected a whole number, got "x"
f.yaml:2:1: unknown key "hots" (did you mean "host"?)
f.yaml:3:7: expected a duration like 30s, 5m or 7d, got "soon"`},
		{"duplicate key", "host: a\non: true\nhost: b", `f.yaml:3:1: duplicate key "host", first at line 1`},
		{"duplicate key in a map", "scores: {a: 1, a: 2}", `f.yaml:1:16: duplicate key "a", first at line 1`},
		{"YAML 1.1 booleans are not", "on: yes", `f.yaml:1:5: expected true or false, got "yes"`},
		{"a quoted boolean is a string", `on: "true"`, `f.yaml:1:5: expected true or false, got the string "true"`},
		{"a quoted number is a string", `count: "5"`, `f.yaml:1:8: expected a whole number, got the string "5"`},
		{"no octal, no hexadecimal", "count: 0x10", `f.yaml:1:8: expected a whole number, got "0x10"`},
		{"out of range", "small: 256", `f.yaml:1:8: expected a whole number from 0 to 255, got 256`},
		{"negative for unsigned", "small: -1", `f.yaml:1:8: expected a whole number from 0 to 255, got -1`},
		{"beyond any integer", "count: 99999999999999999999", `f.yaml:1:8: expected a whole number from -9223372036854775808 to 9223372036854775807, got 99999999999999999999`},
		{"no infinity", "ratio: .inf", `f.yaml:1:8: expected a number, got ".inf"`},
		{"duration without unit", "wait: 30", `f.yaml:1:7: expected a duration like 30s, 5m or 7d, got "30"`},
		{"negative duration", "wait: -3s", `f.yaml:1:7: expected a duration like 30s, 5m or 7d, got "-3s"`},
		{"decimal size unit", "max: 5MB", `f.yaml:1:6: expected a size like 1024, 100KiB or 50MiB, got "5MB"`},
		{"size that overflows", "max: 9999999999TiB", `f.yaml:1:6: expected a size like 1024, 100KiB or 50MiB, got "9999999999TiB"`},
		{"no size at all", "max: KiB", `f.yaml:1:6: expected a size like 1024, 100KiB or 50MiB, got "KiB"`},
		{"host bits in a network", "nets: [10.0.0.1/8]", `f.yaml:1:8: the network 10.0.0.1/8 has bits beyond its prefix, expected 10.0.0.0/8`},
		{"no network", "nets: [example.org]", `f.yaml:1:8: expected a network like 192.0.2.0/24, 2001:db8::/32 or one address, got "example.org"`},
		{"no address", "addr: 300.1.1.1", `f.yaml:1:7: expected an IP address, got "300.1.1.1"`},
		{"a bad map key", "codes: {nope: 1}", `f.yaml:1:9: expected an IP address, got "nope"`},
		{"a value for a list", "names: a", `f.yaml:1:8: expected a list, got "a" (write ["a"])`},
		{"nothing for a list", "names:", `f.yaml:1:7: expected a list, got nothing (write [] for an empty one)`},
		{"nothing for a string", "host:", `f.yaml:1:6: expected a string, got nothing`},
		{"a list for a mapping", "inner: [a]", `f.yaml:1:8: expected a mapping with the keys name, wait, got a list`},
		{"a mapping for a string", "host: {a: b}", `f.yaml:1:7: expected a string, got a mapping`},
		{"a value for a map", "scores: 3", `f.yaml:1:9: expected a mapping, got "3"`},
		{"nothing for a map", "scores: ~", `f.yaml:1:9: expected a mapping, got nothing (write {} for an empty one)`},
		{"an own type's own words", "level: mid", `f.yaml:1:8: expected low or high, got "mid"`},
		{"an own type of the wrong kind", "level: [low]", `f.yaml:1:8: expected a whole number, got a list`},
		{"an own reader passes problems on", "words: {a: b}", `f.yaml:1:8: expected a list, got a mapping`},
		{"inlined keys are known", "on_eror: x", `f.yaml:1:1: unknown key "on_eror" (did you mean "on_error"?)`},
		{"two documents", "host: a\n---\nhost: b", `f.yaml:2:1: a second YAML document, expected one document in the file`},
		{"merge key", "inner: &a {name: x}\nptr: {<<: *a}", `f.yaml:2:7: the merge key <<, expected the keys themselves`},
		{"tag", "host: !!str x", `f.yaml:1:7: the tag !!str, expected none: types follow from the keys`},
		{"a key that is a list", "? [a]\n: b", `f.yaml:1:3: a key that is a list, expected a plain word`},
		{"tab", "inner:\n\tname: x", `f.yaml:2:1: not YAML: a tab, expected spaces`},
		{"an escape that YAML does not know", "host: \"a\\db\"", `f.yaml:1:9: not YAML: double quotes do not know the escape \d, use single quotes`},
		{"wrong indentation, found on its line", "list:\n  - name: a\n  - name: b\n   wait: 1s\nhost: x", `f.yaml:4:4: not YAML: did not find expected '-' indicator`},
		{"a bracket left open", "names: [a, b\nhost: x\non: true", `f.yaml:1:1: not YAML: did not find expected ',' or ']'`},
		{"open quote", "host: 'a", `f.yaml:1:1: not YAML: found unexpected end of stream`},
		{"not UTF-8", "host: a\nhost: \xff", `f.yaml:2:7: not UTF-8 text`},
		{"too deep", deep, "f.yaml:1:101: nested deeper than 100 levels"},
		{"a bomb of aliases", bomb, "f.yaml:6:4: more than 1048576 values, aliases expanded"},
		{"depth through aliases", chain, "f.yaml:10:19: nested deeper than 100 levels, aliases expanded"},
		{"an alias within itself", "a: &a [*a]", `f.yaml:1:8: the alias *a stands within what it names`},
		{"unknown alias", "a: *b", `f.yaml:1:1: not YAML: unknown anchor 'b' referenced`},
		{"no mapping at all", "just text", `f.yaml:1:1: expected a mapping with the keys addr, codes, count, filters, host, inner, level, list, max, names, nets, on, on_error, ptr, ratio, raw, scores, small, wait, words, got "just text"`},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			var c config
			if d := cmp.Diff(tt.want, decode(t, tt.src, &c)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	_, err := Parse("f.yaml", make([]byte, MaxSize+1))
	if want := "f.yaml: the file has 8388609 bytes, expected at most 8388608"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEmptyFileChangesNothing(t *testing.T) {
	for _, src := range []string{"", "\n", "# only a comment\n", "---\n", "~"} {
		c := config{Host: "default"}
		if msg := decode(t, src, &c); msg != "" || c.Host != "default" {
			t.Errorf("%q: %q, host %q", src, msg, c.Host)
		}
	}
}

func TestAliasesAreFollowed(t *testing.T) {
	var c config
	if msg := decode(t, "inner: &x {name: a}\nptr: *x\nlist: [*x, *x]", &c); msg != "" {
		t.Fatal(msg)
	}
	if c.Ptr.Name != "a" || len(c.List) != 2 || c.List[1].Name != "a" {
		t.Errorf("got %+v %+v", c.Ptr, c.List)
	}
}

func TestDocPos(t *testing.T) {
	doc, err := Parse("f.yaml", []byte("upstream:\n  - address: a\n  - address: b\nx: &x {y: 1}\nz: *x\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path []any
		want string
	}{
		{nil, "f.yaml:1:1"},
		{[]any{"upstream", 1, "address"}, "f.yaml:3:14"},
		{[]any{"upstream", 1, "tls", "cert"}, "f.yaml:3:5"}, // the parent that exists
		{[]any{"upstream", 7}, "f.yaml:2:3"},
		{[]any{"upstream", -1}, "f.yaml:2:3"},
		{[]any{"nothing"}, "f.yaml:1:1"},
		{[]any{"z", "y"}, "f.yaml:4:11"}, // through an alias to where the value stands
	}
	for _, tt := range tests {
		if got := doc.Pos(tt.path...).String(); got != tt.want {
			t.Errorf("Pos(%v) = %s, want %s", tt.path, got, tt.want)
		}
	}
}

func TestEatenEscape(t *testing.T) {
	tests := []struct{ src, want string }{
		{`"\bwire"`, `\b`},
		{`"wire\b"`, `\b`},
		{`'\bwire'`, ""},  // single quotes keep it
		{`"\\bwire"`, ""}, // an escaped backslash
		{`"a\tb\n"`, ""},  // the same to both
		{`"\_x"`, `\_`},   // a no-break space
		{`plain\b`, ""},
		{"\"first\n  second\\e\"", `\e`}, // on a later line
		{`"done" # \b`, ""},              // behind the closing quote
		{`"a\"b\b"`, `\b`},
	}
	for _, tt := range tests {
		var c struct {
			V *Node `yaml:"ключ"`
		}
		doc, err := Parse("f.yaml", []byte("ключ: "+tt.src))
		if err != nil {
			t.Fatal(err)
		}
		doc.Decode(&c)
		if got := c.V.EatenEscape(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.src, got, tt.want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"freemail", "shorteners", "own", "rcpt_domain"}
	tests := []struct{ got, want string }{
		{"freemial", "freemail"}, // two letters swapped
		{"FREEMAIL", "freemail"},
		{"shortener", "shorteners"},
		{"onw", "own"},
		{"rcptdomain", "rcpt_domain"},
		{"banks", ""}, // nothing near
		{"", ""},
		{strings.Repeat("x", 1000), ""},
	}
	for _, tt := range tests {
		if got := Suggest(tt.got, known); got != tt.want {
			t.Errorf("Suggest(%q) = %q, want %q", tt.got, got, tt.want)
		}
	}
}

func TestSizeString(t *testing.T) {
	for s, want := range map[Size]string{0: "0", 1023: "1023", 1024: "1KiB", 50 << 20: "50MiB", 1<<30 + 1<<20: "1025MiB"} {
		if got := s.String(); got != want {
			t.Errorf("Size(%d).String() = %s, want %s", int64(s), got, want)
		}
		if back, err := ParseSize(want); err != nil || back != s {
			t.Errorf("ParseSize(%s) = %d, %v", want, back, err)
		}
	}
}

func TestKeys(t *testing.T) {
	got := Keys(&struct {
		A      string `yaml:"a"`
		shared `yaml:",inline"`
		At     Pos `yaml:",pos"`
	}{})
	if d := cmp.Diff([]string{"a", "on_error"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzDecode(f *testing.F) {
	for _, src := range []string{
		"host: a\ncount: 5\nnets: [10.0.0.0/8]\n", "inner: &a {name: x}\nptr: *a\n", "a: \"\\b\"", "? [a]\n: b", "- a\n- b",
		"host: |\n  text\n  more\n", "x: !!binary aGk=\n<<: {a: b}\n", "a: &a [*a]", "\t", "\"", "%YAML 1.1\n---\na", "wait: 1d2h\nmax: 1GiB\ncodes: {127.0.0.2: 1}\n", "- - - -", "{{{{", "a: b: c",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		doc, err := Parse("f.yaml", src)
		if (doc == nil) == (err == nil) {
			t.Fatalf("doc %v, error %v: expected one of them", doc, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		var c config
		for _, p := range doc.Decode(&c) {
			if p.Pos.File != "f.yaml" || p.Pos.Line < 1 || p.What == "" {
				t.Errorf("problem without place or words: %+v", p)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var src strings.Builder
	src.WriteString("list:\n")
	for range 1000 {
		src.WriteString("  - {name: example, wait: 30s}\n")
	}
	text := []byte(src.String())
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		doc, err := Parse("f.yaml", text)
		if err != nil {
			b.Fatal(err)
		}
		var c config
		if p := doc.Decode(&c); p != nil {
			b.Fatal(p)
		}
	}
}
