package rules

import (
	"errors"
	"fmt"
	"math"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"postern/rules/strict"
)

// Limits of what a rule may hold.
const (
	maxPattern = 10_000 // bytes of a regular expression
	maxWords   = 1_000  // arguments of one operator; more belong in a list
)

// predicate reads one operator of a test.
func (p *parser) predicate(t *testExpr, op string, n *strict.Node) {
	if !slices.Contains(operators[op], t.src.kind) {
		p.Addf(n.Pos(), "the operator %s does not fit %s, which is %s (expected %s)", op, t.src, t.src.kind, strings.Join(operatorsFor(t.src.kind), ", "))
		return
	}
	pred := predExpr{op: op, pos: n.Pos()}
	ok := true
	switch op {
	case "matches":
		ok = p.patterns(&pred, t, n)
	case "contains", "starts_with", "ends_with":
		ok = p.words(&pred, t, n)
	case "equals":
		if t.src.kind.numeric() {
			ok = p.numbers(&pred, t.src.kind, n)
		} else {
			ok = p.words(&pred, t, n)
		}
	case "in":
		pred.list = p.listRef(t, n)
		ok = pred.list != nil
	case "in_net":
		ok = p.networks(&pred, n)
	case "length":
		q := p.quantity(op, n)
		pred.span, pred.arg, ok = q, q.String(), true
	case "same_as", "holds":
		ok = p.otherSource(&pred, t, n)
	case "over", "under", "between":
		ok = p.numbers(&pred, t.src.kind, n)
	}
	if ok {
		t.preds = append(t.preds, pred)
	}
}

// scalars reads one value or a list of them.
func (p *parser) scalars(op string, n *strict.Node) []*strict.Node {
	switch n.Kind() {
	case strict.Scalar:
		return []*strict.Node{n}
	case strict.Sequence:
		items := n.Items()
		switch {
		case len(items) == 0:
			p.Addf(n.Pos(), "an empty list after %s, expected at least one value", op)
		case len(items) > maxWords:
			p.Addf(n.Pos(), "%d values after %s, expected at most %d: put them in a list and use in", len(items), op, maxWords)
			return nil
		}
		for _, item := range items {
			if item.Kind() != strict.Scalar {
				p.Addf(item.Pos(), "expected a value after %s, got %s", op, describe(item))
				return nil
			}
		}
		return items
	}
	p.Addf(n.Pos(), "expected a value or a list of values after %s, got %s", op, describe(n))
	return nil
}

func (p *parser) patterns(pred *predExpr, t *testExpr, n *strict.Node) bool {
	var args []string
	for _, item := range p.scalars("matches", n) {
		source := item.Text()
		if esc := item.EatenEscape(); esc != "" {
			p.Addf(item.Pos(), "in double quotes YAML makes %s a special character before the expression sees it, use single quotes", esc)
			continue
		}
		if len(source) > maxPattern {
			p.Addf(item.Pos(), "a regular expression of %d bytes, expected at most %d", len(source), maxPattern)
			continue
		}
		compiled, err := compilePattern(source, t.src.view, t.exact)
		if err != nil {
			p.Addf(item.Pos(), "bad regular expression %s: %s (expected RE2 syntax)", quoteShort(source), regexpProblem(err))
			continue
		}
		if compiled.empty {
			p.warnf(item.Pos(), "the expression %s matches everything, an empty text too", quoteShort(source))
		}
		compiled.pos = item.Pos()
		pred.patterns = append(pred.patterns, compiled)
		args = append(args, quoteShort(source))
	}
	pred.arg = strings.Join(args, " or ")
	return len(args) > 0
}

// regexpProblem words what the compiler of expressions said.
func regexpProblem(err error) string {
	var e *syntax.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	switch {
	case strings.HasPrefix(e.Expr, "(?=") || strings.HasPrefix(e.Expr, "(?!") || strings.HasPrefix(e.Expr, "(?<"):
		return "look-around is not known"
	case e.Code == syntax.ErrInvalidEscape && len(e.Expr) == 2 && e.Expr[1] >= '1' && e.Expr[1] <= '9':
		return "back-references are not known"
	}
	return fmt.Sprintf("%s in %s", e.Code, quoteShort(e.Expr))
}

