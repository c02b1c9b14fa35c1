package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"postern/cmd/postern/samples"
	"postern/proxy"
)

// schemaFiles are the schemas that are kept for editors, by the kind of file.
var schemaFiles = map[string]string{"config": "postern.schema.json", "rules": "rules.schema.json", "samples": "samples.schema.json"}

func schemaFile(kind string) string {
	return filepath.Join("..", "..", "docs", "schema", schemaFiles[kind])
}

// madeSchema is a schema as the code makes it. That of the samples nobody needs who has no source: the command does not print it.
func madeSchema(t *testing.T, kind string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if kind == "samples" {
		if err := encodeJSON(&stdout, samples.Schema()); err != nil {
			t.Fatal(err)
		}
		return stdout.String()
	}
	if code := run(t.Context(), []string{"schema", kind}, strings.NewReader(""), &stdout, &stderr); code != exitFine {
		t.Fatalf("%d: %s", code, stderr.String())
	}
	return stdout.String()
}

// The schemas that are kept are those that the code makes.
func TestSchemaFiles(t *testing.T) {
	for kind := range schemaFiles {
		made := madeSchema(t, kind)
		if *update {
			if err := os.WriteFile(schemaFile(kind), []byte(made), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(schemaFile(kind))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(made, string(kept)); d != "" {
			t.Errorf("%s: the code (-) and the file (+) differ:\n%s", kind, d)
		}
	}
}

func compiledSchema(t *testing.T, kind string) *jsonschema.Schema {
	t.Helper()
	src, err := os.ReadFile(schemaFile(kind))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is what an editor's language server makes of a YAML file.
func asJSON(src []byte) (any, error) {
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		return nil, err
	}
	text, err := json.Marshal(textKeys(v))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(text))
}

// textKeys makes all keys texts, which they are in JSON.
func textKeys(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			x[k] = textKeys(e)
		}
	case map[any]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[fmt.Sprint(k)] = textKeys(e)
		}
		return m
	case []any:
		for i := range x {
			x[i] = textKeys(x[i])
		}
	}
	return v
}

func globbed(t *testing.T, patterns ...string) []string {
	t.Helper()
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(p)))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", p, found, err)
		}
		files = append(files, found...)
	}
	return files
}

// shipped lists Postern's own YAML files by kind. Files that are wrong on purpose are not among them.
func shipped(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch base := filepath.Base(path); {
		case err != nil:
			return err
		case d.IsDir() && (base == "bad" || base == ".git"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(base) != ".yaml": // .yml are files of other programs
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		kind := "rules"
		switch {
		case proxy.IsConfig(src):
			kind = "config"
		case filepath.Base(filepath.Dir(path)) == "samples":
			kind = "samples"
		}
		files[kind] = append(files[kind], path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind := range schemaFiles {
		if len(files[kind]) == 0 {
			t.Fatalf("no file of the kind %s: %v", kind, files)
		}
	}
	return files
}

// An editor marks nothing in a file that is right: those that ship, those of the tests, the examples of the manual.
func TestSchemaAcceptsWhatIsRight(t *testing.T) {
	accepts := func(kind, name string, src []byte) {
		t.Helper()
		doc, err := asJSON(src)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := compiledSchema(t, kind).Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for kind, files := range shipped(t) {
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			accepts(kind, file, src)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "rules.md"))
	if err != nil {
		t.Fatal(err)
	}
	for i, example := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1) {
		accepts("rules", fmt.Sprintf("rules.md, example %d", i+1), example[1])
	}
}

// An editor marks what a schema can say of what is wrong; the files of which it does are listed. It can't know what names stand
// for nothing, what numbers contradict each other and what files are not there.
func TestSchemaRefusesWhatIsWrong(t *testing.T) {
	for kind, folder := range map[string]string{"config": "testdata/config/bad", "rules": "rules/testdata/bad"} {
		schema := compiledSchema(t, kind)
		golden := filepath.Join("testdata", "schema-"+kind+"-refuses.txt")
		if *update {
			var refused []string
			for _, file := range globbed(t, folder+"/*.yaml") {
				if marked(t, schema, file) {
					refused = append(refused, filepath.Base(file))
				}
			}
			if err := os.WriteFile(golden, []byte(strings.Join(refused, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		list, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(strings.Fields(string(list))); n < 40 {
			t.Errorf("%s: only %d kinds of mistakes", kind, n)
		}
		for name := range strings.FieldsSeq(string(list)) {
			if !marked(t, schema, filepath.Join("..", "..", filepath.FromSlash(folder), name)) {
				t.Errorf("%s: the mistake in %s is not seen", kind, name)
			}
		}
	}
}

// marked reports whether an editor marks anything in a file.
func marked(t *testing.T, schema *jsonschema.Schema, file string) bool {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := asJSON(src)
	return err != nil || schema.Validate(doc) != nil
}

// Each YAML file that ships names the schema by which an editor checks it.
func TestShippedFilesNameTheirSchema(t *testing.T) {
	const key = "# yaml-language-server: $schema="
	for kind, files := range shipped(t) {
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			line, _, _ := strings.Cut(string(src), "\n")
			named, ok := strings.CutPrefix(line, key)
			if !ok {
				t.Errorf("%s begins with %q, expected %s…", file, line, key)
				continue
			}
			if filepath.Join(filepath.Dir(file), filepath.FromSlash(named)) != schemaFile(kind) {
				t.Errorf("%s names %s, which is not %s", file, named, schemaFile(kind))
			}
		}
	}
}
