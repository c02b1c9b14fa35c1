// Package strict reads YAML into Go structs and says, with file, line and column, everything that is wrong.
//
// A configuration that is read leniently lies to its writer: a misspelt key is ignored, a value of the wrong type
// becomes zero, the first mistake hides the second. Here every key must be known, every value must have the type
// that the struct asks for, and all problems of a file are reported at once, each as
//
//	file:line:col: what is wrong, what was expected
//
// so that an editor can jump to it.
//
// A struct names its keys by tags:
//
//	type Listen struct {
//		Address string        `yaml:"address"`
//		Idle    time.Duration `yaml:"idle"`      // "5m"
//		Max     strict.Size   `yaml:"max"`       // 1024, "100KiB", "50MiB"
//		Nets    []netip.Prefix `yaml:"nets"`     // an address alone is a /32 or /128
//		Common                `yaml:",inline"`   // the embedded struct's keys stand among these
//		Where   strict.Pos    `yaml:",pos"`      // filled with the mapping's position
//	}
//
// Fields without a tag are left alone. A key that is absent keeps the value that the struct already holds, so defaults
// are simply set before decoding; a list that is given replaces the default list, a map is merged key by key.
//
// YAML is a large language, and most of it is a trap in a configuration. Of it this package refuses: several
// documents in a file, duplicate keys, merge keys (<<), explicit tags (!!str), keys that are not plain scalars, and
// aliases that expand to more than the file could have said plainly. Words such as yes and on are strings, not booleans.
package strict

import (
	"fmt"
	"slices"
	"strings"
)

// A Pos is a place in a file. Line and Col count from 1, Col in characters; a zero Line means the file as a whole.
type Pos struct {
	File string
	Line int
	Col  int
}

// String writes the position as "file:line:col", or as much of it as is known.
func (p Pos) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// IsZero reports whether p says nothing.
func (p Pos) IsZero() bool { return p == Pos{} }

// Compare orders positions by file, line and column.
func (p Pos) Compare(q Pos) int {
	if c := strings.Compare(p.File, q.File); c != 0 {
		return c
	}
	if p.Line != q.Line {
		return p.Line - q.Line
	}
	return p.Col - q.Col
}

// A Problem is one thing that is wrong in a file.
type Problem struct {
	Pos  Pos
	What string // what is wrong and what was expected, without the position
}

// Error writes the problem as "file:line:col: what".
func (p Problem) Error() string {
	if p.Pos.IsZero() {
		return p.What
	}
	return p.Pos.String() + ": " + p.What
}

// Problems is all that is wrong, and an error when it holds any; see [Problems.Err].
type Problems []Problem

// Addf adds a problem.
func (p *Problems) Addf(pos Pos, format string, args ...any) {
	*p = append(*p, Problem{Pos: pos, What: fmt.Sprintf(format, args...)})
}

// Add adds what another step found.
func (p *Problems) Add(more Problems) { *p = append(*p, more...) }

// Err returns the problems sorted by position as an error of type Problems, or nil when there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p.Sorted()
}

// Sorted returns the problems in the order of their positions, each once.
func (p Problems) Sorted() Problems {
	s := slices.Clone(p)
	slices.SortStableFunc(s, func(a, b Problem) int { return a.Pos.Compare(b.Pos) })
	return slices.Compact(s)
}

// Error writes the problems one per line, sorted by position.
func (p Problems) Error() string {
	var b strings.Builder
	for i, problem := range p.Sorted() {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(problem.Error())
	}
	return b.String()
}
