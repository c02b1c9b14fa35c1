package rules

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"postern/rules/strict"
)

// cond reads a condition. It returns nil when the problems that it added leave none.
func (p *parser) cond(n *strict.Node) *expr {
	if n.Kind() != strict.Mapping {
		hint := ""
		if n.Kind() == strict.Sequence {
			hint = ": write all: or any: before it"
		}
		p.Addf(n.Pos(), "expected a condition like {header: Subject, contains: invoice}, got %s%s", describe(n), hint)
		return nil
	}
	lead, pairs := p.lead(n)
	if lead == nil {
		return nil
	}
	name := lead.Key.Text()
	switch {
	case slices.Contains(combinators, name):
		return p.combine(*lead, pairs, p.cond)
	case itemSubjects[name] != ofMessage:
		return p.items(*lead, pairs)
	}
	src, ok := p.source(*lead, pairs)
	if !ok {
		return nil
	}
	return p.test(lead.Key.Pos(), src, without(pairs, name, "part"))
}

// lead finds the key that says what kind of condition a mapping is.
func (p *parser) lead(n *strict.Node) (*strict.Pair, []strict.Pair) {
	known := slices.Concat(combinators, names(subjects), names(itemSubjects))
	pairs := n.Pairs()
	var lead *strict.Pair
	for i, pair := range pairs {
		if !slices.Contains(known, pair.Key.Text()) {
			continue
		}
		if lead != nil {
			p.Addf(pair.Key.Pos(), "%s beside %s, expected one of them: join conditions with all: [{...}, {...}]", pair.Key.Text(), lead.Key.Text())
			return nil, nil
		}
		lead = &pairs[i]
	}
	if lead == nil {
		pos, hint := n.Pos(), ""
		for _, pair := range pairs {
			if near := strict.Suggest(pair.Key.Text(), known); near != "" && operators[pair.Key.Text()] == nil {
				pos, hint = pair.Key.Pos(), fmt.Sprintf(": unknown subject %q, did you mean %q?", pair.Key.Text(), near)
				break
			}
		}
		p.Addf(pos, "a condition that asks about nothing%s (expected one of %s)", hint, strings.Join(known, ", "))
	}
	return lead, pairs
}

// combine reads all, any, not, at_least and is; one reads the conditions within.
func (p *parser) combine(lead strict.Pair, pairs []strict.Pair, one func(*strict.Node) *expr) *expr {
	name, n := lead.Key.Text(), lead.Value
	e := &expr{pos: lead.Key.Pos()}
	allowed := []string{name}
	switch name {
	case "not":
		e.op = opNot
		if arg := one(n); arg != nil {
			e.args = []*expr{arg}
		}
	case "is":
		e.op, e.name = opIs, n.Text()
		if n.Kind() != strict.Scalar {
			p.Addf(n.Pos(), "expected the name of a condition after is, got %s", describe(n))
			return nil
		}
	case "at_least":
		allowed = append(allowed, "of")
		e.op = opAtLeast
		p.atLeast(e, n, pairs, one)
	default:
		if e.op = opAll; name == "any" {
			e.op = opAny
		}
		e.args = p.conds(name, n, one)
	}
	for _, pair := range pairs {
		if !slices.Contains(allowed, pair.Key.Text()) {
			p.Addf(pair.Key.Pos(), "%s does not go with %s", pair.Key.Text(), name)
		}
	}
	if e.op != opIs && len(e.args) == 0 {
		return nil
	}
	return e
}

func (p *parser) conds(name string, n *strict.Node, one func(*strict.Node) *expr) []*expr {
	if n.Kind() != strict.Sequence || len(n.Items()) == 0 {
		got := describe(n)
		if n.Kind() == strict.Sequence {
			got = "an empty one"
		}
		p.Addf(n.Pos(), "expected a list of conditions after %s, got %s", name, got)
		return nil
	}
	var args []*expr
	for _, item := range n.Items() {
		if arg := one(item); arg != nil {
			args = append(args, arg)
		}
	}
	return args
}

