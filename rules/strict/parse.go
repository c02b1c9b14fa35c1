package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits of a file. They are far above any that people write.
const (
	MaxSize  = 8 << 20 // bytes of a file
	MaxDepth = 100     // nesting
	MaxNodes = 1 << 20 // values, each alias counted with all that it stands for
)

// A Doc is a parsed file.
type Doc struct {
	file     string
	lines    []string
	root     *yaml.Node // nil for an empty file
	problems Problems   // what is wrong with the YAML itself, without hindering its reading
}

// Parse reads the YAML of src. Its error is of type [Problems] and says why the text is no single YAML document within
// the limits. Duplicate keys, tags and merge keys are problems too, but they come with all others from [Doc.Decode].
func Parse(file string, src []byte) (*Doc, error) {
	whole := Pos{File: file}
	var p Problems
	if len(src) > MaxSize {
		p.Addf(whole, "the file has %d bytes, expected at most %d", len(src), MaxSize)
		return nil, p
	}
	if !utf8.Valid(src) {
		p.Addf(badUTF8(file, src), "not UTF-8 text")
		return nil, p
	}
	d := &Doc{file: file, lines: strings.Split(string(src), "\n")}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(src))
	if err := decodeYAML(dec, &doc); err != nil {
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		p = append(p, d.syntaxProblem(err))
		return nil, p
	}
	if len(doc.Content) == 0 {
		return d, nil
	}
	root := doc.Content[0]
	var next yaml.Node
	if err := decodeYAML(dec, &next); err == nil {
		p.Addf(Pos{File: file, Line: max(1, next.Line), Col: max(1, next.Column)}, "a second YAML document, expected one document in the file")
		return nil, p
	} else if !errors.Is(err, io.EOF) {
		p = append(p, d.syntaxProblem(err))
		return nil, p
	}
	c := checker{doc: d, onPath: map[*yaml.Node]bool{}, done: map[*yaml.Node]extent{}}
	if c.check(root, 1); c.fatal {
		return nil, c.problems.Err()
	}
	d.root, d.problems = root, c.problems
	return d, nil
}

// decodeYAML turns a panic of the YAML reader into an error: it has some for input that its author thought impossible.
func decodeYAML(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: cannot be read: %v", r)
		}
	}()
	return dec.Decode(n)
}

func badUTF8(file string, src []byte) Pos {
	line, start, i := 1, 0, 0
	for i < len(src) {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
		if r == '\n' {
			line, start = line+1, i
		}
	}
	return Pos{File: file, Line: line, Col: 1 + utf8.RuneCount(src[start:i])}
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntaxProblem gives the reader's complaint a position and, for the common mistakes, words that help.
func (d *Doc) syntaxProblem(err error) Problem {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = msg[len(m[0]):]
	}
	if strings.HasPrefix(msg, "did not find expected") {
		line = d.offendingLine(msg)
	}
	text, line := d.lineAt(line)
	switch {
	case strings.Contains(msg, "unknown escape character"):
		// The reader gives the line on which the string began; the escape may stand below it.
		if l, c, esc := d.unknownEscape(line); esc != "" {
			return Problem{Pos: Pos{File: d.file, Line: l, Col: c}, What: fmt.Sprintf("not YAML: double quotes do not know the escape %s, use single quotes", esc)}
		}
	case strings.Contains(msg, "cannot start any token") && strings.Contains(text, "\t"):
		msg = "a tab, expected spaces"
		col := 1 + utf8.RuneCountInString(text[:strings.IndexByte(text, '\t')])
		return Problem{Pos: Pos{File: d.file, Line: line, Col: col}, What: "not YAML: " + msg}
	}
	col := 1 + len(text) - len(strings.TrimLeft(text, " \t"))
	return Problem{Pos: Pos{File: d.file, Line: line, Col: col}, What: "not YAML: " + msg}
}