func (p *parser) words(pred *predExpr, t *testExpr, n *strict.Node) bool {
	var args []string
	for _, item := range p.scalars(pred.op, n) {
		s := item.Text()
		switch {
		case s == "" && pred.op != "equals":
			p.Addf(item.Pos(), "an empty text after %s is in every text", pred.op)
			continue
		case !p.known(t.src, item):
			continue
		}
		if t.src.kind == addr {
			a, err := strict.ParsePrefix(s)
			if err != nil || !a.IsSingleIP() {
				p.Addf(item.Pos(), "expected an IP address, got %s (in_net asks for networks)", quoteShort(s))
				continue
			}
			s = a.Addr().String()
		}
		args = append(args, quoteShort(s))
		s = t.src.view.apply(s)
		if !t.exact {
			s = foldCase(s)
		}
		if s == "" && pred.op != "equals" {
			p.Addf(item.Pos(), "nothing of %s is left in the view %s", quoteShort(item.Text()), t.src.view)
			continue
		}
		pred.strings = append(pred.strings, s)
	}
	pred.arg = strings.Join(args, " or ")
	return len(pred.strings) > 0
}

// known reports whether a word is one that the source can have.
func (p *parser) known(src source, item *strict.Node) bool {
	def := src.definition()
	if len(def.word) == 0 || slices.Contains(def.word, strings.ToLower(item.Text())) {
		return true
	}
	p.Addf(item.Pos(), "%s", strict.Unknown("value of "+src.String(), item.Text(), def.word))
	return false
}

// definition returns what is known of the source's part.
func (s source) definition() part {
	if s.scope != ofMessage {
		return itemParts[s.scope][s.part]
	}
	return subjects[s.subject][s.part]
}

func (p *parser) listRef(t *testExpr, n *strict.Node) *listRef {
	ref := &listRef{pos: n.Pos(), exact: t.exact}
	switch n.Kind() {
	case strict.Scalar:
		ref.name = n.Text()
		return ref
	case strict.Sequence:
		ref.list = &List{}
		problems := ref.list.UnmarshalStrict(n)
		p.Add(problems)
		for _, item := range n.Items() {
			if item.Kind() == strict.Scalar && !p.known(t.src, item) {
				return nil
			}
		}
		if len(ref.list.Entries) == 0 && len(problems) == 0 {
			p.Addf(n.Pos(), "an empty list after in, expected at least one value")
		}
		return ref
	}
	p.Addf(n.Pos(), "expected the name of a list, or values in brackets, after in, got %s", describe(n))
	return nil
}

func (p *parser) networks(pred *predExpr, n *strict.Node) bool {
	// A word that is no address is the name of a list.
	if n.Kind() == strict.Scalar {
		if _, err := strict.ParsePrefix(n.Text()); err != nil && isName(n.Text()) {
			pred.op = "in"
			pred.list = &listRef{name: n.Text(), pos: n.Pos()}
			return true
		}
	}
	var args []string
	for _, item := range p.scalars("in_net", n) {
		net, err := strict.ParsePrefix(item.Text())
		if err != nil {
			p.Addf(item.Pos(), "%v", err)
			continue
		}
		pred.nets = append(pred.nets, net)
		args = append(args, net.String())
	}
	pred.arg = strings.Join(args, " or ")
	return len(pred.nets) > 0
}

// otherSource reads what the values are compared with: {header: From, part: domain}, or, within a link or attachment,
// {part: shown_domain} of the same one.
func (p *parser) otherSource(pred *predExpr, t *testExpr, n *strict.Node) bool {
	if n.Kind() != strict.Mapping {
		p.Addf(n.Pos(), "expected what to compare with after %s, such as {header: From, part: domain}, got %s", pred.op, describe(n))
		return false
	}
	var other source
	if t.src.scope != ofMessage && len(n.Pairs()) == 1 && n.Get("part") != nil {
		name := n.Get("part")
		def, ok := itemParts[t.src.scope][name.Text()]
		if !ok {
			p.Addf(name.Pos(), "%s", strict.Unknown("part of "+itemNames[t.src.scope], name.Text(), names(itemParts[t.src.scope])))
			return false
		}
		other = source{scope: t.src.scope, part: name.Text(), kind: def.kind}
	} else {
		ok := false
		if other, ok = p.plainSource(n); !ok {
			return false
		}
	}
	if other.kind != text && other.kind != addr {
		p.Addf(n.Pos(), "%s is %s, expected text to compare with", other, other.kind)
		return false
	}
	other.view = t.src.view
	pred.other = &other
	pred.arg = other.String()
	return true
}

