package rules

import (
	"fmt"
	"strings"

	"golang.org/x/net/idna"

	"postern/rules/strict"
)

// Limits of the brands of a file.
const (
	maxBrands     = 5_000
	maxBrandNames = 1_000 // names, labels or domains of one brand
	minBrandKey   = 3     // letters of a name, without what stands between them
	maxBrandKey   = 60
)

// A Brand is a name that others like to hide behind, and the domains from which it really writes.
type Brand struct {
	Name    string
	Names   []string // what it is called in texts and in domains; where none are given, its name
	Labels  []string // what it is called in domains only, because the word is too common for texts
	Domains []string // its own, with all below them; in lower case and A-labels
	Pos     Pos
}

// UnmarshalStrict reads {names: [...], labels: [...], domains: [...]}.
func (b *Brand) UnmarshalStrict(n *strict.Node) strict.Problems {
	b.Pos = n.Pos()
	var p strict.Problems
	if n.Kind() != strict.Mapping {
		p.Addf(n.Pos(), "expected a brand like {names: [PayPal], domains: [paypal.com]}, got %s", describe(n))
		return p
	}
	var d brandDoc
	p.Add(n.Decode(&d))
	if len(n.Pairs()) == 0 {
		p.Addf(n.Pos(), "a brand without names and domains, expected {domains: [...]}")
	}
	b.Names, b.Labels = checkBrandNames(&p, "names", d.Names), checkBrandNames(&p, "labels", d.Labels)
	for _, item := range capBrand(&p, "domains", d.Domains) {
		domain := strings.ToLower(item.Text())
		if ascii, err := idna.Punycode.ToASCII(domain); err == nil {
			domain = ascii
		}
		if item.Kind() != strict.Scalar || !strings.Contains(strings.Trim(domain, "."), ".") || strings.Trim(domain, ".") != domain || strings.ContainsAny(domain, "*@/: ") {
			p.Addf(item.Pos(), "expected a domain such as paypal.com, which stands for all below it too, got %s", describe(item))
			continue
		}
		b.Domains = append(b.Domains, domain)
	}
	return p
}

// Schema is that of a brand.
func (Brand) Schema() map[string]any {
	list := object{"type": "array", "items": strict.TextSchema()}
	return closed(object{"names": list, "labels": list, "domains": list})
}

// brandDoc is a brand as the file has it.
type brandDoc struct {
	Names   []*strict.Node `yaml:"names"`
	Labels  []*strict.Node `yaml:"labels"`
	Domains []*strict.Node `yaml:"domains"`
}

func capBrand(p *strict.Problems, key string, items []*strict.Node) []*strict.Node {
	if len(items) > maxBrandNames {
		p.Addf(items[maxBrandNames].Pos(), "%d %s of one brand, expected at most %d", len(items), key, maxBrandNames)
		return items[:maxBrandNames]
	}
	return items
}

func checkBrandNames(p *strict.Problems, key string, items []*strict.Node) []string {
	var list []string
	for _, item := range capBrand(p, key, items) {
		if item.Kind() != strict.Scalar {
			p.Addf(item.Pos(), "expected a name after %s, got %s", key, describe(item))
			continue
		}
		if what := checkBrandName(item.Text()); what != "" {
			p.Addf(item.Pos(), "%s", what)
			continue
		}
		list = append(list, item.Text())
	}
	return list
}

// checkBrandName says what keeps a name from being looked for.
func checkBrandName(name string) string {
	if n := len(squash(skeletonView(name)).text); n < minBrandKey || n > maxBrandKey {
		return fmt.Sprintf("the brand name %s, expected one of %d to %d letters", quoteShort(name), minBrandKey, maxBrandKey)
	}
	return ""
}

// brands reads the brands of a file.
func (p *parser) brands(f *File, brands map[string]Brand) {
	if len(brands) > maxBrands {
		p.Addf(Pos{File: f.Name}, "%d brands, expected at most %d", len(brands), maxBrands)
		return
	}
	for _, name := range names(brands) {
		b := brands[name]
		b.Name = name
		if what := checkBrandName(name); what != "" && len(b.Names) == 0 {
			p.Addf(b.Pos, "%s", what)
		}
		f.Brands[name] = &b
	}
}

// joinBrands makes one brand of all that files say under one name, so that a site adds domains to a brand of a pack.
func joinBrands(files []*File) []*Brand {
	byName := map[string]*Brand{}
	var order []string
	for _, f := range files {
		for _, name := range names(f.Brands) {
			b, key := f.Brands[name], strings.ToLower(name)
			all := byName[key]
			if all == nil {
				all = &Brand{Name: key}
				byName[key] = all
				order = append(order, key)
			}
			all.Names = append(all.Names, b.Names...)
			all.Labels = append(all.Labels, b.Labels...)
			all.Domains = append(all.Domains, b.Domains...)
		}
	}
	brands := make([]*Brand, 0, len(order))
	for _, key := range order {
		b := byName[key]
		if len(b.Names) == 0 {
			b.Names = []string{b.Name}
		}
		brands = append(brands, b)
	}
	return brands
}

