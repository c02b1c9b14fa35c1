package rules

import (
	"context"
	"strconv"
	"strings"
	"time"

	"postern/rules/match"
)

// A state is one message under evaluation: what was asked of the subject so far, so that it is asked once.
type state struct {
	ctx          context.Context
	set          *Set
	tables       *listTable // the lists as they were when the message came
	subject      Subject
	sets         []valueSet
	lists        [3][]*itemState // by scope
	listed       [3]bool
	conds        []Truth
	condDone     []bool
	rules        []Truth
	ruleDone     []bool
	domainBrands map[string]claims // by domain
	preset       map[string]bool   // rules that a test says have hit
	brief        bool              // nobody reads what matched
}

func newState(ctx context.Context, set *Set, subject Subject) *state {
	return &state{
		ctx: ctx, set: set, tables: set.tables.Load(), subject: subject,
		sets:  make([]valueSet, len(set.sources[ofMessage])),
		conds: make([]Truth, len(set.conds)), condDone: make([]bool, len(set.conds)),
		rules: make([]Truth, len(set.rules)), ruleDone: make([]bool, len(set.rules)),
	}
}

// rule evaluates a rule once.
func (st *state) rule(i int) Truth {
	if !st.ruleDone[i] {
		r := &st.set.rules[i]
		t := False
		switch {
		case st.preset[r.rule.ID]:
			t = True
		case st.ctx.Err() != nil:
			t = Unknown // out of time: neither hit nor miss
		case r.when != nil:
			t = r.when.eval(st, nil)
		}
		st.rules[i], st.ruleDone[i] = t, true
	}
	return st.rules[i]
}

// A valueSet is what a source says, seen through its view.
type valueSet struct {
	values  []string
	lower   []string     // folded, made when first asked for
	scans   []match.Scan // what the matcher of the source found in each value, when first asked for
	scanned []bool
	unknown bool
	loaded  bool
}

// value returns value i as comparisons need it.
func (s *valueSet) value(i int, exact bool) string {
	if exact {
		return s.values[i]
	}
	if s.lower == nil {
		s.lower = make([]string, len(s.values))
		for j, v := range s.values {
			s.lower[j] = foldCase(v)
		}
	}
	return s.lower[i]
}

// scan returns what the matcher of the source finds in value i.
func (s *valueSet) scan(m *matcher, i int) *match.Scan {
	if s.scans == nil {
		s.scans = make([]match.Scan, len(s.values))
		s.scanned = make([]bool, len(s.values))
	}
	if !s.scanned[i] {
		m.set.ScanInto(&s.scans[i], s.values[i])
		s.scanned[i] = true
	}
	return &s.scans[i]
}

// exists reports whether there is a value, or one that is not empty.
func (s *valueSet) exists(nonEmpty bool) bool {
	if !nonEmpty {
		return len(s.values) > 0
	}
	for _, v := range s.values {
		if strings.TrimSpace(v) != "" {
			return true
		}
	}
	return false
}

// An itemState is one link or attachment.
type itemState struct {
	item Item
	sets []valueSet
}

func (st *state) items(s scope) []*itemState {
	if !st.listed[s] {
		var items []Item
		if s == ofLink {
			items = st.subject.Links()
		} else {
			items = st.subject.Attachments()
		}
		list := make([]*itemState, len(items))
		for i, item := range items {
			list[i] = &itemState{item: item, sets: make([]valueSet, len(st.set.sources[s]))}
		}
		st.lists[s], st.listed[s] = list, true
	}
	return st.lists[s]
}

// values returns what a source says. A source of the same message, part and view is asked once.
func (st *state) values(sc scope, i int, it *itemState) *valueSet {
	var s *valueSet
	if sc == ofMessage {
		s = &st.sets[i]
	} else {
		s = &it.sets[i]
	}
	if s.loaded {
		return s
	}
	s.loaded = true
	src := &st.set.sources[sc][i]
	switch {
	case src.plain >= 0: // a view of another source
		plain := st.values(sc, src.plain, it)
		s.unknown = plain.unknown
		s.values = make([]string, len(plain.values))
		for j, v := range plain.values {
			s.values[j] = src.view.apply(v)
		}
	case sc == ofLink && src.asksBrands():
		s.values = st.linkBrand(it, src.part)
	case sc != ofMessage:
		s.values = it.item.Part(src.part)
	default:
		st.ask(src.source, s)
	}
	return s
}

// ask puts the question to the subject.
func (st *state) ask(src source, s *valueSet) {
	var a Answer
	switch src.subject {
	case "header":
		part := src.part
		if src.asksBrands() {
			if st.set.brands.any() {
				a.Values = st.headerBrand(src)
			}
			break
		}
		if part == "count" {
			part = "raw"
		}
		for _, name := range src.fields() {
			one := st.subject.Header(name, part)
			a.Values = append(a.Values, one.Values...)
			a.Unknown = a.Unknown || one.Unknown
		}
		if src.part == "count" {
			a.Values = []string{strconv.Itoa(len(a.Values))}
		}
	case "body":
		a.Values = []string{st.subject.Body(src.part)}
	case "envelope":
		a = st.subject.Envelope(src.part)
	case "auth":
		a = st.subject.Auth(src.part)
	case "brand":
		a = st.brand(src.part)
	case "message":
		a = st.subject.Message(src.part)
	case "symbol":
		a = st.symbol(src)
	case "time":
		a.Values = []string{clockPart(st.subject.Now(), src.part)}
	}
	s.values, s.unknown = a.Values, a.Unknown
}

// symbol gives a number, 0 where the symbol was not found; none where that can't be known.
func (st *state) symbol(src source) Answer {
	count, score, unknown := st.subject.Symbol(src.name)
	a := Answer{Unknown: unknown}
	if unknown && count == 0 {
		return a
	}
	n := count
	if src.part == "score" {
		n = int(score)
	}
	a.Values = []string{strconv.Itoa(n)}
	return a
}

func clockPart(now time.Time, part string) string {
	switch part {
	case "utc":
		return now.UTC().Format("15:04")
	case "weekday":
		return weekdays[now.Weekday()]
	}
	return now.Format("15:04")
}
