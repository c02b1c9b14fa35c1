package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"postern/rules/strict"
)

// Limits of a file.
const (
	maxReply       = 400 // bytes of a rule's reply to a client
	maxDescription = 1000
)

// A parser gathers what is wrong with a file while it is read.
type parser struct {
	strict.Problems
	warnings strict.Problems
}

func (p *parser) warnf(pos Pos, format string, args ...any) { p.warnings.Addf(pos, format, args...) }

// fileDoc is the outline of a rule file.
type fileDoc struct {
	Pack       *packDoc         `yaml:"pack"`
	Lists      map[string]List  `yaml:"lists"`
	Conditions *strict.Node     `yaml:"conditions"`
	Brands     map[string]Brand `yaml:"brands"`
	Rules      []*strict.Node   `yaml:"rules"`
}

type packDoc struct {
	Name        string     `yaml:"name"`
	Description string     `yaml:"description"`
	Thresholds  thresholds `yaml:"thresholds"`
	Pos         Pos        `yaml:",pos"`
}

type thresholds struct {
	Tag        hundredths `yaml:"tag"`
	Quarantine hundredths `yaml:"quarantine"`
	Reject     hundredths `yaml:"reject"`
}

// hundredths reads a score.
type hundredths int32

// UnmarshalStrict reads a number of points with at most two decimals.
func (h *hundredths) UnmarshalStrict(n *strict.Node) strict.Problems {
	var p strict.Problems
	if n.Kind() != strict.Scalar || n.Quoted() {
		p.Addf(n.Pos(), "expected a score like 2.5 or -1, got %s", describe(n))
		return p
	}
	v, err := parsePoints(n.Text())
	if err != nil {
		p.Addf(n.Pos(), "%v", err)
	}
	*h = hundredths(v)
	return p
}

// Parse reads a rule file. An error is of type [strict.Problems], all of them with their positions; the file is
// returned nevertheless with what could be read of it, so that Compile can find what else is wrong, unless it is no YAML.
func Parse(file string, src []byte) (*File, error) {
	f := &File{Name: file, Lists: map[string]*List{}, Conditions: map[string]*Condition{}, Brands: map[string]*Brand{}}
	doc, err := strict.Parse(file, src)
	if err != nil {
		return nil, err
	}
	var d fileDoc
	p := &parser{Problems: doc.Decode(&d)}
	f.readPack(d.Pack)
	for _, name := range names(d.Lists) {
		list := d.Lists[name]
		list.Name = name
		if !isName(name) {
			p.Addf(list.Pos, "the list name %q, expected lower-case letters, digits and underscores", name)
		}
		f.Lists[name] = &list
	}
	p.conditions(f, d.Conditions)
	p.brands(f, d.Brands)
	seen := map[string]Pos{}
	for _, n := range d.Rules {
		r, ok := p.rule(n)
		if !ok {
			continue
		}
		if first, dup := seen[r.ID]; dup {
			p.Addf(r.Pos, "duplicate rule %s, first at %s", r.ID, first)
			continue
		}
		seen[r.ID] = r.Pos
		f.Rules = append(f.Rules, r)
	}
	f.warnings = p.warnings
	return f, p.Err()
}

func (f *File) readPack(d *packDoc) {
	if d == nil {
		return
	}
	t := d.Thresholds
	f.Pack = &Pack{
		Name: d.Name, Description: d.Description, Pos: d.Pos,
		Thresholds: Thresholds{Tag: int32(t.Tag), Quarantine: int32(t.Quarantine), Reject: int32(t.Reject)},
	}
}

