package model

import (
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"postern/filters/message"
)

// Buckets is how many weights a model has: a feature's hash is cut to this many.
const Buckets = 1 << bucketBits

const bucketBits = 18

// A group is a kind of evidence. Each is normalised by itself, so that the thousands of features of a long text don't drown
// the few of a header.
type group uint8

const (
	formGroup group = iota // header, structure, links
	textGroup              // words of the visible text
	gramGroup              // runs of characters of the visible text
	groups
)

// groupWeights say how much each group tells beside the others, found by cross-validation.
var groupWeights = [groups]float32{formGroup: 1, textGroup: 0.7, gramGroup: 0.3}

// Limits of what is read of one message. What lies beyond says the same again, or is there to drown what lies before.
const (
	maxText  = 16 << 10 // octets of visible text
	maxGrams = 4 << 10  // octets of visible text of which runs of characters are taken
	maxWord  = 40       // octets of a word; the rest of a longer one is left out
	maxField = 512      // octets of a header field's value
	maxLinks = 50
	maxParts = 30
)

// Features are the buckets of what a message has, by group, each once, in rising order.
type Features [groups][]uint32

// extractor gathers the features of one message. Its memory is used again for the next.
type extractor struct {
	seen  [Buckets / 64]uint64
	found Features
	group group
	name  func(bucket uint32, kind, text string) // for explanations; nil in the fast path
	lower []byte
	words []span // of lower
}

// span is a piece of a text.
type span struct{ from, to int }

var extractors = sync.Pool{New: func() any { return new(extractor) }}

// Extract gives the features of a message. The result is the caller's.
func Extract(m *message.Message) Features { return extract(m, nil) }

func extract(m *message.Message, name func(bucket uint32, kind, text string)) Features {
	x := extractors.Get().(*extractor)
	x.name = name
	x.read(m)
	var out Features
	for g := range x.found {
		out[g] = append([]uint32(nil), x.found[g]...)
		slices.Sort(out[g])
		for _, b := range x.found[g] {
			x.seen[b/64] = 0
		}
		x.found[g] = x.found[g][:0]
	}
	x.name = nil
	extractors.Put(x)
	return out
}

// read gathers everything. The kinds of features are listed in the package comment.
func (x *extractor) read(m *message.Message) {
	x.group = formGroup
	from := x.header(m)
	x.structure(m)
	x.links(m, from)
	if m.Hidden() != "" {
		x.add("has", "hidden text")
	}
	text := m.Text()
	x.group = textGroup
	x.text("word", "pair", cut(text, maxText))
	x.group = gramGroup
	x.grams("gram", cut(text, maxGrams))
}

// The FNV-1a hash, 64 bits.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

func hashBytes(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * hashPrime
	}
	return h
}

// bucket folds a hash, whose upper bits are the better mixed ones.
func bucket(h uint64) uint32 {
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return uint32(h >> (64 - bucketBits))
}

// put notes a bucket once and reports whether it was new.
func (x *extractor) put(b uint32) bool {
	if bit := uint64(1) << (b % 64); x.seen[b/64]&bit == 0 {
		x.seen[b/64] |= bit
		x.found[x.group] = append(x.found[x.group], b)
		return true
	}
	return false
}

// add notes the feature text of a kind.
func (x *extractor) add(kind, text string) {
	b := bucket(hashString(hashString(hashStart, kind)*hashPrime, text))
	x.put(b)
	if x.name != nil {
		x.name(b, kind, text)
	}
}

// addPair notes the feature of two texts beside each other.
func (x *extractor) addPair(kind string, a, b []byte) {
	h := hashBytes(hashString(hashStart, kind)*hashPrime, a)
	n := bucket(hashBytes((h^' ')*hashPrime, b))
	x.put(n)
	if x.name != nil {
		x.name(n, kind, string(a)+" "+string(b))
	}
}

func (x *extractor) addBytes(kind string, text []byte) {
	b := bucket(hashBytes(hashString(hashStart, kind)*hashPrime, text))
	x.put(b)
	if x.name != nil {
		x.name(b, kind, string(text))
	}
}

// text notes the words of a text and each two that follow each other.
func (x *extractor) text(word, pair, text string) {
	x.split(text)
	for i, w := range x.words {
		x.addBytes(word, x.lower[w.from:w.to])
		if i > 0 {
			last := x.words[i-1]
			x.addPair(pair, x.lower[last.from:last.to], x.lower[w.from:w.to])
		}
	}
}

// split makes words of a text: runs of letters, digits and what holds a word or an amount together, in lower case. Digits
// become "0", since numbers seldom come again but their shapes do.
func (x *extractor) split(text string) {
	x.lower, x.words = x.lower[:0], x.words[:0]
	start := 0
	end := func() {
		if n := len(x.lower); n > start {
			x.words = append(x.words, span{from: start, to: min(n, start+maxWord)})
		}
		start = len(x.lower)
	}
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case 'a' <= c && c <= 'z', c == '\'', c == '$', c == '%':
				x.lower = append(x.lower, c)
			case 'A' <= c && c <= 'Z':
				x.lower = append(x.lower, c|0x20)
			case '0' <= c && c <= '9':
				x.lower = append(x.lower, '0')
			case c == '!':
				end()
				x.lower = append(x.lower, c)
				end()
			default:
				end()
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		switch {
		case unicode.IsLetter(r) || unicode.IsMark(r):
			x.lower = utf8.AppendRune(x.lower, unicode.ToLower(r))
		case unicode.IsDigit(r):
			x.lower = append(x.lower, '0')
		case unicode.IsSpace(r) || unicode.IsPunct(r):
			end()
		default: // signs, pictures: words of their own
			end()
			x.lower = utf8.AppendRune(x.lower, r)
			end()
		}
	}
	end()
}

// gramSize is how many characters make a run.
const gramSize = 4

// grams notes all runs of gramSize characters of a text, in lower case and with one space for what is no letter.
func (x *extractor) grams(kind, text string) {
	b := x.lower[:0]
	space := true
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case 'A' <= c && c <= 'Z':
				c |= 0x20
			case '0' <= c && c <= '9':
				c = '0'
			case c <= ' ':
				c = ' '
			}
			if c == ' ' && space {
				continue
			}
			space = c == ' '
			b = append(b, c)
			continue
		}
		r, n := utf8.DecodeRuneInString(text[i:])
		i += n
		space = false
		b = utf8.AppendRune(b, unicode.ToLower(r))
	}
	x.lower = b
	start := hashString(hashStart, kind) * hashPrime
	var ring [gramSize]int
	for at, n := 0, 0; at < len(b); n++ {
		if n >= gramSize-1 {
			first := ring[(n+1)%gramSize]
			_, w := utf8.DecodeRune(b[at:])
			k := bucket(hashBytes(start, b[first:at+w]))
			x.put(k)
			if x.name != nil {
				x.name(k, kind, string(b[first:at+w]))
			}
		}
		ring[n%gramSize] = at
		if b[at] < utf8.RuneSelf {
			at++
		} else {
			_, w := utf8.DecodeRune(b[at:])
			at += w
		}
	}
}

// cut shortens a text to n octets, between characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// shape tells what a token looks like: letters become a or A, digits 0, each run once.
func shape(s string) string {
	var b strings.Builder
	var last rune
	for _, r := range cut(s, maxField) {
		switch {
		case unicode.IsDigit(r):
			r = '0'
		case unicode.IsUpper(r):
			r = 'A'
		case unicode.IsLetter(r):
			r = 'a'
		}
		if r != last && b.Len() < maxWord {
			b.WriteRune(r)
		}
		last = r
	}
	return b.String()
}