func (p *parser) atLeast(e *expr, n *strict.Node, pairs []strict.Pair, one func(*strict.Node) *expr) {
	i := slices.IndexFunc(pairs, func(pair strict.Pair) bool { return pair.Key.Text() == "of" })
	if i < 0 {
		p.Addf(e.pos, "at_least without of, expected {at_least: 2, of: [...]}")
		return
	}
	before := len(p.Problems)
	e.args = p.conds("of", pairs[i].Value, one)
	many, ok := p.number(number, n)
	if ok && len(p.Problems) == before && (many < 1 || int(many) > len(e.args)) {
		p.Addf(n.Pos(), "at_least: %d of %d conditions, expected a number from 1 to %d", many, len(e.args), len(e.args))
	}
	e.n = int(many)
}

// source reads the subject and part of a condition.
func (p *parser) source(lead strict.Pair, pairs []strict.Pair) (source, bool) {
	subject, n := lead.Key.Text(), lead.Value
	src := source{subject: subject}
	parts := subjects[subject]
	var part *strict.Node
	for _, pair := range pairs {
		if pair.Key.Text() == "part" {
			part = pair.Value
		}
	}
	switch subject {
	case "header":
		if !p.fieldNames(&src, n) {
			return src, false
		}
		src.part = "decoded"
	case "symbol":
		if n.Kind() != strict.Scalar || n.Text() == "" {
			p.Addf(n.Pos(), "expected the name of a symbol, got %s", describe(n))
			return src, false
		}
		src.name, src.part = n.Text(), "count"
	default:
		if part != nil {
			p.Addf(part.Pos(), "part does not go with %s, expected {%s: PART, ...}", subject, subject)
		}
		part = n
	}
	if part != nil {
		if part.Kind() != strict.Scalar {
			p.Addf(part.Pos(), "expected a part of %s (%s), got %s", subject, strings.Join(names(parts), ", "), describe(part))
			return src, false
		}
		src.part = part.Text()
	}
	def, ok := parts[src.part]
	if !ok {
		p.Addf(part.Pos(), "%s", strict.Unknown("part of "+subject, src.part, names(parts)))
		return src, false
	}
	src.kind = def.kind
	return src, true
}

// fieldNames reads the name of a header field, or several.
func (p *parser) fieldNames(src *source, n *strict.Node) bool {
	var fields []string
	for _, item := range p.scalars("header", n) {
		name := item.Text()
		switch bare := strings.TrimSuffix(name, ":"); {
		case bare != name && isFieldName(bare):
			p.Addf(item.Pos(), "the header field %q, expected it without the colon: %s", name, bare)
		case !isFieldName(name):
			p.Addf(item.Pos(), "%s is no name of a header field", quoteShort(name))
		default:
			fields = append(fields, name)
		}
	}
	src.name = strings.Join(fields, ":")
	return len(fields) > 0
}

// isFieldName reports whether s has the form of RFC 5322 section 2.2.
func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

// plainSource reads a source that stands alone, as after same_as.
func (p *parser) plainSource(n *strict.Node) (source, bool) {
	lead, pairs := p.lead(n)
	if lead == nil {
		return source{}, false
	}
	if subjects[lead.Key.Text()] == nil {
		p.Addf(lead.Key.Pos(), "expected something to compare with, such as {header: From, part: domain}, got %s", lead.Key.Text())
		return source{}, false
	}
	for _, pair := range without(pairs, lead.Key.Text(), "part") {
		p.Addf(pair.Key.Pos(), "%s does not go here, expected a subject and a part only", pair.Key.Text())
	}
	return p.source(*lead, pairs)
}

