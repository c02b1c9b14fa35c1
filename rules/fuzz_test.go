package rules_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"postern/rules"
	"postern/rules/packs"
	"postern/rules/rulestest"
	"postern/rules/strict"
)

// Whatever stands in a rule file, reading it ends in rules that run or in problems that have a place and words.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
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
	_, blocks := examples(f)
	for _, b := range blocks {
		f.Add(b.Src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		set, err := rules.Load([]rules.Source{{Name: "f.yaml", Src: src}}, rules.Options{
			ReadFile: func(string) ([]byte, error) { return []byte("a.example 2 # x\n.b.example\n"), nil },
		})
		if err != nil {
			problems, ok := err.(strict.Problems)
			if !ok || len(problems) == 0 || set != nil {
				t.Fatalf("set %v, error %T %v", set, err, err)
			}
			for _, p := range problems {
				if p.Pos.File == "" || p.What == "" {
					t.Errorf("a problem without place or words: %+v", p)
				}
			}
			return
		}
		sameButDetail(t, set.Eval(t.Context(), subject()), set.EvalBrief(t.Context(), subject()))
		set.EvalRefusals(t.Context(), subject())
		set.RunTests(t.Context(), rulestest.Build)
	})
}

func loadDefaultPack(b *testing.B) *rules.Set {
	sources, err := packs.Open(packs.Default)
	if err != nil {
		b.Fatal(err)
	}
	set, err := rules.Load(sources, rules.Options{})
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// The shipped pack over ordinary mail; the message is read anew each time, as the answers are part of the cost.
func BenchmarkEval(b *testing.B) {
	set := loadDefaultPack(b)
	for _, name := range []string{"letter.eml", "newsletter.eml"} {
		mail, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			s := rulestest.New(mail)
			s.Asked = nil
			b.SetBytes(int64(len(s.Bodies["text"])))
			b.ReportAllocs()
			for b.Loop() {
				set.Eval(context.Background(), s)
			}
		})
	}
}

func BenchmarkLoadDefaultPack(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		loadDefaultPack(b)
	}
}