// brandWords say how a text or a domain names a brand that it does not belong to.
var brandWords = []string{
	"word",    // as a word, or as the words, of a text
	"split",   // with something between its letters: "P a y P a l", "pay-pal.example"
	"letters", // with letters that look like its own: "paypa1", "аpple" with a Cyrillic а
	"suffix",  // as the whole of a registered name, under a suffix that is not the brand's: "paypal.top"
	"label",   // as a whole label below somebody else's domain: "paypal.com.evil.example"
	"inside",  // as a piece of a longer word or label: "paypal-login.example"
	"edit",    // with one letter too many, missing, other, or two changed places: "paypall.example"
}

// adviseBrands warns about rules that ask for brands where no file names any.
func (c *compiler) adviseBrands() {
	if c.set.brands.any() {
		return
	}
	for s := range c.set.sources {
		for i := range c.set.sources[s] {
			if src := c.set.sources[s][i].source; src.asksBrands() {
				c.warnf(Pos{File: c.files[0].Name}, "%s is asked for and no file has brands: it never holds", src)
				return
			}
		}
	}
}

// asksBrands reports whether the answer comes from the brands of the files.
func (s source) asksBrands() bool {
	return s.subject == "brand" || strings.HasSuffix(s.part, "brand") || strings.HasSuffix(s.part, "brand_by")
}

// A Mailbox is an address of a header field, by its parts.
type Mailbox struct {
	Name      string // the display name, decoded
	Local     string
	Domain    string // in lower case and A-labels
	OrgDomain string // the registrable domain of Domain
}

// headerBrand answers for the parts of header fields that are about brands.
func (st *state) headerBrand(src source) []string {
	x := st.set.brands
	var found claims
	for _, field := range src.fields() {
		if src.part == "text_brand" {
			for _, v := range st.subject.Header(field, "decoded").Values {
				found.add(st.named(v, false))
			}
			continue
		}
		for _, m := range st.subject.Mailboxes(field) {
			switch src.part {
			case "name_brand", "name_brand_by":
				found.add(st.named(m.Name, true).notOf(x.owners(m.Domain)))
			case "local_brand":
				found.add(st.named(m.Local, true).notOf(x.owners(m.Domain)))
			default:
				found.add(st.domainBrand(m.Domain, m.OrgDomain))
			}
		}
	}
	return found.answer(x, strings.HasSuffix(src.part, "_by"))
}

// named are the brands that a text names.
func (st *state) named(text string, inside bool) claims {
	return st.set.brands.inText(text, skeletonView(text), inside, &st.squashed)
}

// domainBrand is what a domain looks like, found out once a message.
func (st *state) domainBrand(domain, org string) claims {
	found, known := st.domainBrands[domain]
	if !known {
		found = st.set.brands.lookalike(domain, org)
		if st.domainBrands == nil {
			st.domainBrands = map[string]claims{}
		}
		st.domainBrands[domain] = found
	}
	return found
}

// linkBrand answers for the parts of links that are about brands.
func (st *state) linkBrand(it *itemState, part string) []string {
	x := st.set.brands
	if !x.any() {
		return nil
	}
	host := first(it.item.Part("host"))
	if part == "shown_brand" {
		return st.named(first(it.item.Part("shown")), true).notOf(x.owners(host)).answer(x, false)
	}
	return st.domainBrand(host, first(it.item.Part("org_domain"))).answer(x, part == "brand_by")
}

// maxBrandText bounds the part of a message's text in which brands are looked for.
const maxBrandText = 64 << 10

// brand answers for the message as a whole.
func (st *state) brand(part string) Answer {
	x := st.set.brands
	if !x.any() {
		return Answer{}
	}
	var found claims
	var a Answer
	own := func(domains []string) {
		for _, d := range domains {
			for _, b := range x.owners(strings.ToLower(d)) {
				found.add(claims{{brand: b}})
			}
		}
	}
	switch part {
	case "sender":
		own(st.subject.Header("From", "domain").Values)
	case "proved":
		for _, method := range []string{"dkim_domain", "dmarc_domain"} {
			one := st.subject.Auth(method)
			a.Unknown = a.Unknown || one.Unknown
			own(one.Values)
		}
	case "text":
		text := st.subject.Body("text")
		if i := st.set.bodyLook; i >= 0 && len(text) <= maxBrandText {
			found.add(x.inText(text, st.values(ofMessage, i, nil).values[0], false, &st.squashed))
		} else {
			found.add(st.named(text[:min(len(text), maxBrandText)], false))
		}
	}
	a.Values = found.answer(x, false)
	return a
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
