package rules

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"postern/rules/strict"
)

// Options say what a set of rules is compiled against.
type Options struct {
	// KnownSymbol reports whether a check can yield a symbol; nil takes every lower-case one.
	KnownSymbol func(name string) bool
	// Symbols are the symbols of the checks, for near names in messages.
	Symbols []string
	// ReadFile reads the files that rule files name; nil is os.ReadFile. Names are made relative to the rule file.
	ReadFile func(name string) ([]byte, error)
	// Overrides change rules, by their ids, without a change in their files.
	Overrides map[string]Override
	// PerDomain are the ids of rules that some recipient domain has in another mode. They are asked though they be off.
	PerDomain map[string]bool
	// Thresholds are those of the policy. A pack that assumes others is warned about. Zero values are not compared.
	Thresholds Thresholds
}

// A Set is rules ready to run. It is not changed by use, and may be used by any number of goroutines.
type Set struct {
	files    []*File
	rules    []compiledRule
	conds    []node
	plan     plan
	sources  [3][]sourceDef // by scope
	brands   *brandIndex
	bodyLook int       // the source that is the text of the body in the view skeleton; -1: none
	states   sync.Pool // of *state
	symbols  []string
	auth     []string
	warnings strict.Problems
	// overBodies are the expressions over texts that are long.
	overBodies []pattern
	opt        Options

	listFiles []*listFile // the lists that stand in files
	listDefs  []indexKey  // of the indexes in the table
	tables    atomic.Pointer[listTable]
	refresh   sync.Mutex
}

// A sourceDef is a source, and for a view the index of the source that it looks at.
type sourceDef struct {
	source
	plain   int // -1: none
	matcher *matcher
}

type compiledRule struct {
	rule  *Rule
	file  *File
	when  node // nil for a rule that is off
	built bool
}

// A Source is a rule file to load.
type Source struct {
	Name string
	Src  []byte
}

// Load parses and compiles. Its error, of type [strict.Problems], holds all that is wrong in all files.
func Load(sources []Source, opt Options) (*Set, error) {
	var all strict.Problems
	var files []*File
	for _, s := range sources {
		f, err := Parse(s.Name, s.Src)
		all.Add(problemsOf(err))
		if f != nil {
			files = append(files, f)
		}
	}
	if len(files) < len(sources) {
		return nil, all.Err() // names may be missing because their file could not be read at all
	}
	set, err := Compile(files, opt)
	all.Add(problemsOf(err))
	if err := all.Err(); err != nil {
		return nil, err
	}
	return set, nil
}

func problemsOf(err error) strict.Problems {
	if p, ok := err.(strict.Problems); ok {
		return p
	}
	return nil
}

// A compiler resolves the names in files and builds nodes.
type compiler struct {
	parser
	opt     Options
	set     *Set
	files   []*File
	byID    map[string]int // rules, by id
	sources [3]map[source]int
	indexes map[indexKey]int
	table   listTable
	entries map[*List][]Entry
	conds   map[condKey]int // index in set.conds
	used    map[any]bool    // lists and conditions that something refers to
}

type indexKey struct {
	list  *List
	view  view
	exact bool
}

// A condKey is a named condition as enforced rules see it or as shadow rules do: only those see other shadow rules.
type condKey struct {
	cond   *Condition
	shadow bool
}

// Compile joins files to a set. Its error is of type [strict.Problems]: unknown names, cycles, list files that can't be
// read, and refusals that ask for what is not known before DATA.
func Compile(files []*File, opt Options) (*Set, error) {
	if opt.ReadFile == nil {
		opt.ReadFile = os.ReadFile
	}
	c := &compiler{
		opt: opt, set: &Set{opt: opt, files: files}, files: files, byID: map[string]int{},
		indexes: map[indexKey]int{}, entries: map[*List][]Entry{}, conds: map[condKey]int{}, used: map[any]bool{},
	}
	for s := range c.sources {
		c.sources[s] = map[source]int{}
	}
	c.set.brands = newBrandIndex(joinBrands(files))
	c.collect()
	c.overrides()
	c.resolve()
	if c.cycles() {
		return nil, c.Err() // nothing that follows would end
	}
	for i := range c.set.rules {
		c.buildRule(i)
	}
	for _, sources := range c.set.sources {
		for i := range sources {
			sources[i].matcher.build()
		}
	}
	c.set.plan = newPlan(c.set)
	c.set.bodyLook = slices.IndexFunc(c.set.sources[ofMessage], func(s sourceDef) bool { return s.subject == "body" && s.part == "text" && s.view == skeleton })
	c.refusals()
	c.advise()
	c.adviseBrands()
	if err := c.Err(); err != nil {
		return nil, err
	}
	c.needs()
	c.set.tables.Store(&c.table)
	c.set.warnings = c.warnings.Sorted()
	return c.set, nil
}

