package strict

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// A Kind is the shape of a value.
type Kind uint8

// The shapes.
const (
	Null Kind = iota // nothing: an empty value, ~ or null
	Scalar
	Sequence
	Mapping
)

// String names the kind as messages do.
func (k Kind) String() string {
	return [...]string{"nothing", "value", "list", "mapping"}[k]
}

func article(k Kind) string {
	if k == Null {
		return "nothing"
	}
	return "a " + k.String()
}

func kindOf(n *yaml.Node) Kind {
	switch n.Kind {
	case yaml.AliasNode:
		return kindOf(n.Alias)
	case yaml.MappingNode:
		return Mapping
	case yaml.SequenceNode:
		return Sequence
	}
	if n.Tag == "!!null" && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
		return Null
	}
	return Scalar
}

// A Node is a value in a file. Aliases are followed: a node is what the alias names, with its position there.
type Node struct {
	n   *yaml.Node
	doc *Doc
}

// A Pair is a key of a mapping and its value.
type Pair struct{ Key, Value *Node }

func (d *Doc) node(n *yaml.Node) *Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return &Node{n: n, doc: d}
}

func (d *Doc) pos(n *yaml.Node) Pos { return Pos{File: d.file, Line: n.Line, Col: n.Column} }

// Root returns the file's value; nil for a file that holds none.
func (d *Doc) Root() *Node {
	if d.root == nil {
		return nil
	}
	return d.node(d.root)
}

// Problems returns what is wrong with the YAML itself: duplicate keys, tags, merge keys. [Doc.Decode] includes them.
func (d *Doc) Problems() Problems { return d.problems }

// Pos returns the position of the value at a path of keys (string) and indexes (int):
// d.Pos("upstream", 0, "address"). Where the path ends early, it is that of the nearest parent that exists.
func (d *Doc) Pos(path ...any) Pos {
	if d.root == nil {
		return Pos{File: d.file, Line: 1, Col: 1}
	}
	n := d.Root()
	for _, step := range path {
		var next *Node
		switch s := step.(type) {
		case string:
			next = n.Get(s)
		case int:
			if items := n.Items(); s >= 0 && s < len(items) {
				next = items[s]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return n.Pos()
}

// Pos returns where the value begins.
func (n *Node) Pos() Pos { return n.doc.pos(n.n) }

// Kind returns the value's shape.
func (n *Node) Kind() Kind { return kindOf(n.n) }

// Text returns the text of a scalar, "" for others.
func (n *Node) Text() string {
	if n.n.Kind == yaml.ScalarNode {
		return n.n.Value
	}
	return ""
}

// Quoted reports whether the scalar stands in quotes or is a block of text, so that it can't be a number or a boolean.
func (n *Node) Quoted() bool {
	const quoted = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	return n.n.Style&quoted != 0
}

// DoubleQuoted reports whether the scalar stands in double quotes, in which YAML interprets escapes.
func (n *Node) DoubleQuoted() bool { return n.n.Style&yaml.DoubleQuotedStyle != 0 }

// EatenEscape returns the first escape in a double-quoted scalar that YAML turned into a control or special character,
// such as `\b`, which is a backspace to YAML and a word boundary to a regular expression. It is "" when there is none.
// The escapes \t, \n and \r mean the same to both and are not reported.
func (n *Node) EatenEscape() string {
	if !n.DoubleQuoted() {
		return ""
	}
	if n.n.Line < 1 || n.n.Line > len(n.doc.lines) {
		return ""
	}
	col := n.n.Column - 1
	for i, line := range n.doc.lines[n.n.Line-1:] {
		runes := []rune(line)
		start := 0
		if i == 0 {
			start = min(col+1, len(runes)) // past the opening quote
		}
		for j := start; j < len(runes); j++ {
			switch {
			case runes[j] == '"':
				return ""
			case runes[j] == '\\' && j+1 < len(runes):
				if strings.ContainsRune("0abefvNLP_", runes[j+1]) {
					return string(runes[j : j+2])
				}
				j++
			}
		}
	}
	return ""
}

// Items returns the elements of a list, nil for others.
func (n *Node) Items() []*Node {
	if n.n.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]*Node, len(n.n.Content))
	for i, c := range n.n.Content {
		items[i] = n.doc.node(c)
	}
	return items
}

// Pairs returns the keys and values of a mapping in the order in which they stand, nil for others. Keys that are no
// scalars are left out: they are among the document's problems.
func (n *Node) Pairs() []Pair {
	if n.n.Kind != yaml.MappingNode {
		return nil
	}
	pairs := make([]Pair, 0, len(n.n.Content)/2)
	seen := make(map[string]bool, len(n.n.Content)/2)
	for i := 0; i+1 < len(n.n.Content); i += 2 {
		key := n.n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" || seen[key.Value] {
			continue
		}
		seen[key.Value] = true
		pairs = append(pairs, Pair{Key: n.doc.node(key), Value: n.doc.node(n.n.Content[i+1])})
	}
	return pairs
}

// Get returns the value of a key in a mapping, nil when it is absent.
func (n *Node) Get(key string) *Node {
	for _, p := range n.Pairs() {
		if p.Key.Text() == key {
			return p.Value
		}
	}
	return nil
}

// describe says what the value is, for "expected …, got …".
func (n *Node) describe() string {
	switch k := n.Kind(); k {
	case Scalar:
		return quoteShort(n.n.Value)
	default:
		return article(k)
	}
}
