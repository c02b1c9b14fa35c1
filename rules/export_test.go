package rules

import (
	"context"
	"slices"
)

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

// The views, for tests of what they make of a text.
var (
	FoldedView   = foldedView
	SkeletonView = skeletonView
	FoldCase     = foldCase
)

// EvalAnew is Eval with memory that no message used before.
func EvalAnew(ctx context.Context, s *Set, subject Subject) Result {
	st := newState(ctx, s, subject)
	return st.run(st.toAsk())
}