// collect gathers the rules of all files.
func (c *compiler) collect() {
	for _, f := range c.files {
		c.warnings.Add(f.warnings)
		for i := range f.Rules {
			r := &f.Rules[i]
			if first, dup := c.byID[r.ID]; dup {
				c.Addf(r.Pos, "duplicate rule %s, first at %s", r.ID, c.set.rules[first].rule.Pos)
				continue
			}
			c.byID[r.ID] = len(c.set.rules)
			c.set.rules = append(c.set.rules, compiledRule{rule: c.overridden(r), file: f})
		}
	}
}

// list finds a list: in its own file, else in the others in their order.
func (c *compiler) list(f *File, name string) *List {
	if l := f.Lists[name]; l != nil {
		return l
	}
	for _, other := range c.files {
		if l := other.Lists[name]; l != nil {
			return l
		}
	}
	return nil
}

// condition finds a named condition and the file in which it stands, as list does.
func (c *compiler) condition(f *File, name string) (*Condition, *File) {
	if cond := f.Conditions[name]; cond != nil {
		return cond, f
	}
	for _, other := range c.files {
		if cond := other.Conditions[name]; cond != nil {
			return cond, other
		}
	}
	return nil, nil
}

// known returns the names of all lists or conditions that a rule of f can use.
func known[T any](c *compiler, of func(*File) map[string]T) []string {
	all := map[string]bool{}
	for _, f := range c.files {
		for name := range of(f) {
			all[name] = true
		}
	}
	return names(all)
}

// resolve complains about each name that stands for nothing. What follows can rely on names.
func (c *compiler) resolve() {
	for _, f := range c.files {
		for _, name := range names(f.Conditions) {
			f.Conditions[name].when.walk(func(e *expr) { c.resolveExpr(f, e) })
		}
		for i := range f.Rules {
			f.Rules[i].when.walk(func(e *expr) { c.resolveExpr(f, e) })
			for _, t := range f.Rules[i].Tests {
				for _, name := range names(t.Symbols) {
					c.resolveSymbol(t.Pos, name)
				}
			}
		}
	}
}

func (c *compiler) resolveExpr(f *File, e *expr) {
	switch e.op {
	case opIs:
		if cond, _ := c.condition(f, e.name); cond == nil {
			c.Addf(e.pos, "%s", strict.Unknown("condition", e.name, known(c, func(f *File) map[string]*Condition { return f.Conditions })))
		} else {
			c.used[cond] = true
		}
	case opTest:
		if e.test.src.subject == "symbol" {
			c.resolveSymbol(e.pos, e.test.src.name)
		}
		for i := range e.test.preds {
			p := &e.test.preds[i]
			if p.other != nil && p.other.subject == "symbol" {
				c.resolveSymbol(p.pos, p.other.name)
			}
			if p.list == nil || p.list.list != nil {
				continue
			}
			if l := c.list(f, p.list.name); l == nil {
				c.Addf(p.list.pos, "%s", strict.Unknown("list", p.list.name, known(c, func(f *File) map[string]*List { return f.Lists })))
			} else {
				c.used[l] = true
			}
		}
	}
}

func (c *compiler) resolveSymbol(pos Pos, name string) {
	if idForm.MatchString(name) {
		if _, ok := c.byID[name]; !ok {
			c.Addf(pos, "%s", strict.Unknown("rule", name, names(c.byID)))
		}
		return
	}
	ok := symbolForm.MatchString(name)
	if ok && c.opt.KnownSymbol != nil {
		ok = c.opt.KnownSymbol(name)
	}
	if !ok {
		c.Addf(pos, "%s", strict.Unknown("symbol", name, c.opt.Symbols))
	}
}

var symbolForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,252}(\.\*)?$`)

// cycles refuses rules and conditions that ask for themselves, and reports whether there are any.
func (c *compiler) cycles() bool {
	found := false
	done, onPath := map[any]bool{}, map[any]bool{}
	var path []string
	var visit func(key any, name string, f *File, when *expr)
	visit = func(key any, name string, f *File, when *expr) {
		if done[key] {
			return
		}
		onPath[key] = true
		path = append(path, name)
		when.walk(func(e *expr) {
			next, nextName, nextFile, nextWhen := c.target(f, e)
			switch {
			case next == nil:
			case onPath[next]:
				from := slices.Index(path, nextName)
				c.Addf(e.pos, "a cycle: %s", strings.Join(append(slices.Clone(path[from:]), nextName), " → "))
				found = true
			default:
				visit(next, nextName, nextFile, nextWhen)
			}
		})
		path = path[:len(path)-1]
		onPath[key], done[key] = false, true
	}
	for i := range c.set.rules {
		r := &c.set.rules[i]
		visit(r.rule, r.rule.ID, r.file, r.rule.when)
	}
	for _, f := range c.files {
		for _, name := range names(f.Conditions) {
			visit(f.Conditions[name], name, f, f.Conditions[name].when)
		}
	}
	return found
}

// target is the rule or condition that a condition refers to; a nil key when it refers to none.
func (c *compiler) target(f *File, e *expr) (key any, name string, file *File, when *expr) {
	switch {
	case e.op == opIs:
		if cond, in := c.condition(f, e.name); cond != nil {
			return cond, cond.Name, in, cond.when
		}
	case e.op == opTest && e.test.src.subject == "symbol":
		if i, ok := c.byID[e.test.src.name]; ok {
			r := &c.set.rules[i]
			return r.rule, r.rule.ID, r.file, r.rule.when
		}
	}
	return nil, "", nil, nil
}

// reach calls fn for a condition, all within it, and all that these refer to, each once.
func (c *compiler) reach(f *File, when *expr, fn func(*expr)) {
	seen := map[any]bool{}
	var visit func(f *File, when *expr)
	visit = func(f *File, when *expr) {
		when.walk(func(e *expr) {
			fn(e)
			if key, _, file, next := c.target(f, e); key != nil && !seen[key] {
				seen[key] = true
				visit(file, next)
			}
		})
	}
	visit(f, when)
}

// refusals checks that the rules which may refuse before DATA ask only for what is known then.
func (c *compiler) refusals() {
	for i := range c.set.rules {
		r := &c.set.rules[i]
		if !r.rule.Refuse {
			continue
		}
		c.reach(r.file, r.rule.when, func(e *expr) {
			switch {
			case e.op == opItems:
				c.Addf(e.pos, "rule %s has refuse: true and asks for %s, expected envelope, symbol, auth spf or auth iprev only", r.rule.ID, itemNames[e.items.scope])
			case e.op == opTest && e.test.src.scope == ofMessage:
				c.refusable(r.rule, e.pos, e.test.src)
				for _, p := range e.test.preds {
					if p.other != nil && p.other.scope == ofMessage {
						c.refusable(r.rule, p.pos, *p.other)
					}
				}
			}
		})
	}
}

func (c *compiler) refusable(r *Rule, pos Pos, src source) {
	if !refusable(src) {
		c.Addf(pos, "rule %s has refuse: true and asks for %s, expected envelope, symbol, auth spf or auth iprev only", r.ID, src)
	}
}

// needs lists what the rules in force want from checks.
func (c *compiler) needs() {
	symbols, auth := map[string]bool{}, map[string]bool{}
	note := func(src source) {
		switch {
		case src.subject == "auth":
			auth[src.part] = true
		case src.subject == "brand" && src.part == "proved":
			auth["dkim_domain"], auth["dmarc_domain"] = true, true
		case src.subject == "symbol" && !idForm.MatchString(src.name):
			symbols[src.name] = true
		}
	}
	for i := range c.set.rules {
		if r := &c.set.rules[i]; r.when != nil {
			c.reach(r.file, r.rule.when, func(e *expr) {
				if e.op != opTest {
					return
				}
				note(e.test.src)
				for _, p := range e.test.preds {
					if p.other != nil {
						note(*p.other)
					}
				}
			})
		}
	}
	c.set.symbols, c.set.auth = names(symbols), names(auth)
}