// offendingLine finds the line that breaks the structure. The reader gives the line on which the broken list or mapping
// began, which may be the first of the file; the text up to the line before the offending one does not have the error.
func (d *Doc) offendingLine(msg string) int {
	broken := func(n int) bool {
		var node yaml.Node
		err := decodeYAML(yaml.NewDecoder(strings.NewReader(strings.Join(d.lines[:n], "\n"))), &node)
		return err != nil && strings.HasSuffix(err.Error(), msg)
	}
	return 1 + sort.Search(len(d.lines)-1, func(i int) bool { return broken(i + 1) })
}

// lineAt returns line n, or the last one that has text when n lies beyond the end, and its number.
func (d *Doc) lineAt(n int) (string, int) {
	n = min(max(n, 1), len(d.lines))
	for n > 1 && strings.TrimSpace(d.lines[n-1]) == "" {
		n--
	}
	return strings.TrimRight(d.lines[n-1], "\r"), n
}

// unknownEscape finds the first escape in a double-quoted string that YAML has no meaning for, from a line on.
func (d *Doc) unknownEscape(from int) (line, col int, esc string) {
	quoted := false
	for i := max(0, from-1); i < len(d.lines); i++ {
		runes := []rune(d.lines[i])
		for j := 0; j < len(runes); j++ {
			switch {
			case runes[j] == '"':
				quoted = !quoted
			case quoted && runes[j] == '\\' && j+1 < len(runes):
				if !strings.ContainsRune("0abt\tnvfre \"/\\N_LPxuU\r", runes[j+1]) {
					return i + 1, j + 1, string(runes[j : j+2])
				}
				j++
			}
		}
	}
	return 0, 0, ""
}

// A checker walks the tree once: it bounds it, so that decoding can recurse without care, and finds what YAML allows
// and a configuration should not.
type checker struct {
	doc      *Doc
	onPath   map[*yaml.Node]bool
	done     map[*yaml.Node]extent
	problems Problems
	fatal    bool
}

// An extent is what lies below a node, itself included, with aliases expanded.
type extent struct{ nodes, height int }

func (c *checker) check(n *yaml.Node, depth int) extent {
	pos := c.doc.pos(n)
	if depth > MaxDepth {
		return c.stop(pos, "nested deeper than %d levels", MaxDepth)
	}
	if n.Kind == yaml.AliasNode {
		if c.onPath[n.Alias] {
			return c.stop(pos, "the alias *%s stands within what it names", n.Value)
		}
		if e, ok := c.done[n.Alias]; ok {
			if depth+e.height-1 > MaxDepth {
				return c.stop(pos, "nested deeper than %d levels, aliases expanded", MaxDepth)
			}
			return e
		}
		n = n.Alias
	}
	c.onPath[n] = true
	defer delete(c.onPath, n)
	if n.Style&yaml.TaggedStyle != 0 {
		c.problems.Addf(pos, "the tag %s, expected none: types follow from the keys", n.Tag)
	}
	if n.Kind == yaml.MappingNode {
		c.keys(n)
	}
	e := extent{nodes: 1, height: 1}
	for _, child := range n.Content {
		below := c.check(child, depth+1)
		if c.fatal {
			return e
		}
		e.nodes += below.nodes
		e.height = max(e.height, 1+below.height)
		if e.nodes > MaxNodes {
			return c.stop(pos, "more than %d values, aliases expanded", MaxNodes)
		}
	}
	c.done[n] = e
	return e
}

func (c *checker) keys(n *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch first, dup := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			c.problems.Addf(c.doc.pos(key), "a key that is %s, expected a plain word", article(kindOf(key)))
		case key.Tag == "!!merge":
			c.problems.Addf(c.doc.pos(key), "the merge key <<, expected the keys themselves")
		case dup:
			c.problems.Addf(c.doc.pos(key), "duplicate key %q, first at line %d", key.Value, first.Line)
		default:
			seen[key.Value] = key
		}
	}
}

func (c *checker) stop(pos Pos, format string, args ...any) extent {
	c.problems.Addf(pos, format, args...)
	c.fatal = true
	return extent{}
}
