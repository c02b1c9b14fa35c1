package rules

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// A brandIndex finds brands in texts and domains. Names are looked up by hash, so that the work goes with the length of
// the text and not with the number of brands.
//
// All is compared as it looks (the view skeleton), with what is no letter or digit left out, and with "rn" and "vv" taken for
// the m and w that they look like.
type brandIndex struct {
	brands  []*Brand
	domains map[string][]int32     // the brands whose own domain it is
	keys    map[string]*brandKey   // by what a name looks like
	heads   map[[3]byte][]int      // the lengths of the keys that begin so
	maybe   [1 << 9]uint64         // by a hash of them, whether there may be such heads
	near    map[string][]*brandKey // keys, and keys without one of their letters
}

// A brandKey is a name as it looks.
type brandKey struct {
	look      string
	plain     []string // the name as it is spelled, in lower case, without what stands between its letters
	words     int
	spaceless bool    // of a script that writes no spaces, so it needs no ends of words around it
	named     []int32 // the brands that it names in texts and domains
	labelled  []int32 // and in domains only
}

// Keys shorter than these are in too many other words.
const (
	minInside  = 6
	minSimilar = 8 // within a word, by letters that look alike: "kestrelcloud" is not after iCloud
	minEdit    = 6
)

func newBrandIndex(brands []*Brand) *brandIndex {
	x := &brandIndex{
		brands: brands, domains: map[string][]int32{}, keys: map[string]*brandKey{}, heads: map[[3]byte][]int{}, near: map[string][]*brandKey{},
	}
	for i, b := range brands {
		n := int32(i)
		for _, d := range b.Domains {
			x.domains[d] = addOnce(x.domains[d], n)
		}
		for _, name := range b.Names {
			if k := x.key(name); k != nil {
				k.named = addOnce(k.named, n)
			}
		}
		for _, name := range b.Labels {
			if k := x.key(name); k != nil {
				k.labelled = addOnce(k.labelled, n)
			}
		}
	}
	return x
}