// test reads the operators on a source, and what goes with them.
func (p *parser) test(pos Pos, src source, pairs []strict.Pair) *expr {
	t := &testExpr{src: src}
	def := src.definition()
	var whichNode *strict.Node
	var ops []strict.Pair
	for _, pair := range pairs {
		switch key := pair.Key.Text(); key {
		case "view":
			p.view(t, pair.Value)
		case "case":
			if pair.Value.Text() != "exact" {
				p.Addf(pair.Value.Pos(), "expected case: exact, got %s (case is folded otherwise)", describe(pair.Value))
			}
			t.exact = true
		case "which":
			whichNode = pair.Value
			p.which(&t.which, pair.Value)
		default:
			if operators[key] == nil {
				p.Addf(pair.Key.Pos(), "%s", strict.Unknown("operator", key, slices.Concat(operatorsFor(src.kind), []string{"case", "view", "which"})))
				return nil
			}
			ops = append(ops, pair)
		}
	}
	if t.exact && t.src.view != asIs {
		p.Addf(pos, "case: exact with the view %s, which has lower case only", t.src.view)
	}
	for _, op := range ops {
		p.operator(t, op, len(ops))
	}
	if len(ops) == 0 && src.subject == "symbol" && src.part == "count" {
		yes := true
		t.exists = &yes
	} else if len(ops) == 0 {
		p.Addf(pos, "%s without an operator, expected one of %s", src, strings.Join(operatorsFor(src.kind), ", "))
		return nil
	}
	asksSet := t.exists != nil || t.count != nil
	switch {
	case whichNode == nil && def.need && !asksSet:
		p.Addf(pos, "%s without which: say any or every (one recipient's rule would else decide for all)", src)
	case whichNode != nil && asksSet:
		p.Addf(whichNode.Pos(), "which does not go with exists and count, which ask about all values")
	case whichNode != nil && !def.many:
		p.Addf(whichNode.Pos(), "which does not go with %s, which has one value", src)
	}
	return &expr{op: opTest, pos: pos, test: t}
}

// operator reads exists and count, which ask about the values together, or an operator on each.
func (p *parser) operator(t *testExpr, op strict.Pair, ops int) {
	name := op.Key.Text()
	if name != "exists" && name != "count" {
		p.predicate(t, name, op.Value)
		return
	}
	switch {
	case ops > 1:
		p.Addf(op.Key.Pos(), "%s beside another operator, expected it alone", name)
	case !slices.Contains(operators[name], t.src.kind):
		p.Addf(op.Key.Pos(), "the operator %s does not fit %s, which is %s (expected %s)", name, t.src, t.src.kind, strings.Join(operatorsFor(t.src.kind), ", "))
	case name == "exists":
		var yes bool
		p.Add(op.Value.Decode(&yes))
		t.exists = &yes
	case !t.src.definition().many:
		p.Addf(op.Key.Pos(), "count does not go with %s, which has one value", t.src)
	default:
		count := p.quantity(name, op.Value)
		t.count = &count
	}
}

// quantity reads the argument of count and length: a number, or {over: 3}.
func (p *parser) quantity(after string, n *strict.Node) span {
	op, value := "equals", n
	if n.Kind() == strict.Mapping {
		pairs := n.Pairs()
		if len(pairs) != 1 || !slices.Contains([]string{"equals", "over", "under", "between"}, pairs[0].Key.Text()) {
			p.Addf(n.Pos(), "expected a number or one of {over: N}, {under: N}, {between: [N, M]} after %s", after)
			return span{}
		}
		op, value = pairs[0].Key.Text(), pairs[0].Value
	}
	s, _ := p.span(op, number, value)
	return s
}

func (p *parser) view(t *testExpr, n *strict.Node) {
	i := slices.Index(viewNames, n.Text())
	switch {
	case i < 0:
		p.Addf(n.Pos(), "%s", strict.Unknown("view", n.Text(), viewNames))
	case t.src.kind != text:
		p.Addf(n.Pos(), "view does not go with %s, which is %s", t.src, t.src.kind)
	default:
		t.src.view = view(i)
	}
}

func (p *parser) which(w *which, n *strict.Node) {
	i := slices.Index(whichNames, n.Text())
	if i < 0 {
		p.Addf(n.Pos(), "%s", strict.Unknown("which", n.Text(), whichNames))
		return
	}
	*w = which(i)
}

