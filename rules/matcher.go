package rules

import (
	"slices"
	"strings"

	"postern/rules/match"
)

// A matcher answers for all expressions and words that rules look for in one source, seen through one view: each value
// is read once for all of them, when the first is asked.
type matcher struct {
	builder match.Builder // empty once the set is built: it holds the trees of all expressions
	set     *match.Set
}

// build makes the matcher ready, after the last rule.
func (m *matcher) build() {
	m.set = m.builder.Build()
	m.builder = match.Builder{}
}

// words adds words and returns their number.
func (m *matcher) words(words []string, at match.Place, exact bool) int {
	return m.builder.Words(words, at, exact)
}

// matcher returns that of a source.
func (c *compiler) matcher(src source) *matcher {
	return c.set.sources[src.scope][c.source(src)].matcher
}

// matchesPred asks whether one of several expressions matches.
type matchesPred struct {
	matcher  *matcher
	patterns []pattern
	numbers  []int // of the patterns in the matcher
}

func newMatches(m *matcher, patterns []pattern) *matchesPred {
	p := &matchesPred{matcher: m, patterns: patterns}
	for _, pattern := range patterns {
		n, err := m.builder.Regexp(pattern.expr)
		if err != nil {
			panic("rules: an expression that compiled does not: " + err.Error())
		}
		p.numbers = append(p.numbers, n)
	}
	return p
}

func (p *matchesPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	scan := s.scan(p.matcher, i)
	for _, n := range p.numbers {
		if scan.Matched(n) {
			return True
		}
	}
	return False
}

func (p *matchesPred) find(_ *state, s *valueSet, i int) found {
	scan := s.scan(p.matcher, i)
	for k, n := range p.numbers {
		if loc := scan.Find(n, p.patterns[k].re()); loc != nil {
			return found{text: s.values[i][loc[0]:loc[1]], from: loc[0], to: loc[1]}
		}
	}
	return found{}
}

// wordsPred is contains, equals, starts_with and ends_with; its words are as the value set gives the values. It asks the
// matcher of the source, or, for few words in short values, the value itself.
type wordsPred struct {
	words   []string
	exact   bool
	op      string
	test    func(value, word string) bool
	matcher *matcher // nil: not in one
	number  int
}

var wordTests = map[string]func(value, word string) bool{
	"contains":    strings.Contains,
	"equals":      func(value, word string) bool { return value == word },
	"starts_with": strings.HasPrefix,
	"ends_with":   strings.HasSuffix,
}

var places = map[string]match.Place{"contains": match.Anywhere, "equals": match.Whole, "starts_with": match.AtStart, "ends_with": match.AtEnd}

// fewWords are compared with a short value one by one.
const fewWords = 8

// manyOrLong reports whether words are better looked for by a matcher, and can be.
func manyOrLong(src source, op string, words []string) bool {
	if op != "contains" && src.subject != "body" && len(words) <= fewWords {
		return false
	}
	return !slices.ContainsFunc(words, func(w string) bool { return !match.CanHold(w) })
}

func (p *wordsPred) match(_ *state, _ *itemState, s *valueSet, i int) Truth {
	if p.matcher != nil {
		return truth(s.scan(p.matcher, i).Matched(p.number))
	}
	v := s.value(i, p.exact)
	return truth(slices.ContainsFunc(p.words, func(w string) bool { return p.test(v, w) }))
}

func (p *wordsPred) find(_ *state, s *valueSet, i int) found {
	v := s.value(i, p.exact)
	for _, w := range p.words {
		if p.test(v, w) {
			return p.locate(s, i, v, w)
		}
	}
	return found{}
}

// locate says where the word stands in the value as it was before case was folded.
func (p *wordsPred) locate(s *valueSet, i int, v, word string) found {
	from := strings.Index(v, word)
	if p.op == "ends_with" {
		from = len(v) - len(word)
	}
	f := found{text: word, from: from, to: from + len(word)}
	if !p.exact {
		f.from, f.to = unfold(s.values[i], v, f.from, f.to)
	}
	return f
}
