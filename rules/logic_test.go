package rules_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"postern/rules"
	"postern/rules/rulestest"
)

// A formula is a condition of symbols, with its own plain evaluation to compare with.
type formula struct {
	yaml string
	eval func(symbols []rules.Truth) rules.Truth
}

const symbols = 4

func drawFormula(t *rapid.T, depth int) formula {
	kind := rapid.IntRange(0, 4).Draw(t, "kind")
	if depth == 0 {
		kind = 0
	}
	if kind == 0 {
		i := rapid.IntRange(0, symbols-1).Draw(t, "symbol")
		// Sources of different costs, so that the order of asking differs from that of writing.
		if i%2 == 0 {
			return formula{yaml: fmt.Sprintf("{symbol: s%d}", i), eval: func(s []rules.Truth) rules.Truth { return s[i] }}
		}
		return formula{yaml: fmt.Sprintf("{header: S%d, contains: x}", i), eval: func(s []rules.Truth) rules.Truth { return s[i] }}
	}
	n := rapid.IntRange(1, 4).Draw(t, "n")
	if kind == 1 {
		n = 1
	}
	var args []formula
	var written []string
	for range n {
		f := drawFormula(t, depth-1)
		args = append(args, f)
		written = append(written, f.yaml)
	}
	count := func(s []rules.Truth) (yes, unknown int) {
		for _, a := range args {
			switch a.eval(s) {
			case rules.True:
				yes++
			case rules.Unknown:
				unknown++
			}
		}
		return yes, unknown
	}
	atLeast := func(k int) func(s []rules.Truth) rules.Truth {
		return func(s []rules.Truth) rules.Truth {
			yes, unknown := count(s)
			switch {
			case yes >= k:
				return rules.True
			case yes+unknown >= k:
				return rules.Unknown
			}
			return rules.False
		}
	}
	list := "[" + strings.Join(written, ", ") + "]"
	switch kind {
	case 1:
		return formula{yaml: "{not: " + written[0] + "}", eval: func(s []rules.Truth) rules.Truth {
			return [...]rules.Truth{rules.False: rules.True, rules.True: rules.False, rules.Unknown: rules.Unknown}[args[0].eval(s)]
		}}
	case 2:
		return formula{yaml: "{all: " + list + "}", eval: atLeast(n)}
	case 3:
		return formula{yaml: "{any: " + list + "}", eval: atLeast(1)}
	}
	k := rapid.IntRange(1, n).Draw(t, "k")
	return formula{yaml: fmt.Sprintf("{at_least: %d, of: %s}", k, list), eval: atLeast(k)}
}

// oddFields answers header fields by what the symbols of that number are.
type oddFields struct {
	*rulestest.Subject
	truths []rules.Truth
}

func (o oddFields) Header(name, _ string) rules.Answer {
	switch o.truths[name[1]-'0'] {
	case rules.True:
		return rules.Answer{Values: []string{"x"}}
	case rules.Unknown:
		return rules.Answer{Unknown: true}
	}
	return rules.Answer{}
}

func subjectOf(truths []rules.Truth) rules.Subject {
	s := rulestest.New(nil)
	for i, v := range truths {
		s.Found[fmt.Sprintf("s%d", i)] = rulestest.Count{N: int(v) % 2, Unknown: v == rules.Unknown}
	}
	return oddFields{Subject: s, truths: truths}
}

// Short circuits, the order of asking and the sharing of answers never change what a condition says. And what is said
// in spite of unknowns stays true whatever they turn out to be.
func TestLogicIsKleenes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFormula(t, 3)
		set, err := rules.Load([]rules.Source{{Name: "f.yaml", Src: []byte("rules: [{id: RULE, score: 1, when: " + f.yaml + "}]")}}, rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		truths := make([]rules.Truth, symbols)
		for i := range truths {
			truths[i] = rules.Truth(rapid.IntRange(0, 2).Draw(t, "truth"))
		}
		got := truthOf(set.Eval(t.Context(), subjectOf(truths)))
		if want := f.eval(truths); got != want {
			t.Fatalf("%s of %v: got %v, want %v", f.yaml, truths, got, want)
		}
		if got == rules.Unknown {
			return
		}
		for i, v := range truths {
			if v == rules.Unknown {
				truths[i] = rules.Truth(rapid.IntRange(0, 1).Draw(t, "known"))
			}
		}
		if later := truthOf(set.Eval(t.Context(), subjectOf(truths))); later != got {
			t.Fatalf("%s said %v while something was unknown, and %v once it was known", f.yaml, got, later)
		}
	})
}

// A set serves any number of messages at once.
func TestSetIsShared(t *testing.T) {
	set := compile(t, lists+`
rules:
  - {id: VIEW, score: 1, when: {body: text, view: skeleton, matches: 'viagra'}}
  - {id: LINK, score: 1, when: {uri: {host: {in: shorteners}}}}
  - {id: NAMED, score: 1, when: {all: [{is: free_reply}, {symbol: LINK}]}}
`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if n := len(set.Eval(t.Context(), subject()).Hits); n != 3 {
					t.Errorf("%d hits, want 3", n)
				}
			}
		})
	}
	wg.Wait()
}