// items reads a condition on one link or attachment: {uri: {host: {in: shorteners}}, which: every}.
func (p *parser) items(lead strict.Pair, pairs []strict.Pair) *expr {
	scope := itemSubjects[lead.Key.Text()]
	e := &expr{op: opItems, pos: lead.Key.Pos(), items: &itemsExpr{scope: scope}}
	whichAt := Pos{}
	for _, pair := range without(pairs, lead.Key.Text()) {
		switch pair.Key.Text() {
		case "which":
			whichAt = pair.Value.Pos()
			p.which(&e.items.which, pair.Value)
		case "count":
			count := p.quantity("count", pair.Value)
			e.items.count = &count
		default:
			p.Addf(pair.Key.Pos(), "%s", strict.Unknown("key beside "+lead.Key.Text(), pair.Key.Text(), []string{"which", "count"}))
		}
	}
	if e.items.count != nil && whichAt.Line > 0 {
		p.Addf(whichAt, "which does not go with count, which asks about all")
	}
	if lead.Value.Kind() == strict.Mapping && len(lead.Value.Pairs()) == 0 {
		return e
	}
	e.items.when = p.itemCond(scope, lead.Value)
	if e.items.when == nil {
		return nil
	}
	return e
}

// itemCond reads what must hold for one link or attachment: parts with their operators, and combinators. All must hold.
func (p *parser) itemCond(scope scope, n *strict.Node) *expr {
	if n.Kind() != strict.Mapping {
		p.Addf(n.Pos(), "expected conditions on the parts of %s like {%s: {...}}, got %s", itemNames[scope], names(itemParts[scope])[0], describe(n))
		return nil
	}
	pairs := n.Pairs()
	e := &expr{op: opAll, pos: n.Pos()}
	within := func(n *strict.Node) *expr { return p.itemCond(scope, n) }
	known := slices.Concat(names(itemParts[scope]), []string{"all", "any", "at_least", "not"})
	for _, pair := range pairs {
		name := pair.Key.Text()
		def, isPart := itemParts[scope][name]
		var arg *expr
		switch {
		case name == "of":
			continue
		case slices.Contains(combinators, name) && name != "is":
			arg = p.combine(pair, slices.DeleteFunc(slices.Clone(pairs), func(o strict.Pair) bool {
				return o.Key.Text() != name && (o.Key.Text() != "of" || name != "at_least")
			}), within)
		case name == "count" || name == "which":
			p.Addf(pair.Key.Pos(), "%s stands within %s, expected it beside: {%s: {…}, %s: …}", name, itemNames[scope], itemNames[scope], name)
		case !isPart:
			p.Addf(pair.Key.Pos(), "%s", strict.Unknown("part of "+itemNames[scope], name, known))
		case pair.Value.Kind() != strict.Mapping:
			p.Addf(pair.Value.Pos(), "expected operators after %s, such as {equals: %s}, got %s", name, exampleFor(pair.Value), describe(pair.Value))
		default:
			arg = p.test(pair.Key.Pos(), source{scope: scope, part: name, kind: def.kind}, pair.Value.Pairs())
		}
		if arg != nil {
			e.args = append(e.args, arg)
		}
	}
	switch len(e.args) {
	case 0:
		return nil
	case 1:
		return e.args[0]
	}
	return e
}

func exampleFor(n *strict.Node) string {
	if n.Kind() == strict.Scalar {
		return n.Text()
	}
	return "..."
}

func without(pairs []strict.Pair, keys ...string) []strict.Pair {
	return slices.DeleteFunc(slices.Clone(pairs), func(p strict.Pair) bool { return slices.Contains(keys, p.Key.Text()) })
}

// describe says what a value is, for "expected …, got …".
func describe(n *strict.Node) string {
	switch n.Kind() {
	case strict.Null:
		return "nothing"
	case strict.Scalar:
		return quoteShort(n.Text())
	}
	return "a " + n.Kind().String()
}

// short cuts s to what goes into a message or a log line.
func short(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