func addOnce[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// key gives the key of a name, a new one where there is none yet; nil for a name that is too short.
func (x *brandIndex) key(name string) *brandKey {
	s := squash(skeletonView(name))
	look := string(s.text)
	if len(look) < minBrandKey {
		return nil
	}
	k := x.keys[look]
	if k == nil {
		k = &brandKey{look: look, words: s.words, spaceless: spaceless(look)}
		x.keys[look] = k
		head := [3]byte([]byte(look[:3]))
		x.heads[head] = addOnce(x.heads[head], len(look))
		word, bit := headBit(look[0], look[1], look[2])
		x.maybe[word] |= bit
		if len(look) >= minEdit && isASCII(look) {
			x.near[look] = addOnce(x.near[look], k)
			for i := range len(look) {
				less := look[:i] + look[i+1:]
				x.near[less] = addOnce(x.near[less], k)
			}
		}
	}
	k.words = max(k.words, s.words)
	k.plain = addOnce(k.plain, plainLetters(name))
	k.plain = addOnce(k.plain, plainLetters(withoutAccents(name))) // as many write it who have no such keys
	return k
}

// headBit is where the bit of a head stands.
func headBit(a, b, c byte) (word int, bit uint64) {
	h := uint32(a)<<10 ^ uint32(b)<<5 ^ uint32(c)
	return int(h >> 6 & (1<<9 - 1)), 1 << (h & 63)
}

func (x *brandIndex) any() bool { return x != nil && len(x.brands) > 0 }

// owners are the brands to which a domain belongs.
func (x *brandIndex) owners(domain string) []int32 {
	for range 128 { // a DNS name has at most 127 labels
		if list := x.domains[domain]; list != nil {
			return list
		}
		_, rest, ok := strings.Cut(domain, ".")
		if !ok {
			break
		}
		domain = rest
	}
	return nil
}

// A claim says that a brand is named, and how: one of brandWords.
type claim struct {
	brand int32
	how   string
}

// claims are those of one text or domain, or of several.
type claims []claim

func (c *claims) add(more claims) {
	for _, m := range more {
		*c = addOnce(*c, m)
	}
}

// notOf leaves out the claims to which somebody is entitled.
func (c claims) notOf(owners []int32) claims {
	if len(owners) == 0 {
		return c
	}
	return slices.DeleteFunc(c, func(one claim) bool { return slices.Contains(owners, one.brand) })
}

// answer gives the names of the brands, or how they are named.
func (c claims) answer(x *brandIndex, how bool) []string {
	var list []string
	for _, one := range c {
		if how {
			list = addOnce(list, one.how)
		} else {
			list = addOnce(list, x.brands[one.brand].Name)
		}
	}
	return list
}

// maxClaims bounds what is found in one text.
const maxClaims = 32

// inText finds the brands that a text names; inside says that a piece of a longer word will do. s has room for the text.
func (x *brandIndex) inText(text, look string, inside bool, s *squashed) claims {
	if !x.any() || text == "" {
		return nil
	}
	s.read(look)
	plain := ""
	var found claims
	x.scan(s, inside, func(k *brandKey, from, to int) bool {
		if len(k.named) == 0 {
			return true
		}
		if plain == "" {
			plain = plainLetters(text)
		}
		how := "word"
		within := !s.wordAt(from, to) && !k.spaceless
		switch {
		case within && len(k.look) < minSimilar && !k.spelledIn(plain):
			return true
		case !k.spelledIn(plain):
			how = "letters"
		case within:
			how = "inside"
		case s.span(from, to) > k.words:
			how = "split"
		}
		for _, b := range k.named {
			found.add(claims{{brand: b, how: how}})
		}
		return len(found) < maxClaims
	})
	return found
}

// lookalike finds the brands whose name a domain bears, though it is none of theirs. Whoever has a brand's domain of his own
// is not suspected of being after another's.
func (x *brandIndex) lookalike(domain, org string) claims {
	if !x.any() || org == "" || len(domain) > 253 || len(x.owners(domain)) > 0 {
		return nil
	}
	own, suffix, _ := strings.Cut(org, ".")
	below := strings.TrimSuffix(strings.TrimSuffix(domain, suffix), ".") // the labels that somebody chose
	var found claims
	for i, label := range strings.Split(below, ".") {
		if i == maxLabels {
			break
		}
		whole := "label"
		if label == own && strings.HasSuffix(below, label) {
			whole = "suffix"
		}
		found.add(x.inLabel(label, whole))
	}
	return found
}

// maxLabels bounds the labels of a domain that are looked at, from the left, where the reader looks.
const maxLabels = 12

// inLabel finds the brands that a label bears; whole is what a label is called that is nothing but the brand. What is one edit away is
// looked for in registered names only: below these, words like "cloud" stand for themselves.
func (x *brandIndex) inLabel(label, whole string) claims {
	if len(label) < minBrandKey {
		return nil
	}
	if strings.HasPrefix(label, "xn--") {
		if u, err := idna.Punycode.ToUnicode(label); err == nil {
			label = u
		}
	}
	s := squash(skeletonView(label))
	plain := ""
	var found claims
	x.scan(s, true, func(k *brandKey, from, to int) bool {
		if plain == "" {
			plain = plainLetters(label)
		}
		how := "inside"
		within := !s.wordAt(from, to) && !k.spaceless
		switch {
		case within && len(k.look) < minSimilar && !k.spelledIn(plain):
			return true
		case !k.spelledIn(plain):
			how = "letters"
		case from == 0 && to == len(s.text) && s.words > k.words:
			how = "split"
		case from == 0 && to == len(s.text):
			how = whole
		}
		found.add(k.claims(how, !within))
		return len(found) < maxClaims
	})
	if bare := strings.TrimFunc(label, unicode.IsDigit); len(found) == 0 && bare != label && bare != "" {
		// A brand and a number: look-alike letters apart, in which the number would be letters.
		if k := x.keys[string(squash(skeletonView(bare)).text)]; k != nil {
			found.add(k.claims("inside", true))
		}
	}
	if whole == "suffix" && !slices.ContainsFunc(found, func(c claim) bool { return c.how != "inside" }) {
		if edited := x.oneEdit(s.text); len(edited) > 0 {
			return edited // "paypall" says more than that it has "paypal" in it
		}
	}
	return found
}

// claims are those of all that the key names, and labels if so wished.
func (k *brandKey) claims(how string, labels bool) claims {
	var c claims
	for _, b := range k.named {
		c.add(claims{{brand: b, how: how}})
	}
	if labels {
		for _, b := range k.labelled {
			c.add(claims{{brand: b, how: how}})
		}
	}
	return c
}

func (k *brandKey) spelledIn(plain string) bool {
	return slices.ContainsFunc(k.plain, func(p string) bool { return strings.Contains(plain, p) })
}

// oneEdit finds the keys from which a label is one edit away: a letter more, less or other, or two that changed places. All of
// these become equal when each side loses one letter or none, so the keys that lost one are in the table.
func (x *brandIndex) oneEdit(label []byte) claims {
	if len(label) < minEdit-1 || len(label) > maxBrandKey+1 {
		return nil
	}
	var found claims
	try := func(list []*brandKey) {
		for _, k := range list {
			if isOneEdit(label, k.look) {
				found.add(k.claims("edit", true))
			}
		}
	}
	try(x.near[string(label)])
	less := make([]byte, len(label)-1)
	for i := range label {
		copy(less, label[:i])
		copy(less[i:], label[i+1:])
		try(x.near[string(less)])
	}
	return found
}

// isOneEdit compares in one pass.
func isOneEdit(a []byte, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	restA, restB := string(a[i:]), b[i:]
	switch {
	case restA == "" && restB == "":
		return false
	case len(restA) == len(restB)+1:
		return restA[1:] == restB
	case len(restB) == len(restA)+1:
		return restB[1:] == restA
	case len(restA) != len(restB):
		return false
	case restA[1:] == restB[1:]:
		return true
	}
	return len(restA) > 1 && restA[0] == restB[1] && restA[1] == restB[0] && restA[2:] == restB[2:]
}

// scan calls fn for each key in a text, until it returns false.
func (x *brandIndex) scan(s *squashed, inside bool, fn func(k *brandKey, from, to int) bool) {
	for from := 0; from+minBrandKey <= len(s.text); from++ {
		if !inside && s.text[from] < utf8.RuneSelf && from > 0 && s.wordOf[from-1] == s.wordOf[from] {
			continue // a word that is written with spaces around it begins at its beginning
		}
		if word, bit := headBit(s.text[from], s.text[from+1], s.text[from+2]); x.maybe[word]&bit == 0 {
			continue
		}
		lengths := x.heads[[3]byte(s.text[from:from+3])]
		for _, n := range lengths {
			to := from + n
			if to > len(s.text) {
				continue
			}
			k := x.keys[string(s.text[from:to])]
			if k != nil && k.fits(s, from, to, inside) && !fn(k, from, to) {
				return
			}
		}
	}
}

// fits reports whether what stands there is the key, and not a piece of other words.
func (k *brandKey) fits(s *squashed, from, to int, inside bool) bool {
	span := s.span(from, to)
	switch {
	case k.spaceless:
		return true
	case s.wordAt(from, to):
		return span <= k.words || len(k.look) >= minInside || span == to-from
	}
	return inside && span == 1 && len(k.look) >= minInside
}

// A squashed text is its letters and digits alone.
type squashed struct {
	text   []byte
	wordOf []int32 // the number of the word, by octet
	words  int
}

// squash leaves out of a text in the view skeleton what is no letter or digit.
func squash(skeleton string) *squashed {
	s := new(squashed)
	s.read(skeleton)
	return s
}

// read is squash with memory that was used before.
func (s *squashed) read(skeleton string) {
	*s = squashed{text: slices.Grow(s.text[:0], len(skeleton)), wordOf: slices.Grow(s.wordOf[:0], len(skeleton))}
	in := false // a word
	for _, r := range skeleton {
		if r < utf8.RuneSelf && (r < '0' || r > '9') && (r < 'a' || r > 'z') || r >= utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			in = false
			continue
		}
		if !in {
			s.words++
			in = true
		}
		s.put(r, int32(s.words))
	}
}

func (s *squashed) put(r rune, word int32) {
	if last := len(s.text) - 1; last >= 0 && s.wordOf[last] == word {
		switch {
		case r == 'n' && s.text[last] == 'r':
			s.text[last] = 'm'
			return
		case r == 'v' && s.text[last] == 'v':
			s.text[last] = 'w'
			return
		}
	}
	before := len(s.text)
	s.text = utf8.AppendRune(s.text, r)
	for range len(s.text) - before {
		s.wordOf = append(s.wordOf, word)
	}
}

// span is over how many words a piece goes.
func (s *squashed) span(from, to int) int { return int(s.wordOf[to-1]-s.wordOf[from]) + 1 }

// wordAt reports whether a piece begins and ends with a word.
func (s *squashed) wordAt(from, to int) bool {
	return (from == 0 || s.wordOf[from-1] != s.wordOf[from]) && (to == len(s.text) || s.wordOf[to] != s.wordOf[to-1])
}

// plainLetters are the letters and digits of a text, in lower case and otherwise as they are spelled.
func plainLetters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, text)
}

func withoutAccents(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(s))
}

// spaceless reports whether a name is of a script that puts no spaces between words.
func spaceless(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
	})
}
