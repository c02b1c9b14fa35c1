package rules

import (
	"slices"
	"strconv"
	"strings"
)

// A Description is what a rule is made of.
type Description struct {
	Rule       *Rule
	Asks       []string  // what it asks for: "header From domain", "body text", "uri host"
	Lists      []ListUse // that it reads, named ones only
	Conditions []NameUse // named conditions
	Rules      []NameUse // whose symbols it asks for
	UsedBy     []NameUse // rules that ask for its symbol
	Symbols    []string  // of checks
	Auth       []string  // parts of auth
	Patterns   int       // regular expressions
	Outline    []Line    // its own conditions, in the order of the file
}

// A ListUse is a list that a rule reads.
type ListUse struct {
	Name    string
	Pos     Pos
	Path    string // of its file; "" for entries in place
	Entries int
}

// A NameUse is something that is defined elsewhere.
type NameUse struct {
	Name string
	Pos  Pos
}

// A Line is one condition of a rule.
type Line struct {
	Depth int
	Pos   Pos // zero where it is that of the conditions within
	What  string
}

// Describe tells what a rule is made of, what it reaches by named conditions and other rules included. It is false for a rule
// that the set has not.
func (s *Set) Describe(id string) (Description, bool) {
	c := &compiler{opt: s.opt, set: s, files: s.files, byID: map[string]int{}}
	for i := range s.rules {
		c.byID[s.rules[i].rule.ID] = i
	}
	i, ok := c.byID[id]
	if !ok {
		return Description{}, false
	}
	r := &s.rules[i]
	d := &describer{c: c, Description: Description{Rule: r.rule}, seen: map[any]bool{}}
	d.reach(r.file, r.rule.when)
	d.UsedBy = d.users(id)
	d.outline(r.rule.when, 0)
	for _, list := range []*[]string{&d.Asks, &d.Symbols, &d.Auth} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return d.Description, true
}

// A describer gathers what a rule is made of.
type describer struct {
	Description
	c    *compiler
	seen map[any]bool
}

// reach walks a condition, all within it, and all that these refer to, each once.
func (d *describer) reach(f *File, when *expr) {
	when.walk(func(e *expr) {
		if e.op == opTest {
			d.test(f, e.test)
		}
		if e.op == opItems {
			d.Asks = append(d.Asks, itemNames[e.items.scope])
		}
		key, name, file, next := d.c.target(f, e)
		if key == nil || d.seen[key] {
			return
		}
		d.seen[key] = true
		switch target := key.(type) {
		case *Condition:
			d.Conditions = append(d.Conditions, NameUse{Name: name, Pos: target.Pos})
		case *Rule:
			d.Rules = append(d.Rules, NameUse{Name: name, Pos: target.Pos})
		}
		d.reach(file, next)
	})
}

func (d *describer) test(f *File, t *testExpr) {
	d.source(t.src)
	for i := range t.preds {
		p := &t.preds[i]
		d.Patterns += len(p.patterns)
		if p.other != nil {
			d.source(*p.other)
		}
		if p.list == nil || p.list.list != nil {
			continue
		}
		if l := d.c.list(f, p.list.name); l != nil && !d.seen[l] {
			d.seen[l] = true
			d.Lists = append(d.Lists, d.list(l))
		}
	}
}

func (d *describer) list(l *List) ListUse {
	use := ListUse{Name: l.Name, Pos: l.Pos, Entries: len(l.Entries)}
	if l.File != "" {
		use.Path = beside(l.Pos.File, l.File)
		use.Entries = d.c.set.tables.Load().entries[l]
	}
	return use
}

func (d *describer) source(src source) {
	switch {
	case src.scope != ofMessage: // told by the link or attachment as a whole
	case src.subject == "symbol":
		if !idForm.MatchString(src.name) {
			d.Symbols = append(d.Symbols, src.name)
		}
	case src.subject == "auth":
		d.Auth = append(d.Auth, src.part)
	default:
		d.Asks = append(d.Asks, src.String())
	}
}

// users are the rules that ask for a rule's symbol, by named conditions too.
func (d *describer) users(id string) []NameUse {
	var users []NameUse
	for i := range d.c.set.rules {
		r := &d.c.set.rules[i]
		asks := false
		d.c.reach(r.file, r.rule.when, func(e *expr) {
			asks = asks || e.op == opTest && e.test.src.subject == "symbol" && e.test.src.name == id
		})
		if asks && r.rule.ID != id {
			users = append(users, NameUse{Name: r.rule.ID, Pos: r.rule.Pos})
		}
	}
	return users
}

// outline writes the rule's own conditions a line each.
func (d *describer) outline(e *expr, depth int) {
	if e == nil {
		return
	}
	line := Line{Depth: depth, Pos: e.pos}
	switch e.op {
	case opAll:
		line.What = "all"
	case opAny:
		line.What = "any"
	case opNot:
		line.What = "not"
	case opAtLeast:
		line.What = "at_least " + strconv.Itoa(e.n)
	case opIs:
		line.What = "is " + e.name
	case opTest:
		line.What = describeTest(e.test)
	case opItems:
		words := []string{itemNames[e.items.scope]}
		if e.items.which != whichAny {
			words = append(words, e.items.which.String())
		}
		if e.items.count != nil {
			words = append(words, "count", e.items.count.String())
		}
		line.What = strings.Join(words, " ")
	}
	d.Outline = append(d.Outline, line)
	for _, a := range e.args {
		d.outline(a, depth+1)
	}
	if e.items != nil {
		d.outline(e.items.when, depth+1)
	}
}
