package rules

import (
	"context"
	"slices"
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
	asked        ruleSet           // room for toAsk
	squashed     squashed          // room for a text in which brands are looked for
}

// begin gives a state for a message, with the memory of one that was let go of, as it takes more than most messages do.
func (s *Set) begin(ctx context.Context, subject Subject) *state {
	st, ok := s.states.Get().(*state)
	if !ok {
		return newState(ctx, s, subject)
	}
	st.ctx, st.tables, st.subject = ctx, s.tables.Load(), subject
	return st
}

// What is larger is not kept for the next message.
const (
	keptItems  = 64
	keptScans  = 64
	keptSquash = 32 << 10 // octets
	keptBrands = 64
)

// letGo keeps the memory of a state for another message, and nothing of this one.
func (st *state) letGo() {
	for i := range st.sets {
		st.sets[i].reset()
	}
	for s, list := range st.lists {
		for _, it := range list {
			it.reset()
		}
		st.lists[s] = list[:0]
		if cap(list) > keptItems {
			st.lists[s] = nil
		}
	}
	clear(st.condDone)
	clear(st.ruleDone)
	clear(st.domainBrands)
	if len(st.domainBrands) > keptBrands {
		st.domainBrands = nil
	}
	if cap(st.squashed.text) > keptSquash {
		st.squashed = squashed{}
	}
	st.ctx, st.tables, st.subject, st.preset, st.listed, st.brief = nil, nil, nil, nil, [3]bool{}, false
	st.set.states.Put(st)
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
	lower   []string   // folded, made when first asked for
	scans   []lateScan // of the matcher of the source, by value, made when first asked for
	unknown bool
	loaded  bool
}

// A lateScan is what a matcher finds in a value, once it is asked.
type lateScan struct {
	match.Scan
	done bool
}

// value returns value i as comparisons need it.
func (s *valueSet) value(i int, exact bool) string {
	if exact {
		return s.values[i]
	}
	if len(s.lower) == 0 {
		for _, v := range s.values {
			s.lower = append(s.lower, foldCase(v))
		}
	}
	return s.lower[i]
}

// scan returns what the matcher of the source finds in value i.
func (s *valueSet) scan(m *matcher, i int) *match.Scan {
	if len(s.scans) == 0 {
		s.scans = slices.Grow(s.scans, len(s.values))[:len(s.values)]
	}
	scan := &s.scans[i]
	if !scan.done {
		m.set.ScanInto(&scan.Scan, s.values[i])
		scan.done = true
	}
	return &scan.Scan
}

// reset forgets what the source said.
func (s *valueSet) reset() {
	if !s.loaded {
		return
	}
	clear(s.lower)
	for i := range s.scans {
		s.scans[i].Forget()
		s.scans[i].done = false
	}
	if cap(s.scans) > keptScans {
		s.scans = nil
	}
	*s = valueSet{lower: s.lower[:0], scans: s.scans[:0]}
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

func (it *itemState) reset() {
	it.item = nil
	for i := range it.sets {
		it.sets[i].reset()
	}
}

func (st *state) items(s scope) []*itemState {
	if !st.listed[s] {
		var items []Item
		if s == ofLink {
			items = st.subject.Links()
		} else {
			items = st.subject.Attachments()
		}
		list := slices.Grow(st.lists[s], len(items))[:len(items)]
		for i, item := range items {
			if list[i] == nil {
				list[i] = &itemState{sets: make([]valueSet, len(st.set.sources[s]))}
			}
			list[i].item = item
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
