package rules

import (
	"math"
	"net/netip"
	"strconv"
)

// An exprOp says what an expr is.
type exprOp uint8

const (
	opAll exprOp = iota
	opAny
	opNot
	opAtLeast
	opIs    // a named condition
	opTest  // operators on the values of a source
	opItems // a condition on one link or attachment
)

// An expr is a condition as the file has it: every name in it still to be resolved.
type expr struct {
	op    exprOp
	pos   Pos
	args  []*expr
	n     int    // at_least
	name  string // is
	test  *testExpr
	items *itemsExpr
}

// A testExpr asks about the values of a source. All its operators must hold for the same value, or it asks whether there
// are any (exists), or how many (count).
type testExpr struct {
	src    source
	which  which
	exact  bool
	preds  []predExpr
	exists *bool
	count  *span
}

// A predExpr is an operator with its argument.
type predExpr struct {
	op       string
	pos      Pos
	arg      string // as messages show it
	patterns []pattern
	strings  []string
	list     *listRef
	nets     []netip.Prefix
	other    *source
	span     span
}

// An itemsExpr asks for links or attachments for which a condition holds.
type itemsExpr struct {
	scope scope
	which which
	when  *expr // nil: any link or attachment at all
	count *span
}

// A listRef is a list by name, or one that stands in place.
type listRef struct {
	name  string
	pos   Pos
	list  *List
	exact bool
}

// A span is the numbers from lo to hi, both included; a clock's span may go past midnight.
type span struct {
	lo, hi int64
	clock  bool
}

func (s span) holds(n int64) bool {
	if s.clock && s.lo > s.hi {
		return n >= s.lo || n <= s.hi
	}
	return n >= s.lo && n <= s.hi
}

// String writes the span as a rule file does: "3", "over 3", "under 3", "between 1 and 3".
func (s span) String() string {
	switch {
	case s.lo == s.hi:
		return strconv.FormatInt(s.lo, 10)
	case s.hi == math.MaxInt64:
		return "over " + strconv.FormatInt(s.lo-1, 10)
	case s.lo == math.MinInt64:
		return "under " + strconv.FormatInt(s.hi+1, 10)
	}
	return "between " + strconv.FormatInt(s.lo, 10) + " and " + strconv.FormatInt(s.hi, 10)
}

// walk calls fn for e and all conditions within it, outer ones first.
func (e *expr) walk(fn func(*expr)) {
	if e == nil {
		return
	}
	fn(e)
	for _, a := range e.args {
		a.walk(fn)
	}
	if e.items != nil {
		e.items.when.walk(fn)
	}
}

// A Condition is a named condition.
type Condition struct {
	Name string
	Pos  Pos

	when *expr
}
