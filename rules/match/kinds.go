package match

import "regexp/syntax"

// A kind is all that the assertions know of a character beside a place.
type kind uint8

const (
	kindBegin kind = iota // none: the text begins here, or it ends
	kindNewline
	kindWord
	kindOther
	kindCount
)

const kindEnd = kindBegin

// Sets that the assertions tell apart.
var (
	newlineSet = ranges{'\n', '\n'}
	wordSet    = ranges{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'}
)

// holding are the assertions that hold between two kinds of characters.
var holding = func() (all [kindCount][kindCount]syntax.EmptyOp) {
	example := [kindCount]rune{kindBegin: -1, kindNewline: '\n', kindWord: 'a', kindOther: ' '}
	for before := range kindCount {
		for after := range kindCount {
			all[before][after] = syntax.EmptyOpContext(example[before], example[after])
		}
	}
	return all
}()

// kindOf returns the kind of a character; only ASCII letters, digits and the underscore are of words.
func kindOf(r rune) kind {
	switch {
	case r < 0:
		return kindBegin
	case r == '\n':
		return kindNewline
	case syntax.IsWordChar(r):
		return kindWord
	}
	return kindOther
}

// kindBefore returns the kind of the character that ends at i.
func kindBefore(text string, i int) kind {
	if i == 0 {
		return kindBegin
	}
	return kindOf(rune(text[i-1])) // the last byte of a longer character is of no word
}

// merge returns which kinds have to be kept apart for the assertions that are in use: the others are one.
func merge(used syntax.EmptyOp) (to [kindCount]kind) {
	for k := range kindCount {
		to[k] = k
	}
	const (
		begins = syntax.EmptyBeginText | syntax.EmptyBeginLine
		lines  = syntax.EmptyBeginLine | syntax.EmptyEndLine
		words  = syntax.EmptyWordBoundary | syntax.EmptyNoWordBoundary
	)
	if used&words == 0 {
		to[kindWord] = kindOther
	}
	if used&lines == 0 {
		to[kindNewline] = kindOther
	}
	if used&begins == 0 {
		to[kindBegin] = kindOther
	}
	return to
}
