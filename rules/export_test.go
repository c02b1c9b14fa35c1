package rules

import "slices"

// Vocabulary returns how each word of the language is written in a rule.
func Vocabulary() []string {
	var words []string
	for _, s := range names(subjects) {
		for _, part := range names(subjects[s]) {
			switch {
			case s == "header" && part == "decoded", s == "symbol" && part == "count":
				words = append(words, s+": ")
			case s == "header" || s == "symbol":
				words = append(words, "part: "+part)
			default:
				words = append(words, s+": "+part)
			}
		}
	}
	for _, parts := range itemParts {
		for _, part := range names(parts) {
			words = append(words, part+": {")
		}
	}
	for _, op := range names(operators) {
		words = append(words, op+": ")
	}
	for _, v := range viewNames {
		words = append(words, "view: "+v)
	}
	for _, w := range whichNames {
		words = append(words, "which: "+w)
	}
	return append(words, slices.Concat(combinators, []string{"case: exact"})...)
}

// CompilePattern compiles an expression as a rule without a view has it, and returns its literals and what finds a match.
func CompilePattern(source string, exact bool) (literals []string, match func(string) bool, err error) {
	p, err := compilePattern(source, asIs, exact)
	if err != nil {
		return nil, nil, err
	}
	return p.literals, p.re.MatchString, nil
}

// Prefilter returns what says which of several expressions, given by their literals, can match a text.
func Prefilter(literals ...[]string) func(text string) []bool {
	f := new(prefilter)
	var numbers []int
	for _, l := range literals {
		numbers = append(numbers, f.add(l))
	}
	f.build()
	return func(text string) []bool {
		seen := f.scan(foldCase(text))
		var can []bool
		for _, n := range numbers {
			can = append(can, n < 0 || seen.has(n))
		}
		return can
	}
}

// The views, for tests of what they make of a text.
var (
	FoldedView   = foldedView
	SkeletonView = skeletonView
	FoldCase     = foldCase
)