func (p *parser) conditions(f *File, n *strict.Node) {
	if n == nil {
		return
	}
	if n.Kind() != strict.Mapping {
		p.Addf(n.Pos(), "expected named conditions like {from_bank: {header: From, contains: bank}}, got %s", describe(n))
		return
	}
	for _, pair := range n.Pairs() {
		name := pair.Key.Text()
		if !isName(name) {
			p.Addf(pair.Key.Pos(), "the condition name %q, expected lower-case letters, digits and underscores", name)
		}
		// One that can't be read is known by name nevertheless, so that its users are not blamed too.
		f.Conditions[name] = &Condition{Name: name, Pos: pair.Key.Pos(), when: p.cond(pair.Value)}
	}
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

// isName reports whether s can name a list or a condition.
func isName(s string) bool { return nameForm.MatchString(s) }

var idForm = regexp.MustCompile(`^[A-Z][A-Z0-9_]{1,63}$`)

// ruleDoc is a rule as the file has it.
type ruleDoc struct {
	ID          *strict.Node `yaml:"id"`
	Score       *hundredths  `yaml:"score"`
	Action      *strict.Node `yaml:"action"`
	Reply       *strict.Node `yaml:"reply"`
	Malware     bool         `yaml:"malware"`
	Refuse      bool         `yaml:"refuse"`
	Mode        *strict.Node `yaml:"mode"`
	Description *strict.Node `yaml:"description"`
	When        *strict.Node `yaml:"when"`
	Tests       []testDoc    `yaml:"tests"`
	Pos         Pos          `yaml:",pos"`
}

var actions = []string{"accept", "tag", "quarantine", "defer", "reject"}

// rule reads one rule. It returns false for one without a usable id.
func (p *parser) rule(n *strict.Node) (Rule, bool) {
	var d ruleDoc
	p.Add(n.Decode(&d))
	if n.Kind() != strict.Mapping {
		return Rule{}, false
	}
	r := Rule{Malware: d.Malware, Refuse: d.Refuse, Pos: d.Pos, print: fingerprint(n)}
	switch {
	case d.ID == nil:
		p.Addf(d.Pos, "a rule without id, expected id: NAME")
		return r, false
	case !idForm.MatchString(d.ID.Text()):
		p.Addf(d.ID.Pos(), "the rule id %s, expected capital letters, digits and underscores, such as FREEMAIL_REPLYTO", describe(d.ID))
	}
	r.ID, r.Pos = d.ID.Text(), d.ID.Pos()
	if d.Score != nil {
		r.Score = int32(*d.Score)
	}
	if d.Score == nil && d.Action == nil && !d.Malware {
		p.Addf(r.Pos, "rule %s has neither score nor action (score: 0 makes it a symbol only)", r.ID)
	}
	p.choice(&r.Action, d.Action, "action", actions)
	r.ScorePos, r.ModePos = r.Pos, r.Pos
	if at := n.Get("score"); at != nil {
		r.ScorePos = at.Pos()
	}
	if d.Mode != nil {
		r.ModePos = d.Mode.Pos()
	}
	mode := "enforce"
	p.choice(&mode, d.Mode, "mode", modeNames[:])
	r.Mode = Mode(slices.Index(modeNames[:], mode))
	p.reply(&r, d.Reply)
	p.description(&r, d.Description)
	if r.Refuse && r.Action != "reject" && r.Action != "defer" {
		p.Addf(r.Pos, "rule %s has refuse: true, expected action: reject or action: defer with it", r.ID)
	}
	if d.When == nil {
		p.Addf(r.Pos, "rule %s has no condition, expected when:", r.ID)
	} else {
		r.when = p.cond(d.When)
	}
	for i := range d.Tests {
		r.Tests = append(r.Tests, d.Tests[i].test)
	}
	return r, true
}

func (p *parser) choice(into *string, n *strict.Node, what string, known []string) {
	if n == nil {
		return
	}
	if !slices.Contains(known, n.Text()) {
		p.Addf(n.Pos(), "%s", strict.Unknown(what, n.Text(), known))
		return
	}
	*into = n.Text()
}

func (p *parser) reply(r *Rule, n *strict.Node) {
	if n == nil {
		return
	}
	r.Reply = strings.TrimSpace(n.Text())
	bad := strings.IndexFunc(r.Reply, func(c rune) bool { return c < ' ' || c > '~' })
	switch {
	case n.Kind() != strict.Scalar || r.Reply == "":
		p.Addf(n.Pos(), "expected the text of a reply, got %s", describe(n))
	case bad >= 0:
		p.Addf(n.Pos(), "the reply holds %q, expected one line of printable ASCII", []rune(r.Reply[bad:])[0])
	case len(r.Reply) > maxReply:
		p.Addf(n.Pos(), "a reply of %d bytes, expected at most %d", len(r.Reply), maxReply)
	case r.Action != "reject" && r.Action != "defer":
		p.Addf(n.Pos(), "a reply without action: reject or action: defer is told to nobody")
	}
}

func (p *parser) description(r *Rule, n *strict.Node) {
	if n == nil {
		return
	}
	r.Description = strings.TrimSpace(n.Text())
	switch {
	case n.Kind() != strict.Scalar:
		p.Addf(n.Pos(), "expected a sentence after description, got %s", describe(n))
	case len(r.Description) > maxDescription:
		p.Addf(n.Pos(), "a description of %d bytes, expected at most %d", len(r.Description), maxDescription)
	}
}

// quoteShort quotes s for a message, cut where it is long. Backslashes stay single: people compare with what they wrote.
func quoteShort(s string) string {
	s = short(s)
	if strings.ContainsRune(s, '\\') && !strings.ContainsAny(s, "'\n\r\t") {
		return "'" + strings.Map(func(r rune) rune {
			if strconv.IsPrint(r) {
				return r
			}
			return '\ufffd'
		}, s) + "'"
	}
	return strconv.Quote(s)
}

// FormatScore writes hundredths as points without trailing zeros: "2.5", "-1", "0".
func FormatScore(h int32) string {
	s := fmt.Sprintf("%.2f", float64(h)/100)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