func (p *parser) numbers(pred *predExpr, k kind, n *strict.Node) bool {
	s, ok := p.span(pred.op, k, n)
	pred.span = s
	pred.arg = n.Text()
	if items := n.Items(); len(items) == 2 {
		pred.arg = items[0].Text() + " and " + items[1].Text()
	}
	return ok
}

// span reads the numbers of over, under, between and equals.
func (p *parser) span(op string, k kind, n *strict.Node) (span, bool) {
	if op == "between" {
		items := n.Items()
		if len(items) != 2 {
			example := "[1, 5]"
			if k == clock {
				example = "['22:00', '06:00']"
			}
			p.Addf(n.Pos(), "expected two values like %s after between, got %s", example, describe(n))
			return span{}, false
		}
		lo, ok1 := p.number(k, items[0])
		hi, ok2 := p.number(k, items[1])
		if ok1 && ok2 && lo > hi && k != clock {
			p.Addf(n.Pos(), "between %s and %s holds nothing, expected the smaller number first", items[0].Text(), items[1].Text())
			return span{}, false
		}
		return span{lo: lo, hi: hi, clock: k == clock}, ok1 && ok2
	}
	v, ok := p.number(k, n)
	switch op {
	case "over":
		return span{lo: v + 1, hi: math.MaxInt64}, ok
	case "under":
		return span{lo: math.MinInt64, hi: v - 1}, ok
	}
	return span{lo: v, hi: v}, ok
}

// number reads one number as its kind writes it; a clock's is in minutes from midnight.
func (p *parser) number(k kind, n *strict.Node) (int64, bool) {
	if n.Kind() != strict.Scalar {
		p.Addf(n.Pos(), "expected %s, got %s", k, describe(n))
		return 0, false
	}
	var v int64
	var err error
	switch k {
	case size:
		var s strict.Size
		s, err = strict.ParseSize(n.Text())
		v = int64(s)
	case points:
		v, err = parsePoints(n.Text())
	case clock:
		v, err = parseClock(n.Text())
	default:
		if v, err = strconv.ParseInt(n.Text(), 10, 32); err != nil {
			err = fmt.Errorf("expected a whole number, got %s", quoteShort(n.Text()))
		}
	}
	if err != nil {
		p.Addf(n.Pos(), "%v", err)
		return 0, false
	}
	return v, true
}

// parsePoints reads a score like 2, -0.5 or 12.25 into hundredths.
func parsePoints(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "xXeEpPnN_") {
		return 0, fmt.Errorf("expected a score like 2.5 or -1, got %s", quoteShort(s))
	}
	h := math.Round(f * 100)
	switch {
	case math.Abs(f) > 1000:
		return 0, fmt.Errorf("the score %s, expected one from -1000 to 1000", s)
	case math.Abs(h-f*100) > 1e-6:
		return 0, fmt.Errorf("the score %s, expected at most two decimals", s)
	}
	return int64(h), nil
}

func parseClock(s string) (int64, error) {
	h, m, ok := strings.Cut(s, ":")
	hour, err1 := strconv.ParseUint(h, 10, 8)
	minute, err2 := strconv.ParseUint(m, 10, 8)
	if !ok || len(m) != 2 || err1 != nil || err2 != nil || hour > 24 || minute > 59 || hour == 24 && minute > 0 {
		return 0, fmt.Errorf("expected a time of day like '22:00', got %s", quoteShort(s))
	}
	return int64(hour*60 + minute), nil
}
