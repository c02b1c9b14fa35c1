package message

import (
	"bytes"
	"strings"
)

// DecodeWords decodes the encoded words in a field's value (RFC 2047): "=?charset?B?text?=" in base64 and "=?charset?Q?text?=" in
// a kind of quoted-printable. White space between two encoded words goes. It is more tolerant than the RFC: words may be
// longer than 75 octets, touch other text, hold spaces, and split a character between them. The result is valid UTF-8.
// ok is false if a word had an unknown charset or was not rightly encoded.
func DecodeWords(value string) (text string, ok bool) {
	ok = true
	if !strings.Contains(value, "=?") {
		text, _ = decodeCharset([]byte(value), "")
		return text, true
	}
	var out strings.Builder
	var run wordRun // the adjacent words of one charset, not yet decoded
	flush := func() {
		text, good := run.decode()
		ok = ok && good
		out.WriteString(text)
		run = wordRun{}
	}
	plain := 0 // where text that is in no word begins
	end := 0   // a "?=" is known to be here, or none before it
	for i := 0; ; {
		j := strings.Index(value[i:], "=?")
		if j < 0 {
			break
		}
		start := i + j
		var w word
		w, end = cutWord(value, start, end)
		if w.end == 0 {
			i = start + 2
			continue
		}
		between := value[plain:start]
		if !run.open || strings.Trim(between, " \t\r\n") != "" {
			flush()
			text, _ := decodeCharset([]byte(between), "")
			out.WriteString(text)
		}
		if run.open && !strings.EqualFold(run.charset, w.charset) {
			flush()
		}
		run.add(w)
		i, plain = w.end, w.end
	}
	flush()
	text, _ = decodeCharset([]byte(value[plain:]), "")
	out.WriteString(text)
	return out.String(), ok
}

// A word is one encoded word.
type word struct {
	charset, text string
	base64        bool
	end           int // where it ends in the value; 0 if there is none
}

// cutWord reads the encoded word that begins at start. known is where the next "?=" is, if that is known; it gives the
// one that it found, so that a value full of beginnings without an end is searched through but once.
func cutWord(value string, start, known int) (word, int) {
	s := value[start+2:]
	q := strings.IndexByte(s[:min(len(s), 80)], '?')
	if q <= 0 || len(s) < q+3 || s[q+2] != '?' {
		return word{}, known
	}
	charset, _, _ := strings.Cut(s[:q], "*") // RFC 2231 section 5: a language may follow
	encoding := s[q+1] | 0x20
	if encoding != 'b' && encoding != 'q' || strings.ContainsAny(charset, " \t\"") {
		return word{}, known
	}
	text := start + 2 + q + 3
	if known < text {
		n := strings.Index(value[text:], "?=")
		if n < 0 {
			n = len(value)
		}
		known = text + n
	}
	if known >= len(value) {
		return word{}, known
	}
	return word{charset: charset, text: value[text:known], base64: encoding == 'b', end: known + 2}, known
}

// A wordRun is a run of adjacent words of the same charset. Their bytes are put together before the charset is decoded, since
// many senders cut characters in two.
type wordRun struct {
	open    bool
	charset string
	bytes   []byte
	bad     bool
}

func (r *wordRun) add(w word) {
	r.open, r.charset = true, w.charset
	if w.base64 {
		var d base64Decoder
		r.bytes = d.decode(r.bytes, []byte(w.text))
		r.bytes = d.finish(r.bytes)
		r.bad = r.bad || d.junk > 0
		return
	}
	var d qpDecoder
	r.bytes = d.decode(r.bytes, bytes.ReplaceAll([]byte(w.text), []byte("_"), []byte(" ")))
	r.bytes = d.finish(r.bytes)
	r.bad = r.bad || d.junk > 0
}

func (r *wordRun) decode() (string, bool) {
	if !r.open {
		return "", true
	}
	text, ok := decodeCharset(r.bytes, r.charset)
	return text, ok && !r.bad
}
