package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/message"
)

// trace is what our Received field tells about one transaction (RFC 5321 section 4.4).
type trace struct {
	helo     string
	rdns     string // confirmed; "" for none
	client   filters.Client
	extended bool
	utf8     bool
	id       string
	rcpt     string // the only recipient; "" when there are several
	hostname string
	now      time.Time
}

// received makes the Received field. What the client said is reduced to characters that cannot leave their place.
func (t trace) received() message.Field {
	b := make([]byte, 0, 512)
	add := func(words ...string) {
		for _, w := range words {
			b = append(b, w...)
		}
	}
	add("Received: from ", plainWord(t.helo), " (", plainWord(t.rdns), " [", addressLiteral(t.client), "])\r\n")
	add("\tby ", t.hostname, " (Postern) with ", t.protocol(), " id ", t.id)
	if t.client.TLS != nil {
		add("\r\n\t(TLS ", filters.TLSName(t.client.TLS.Version), ", ", tls.CipherSuiteName(t.client.TLS.CipherSuite), ")")
	}
	if t.rcpt != "" {
		add("\r\n\tfor <", t.rcpt, ">")
	}
	add(";\r\n\t")
	b = t.now.AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 -0700")
	add("\r\n")
	return message.Field{Name: "Received", Raw: b}
}

// protocol is the transmission type (RFC 3848, RFC 6531 section 4.3).
func (t trace) protocol() string {
	name := "SMTP"
	if t.extended {
		name = "ESMTP"
	}
	if t.utf8 {
		name = "UTF8SMTP"
	}
	if t.client.TLS != nil {
		name += "S"
	}
	return name
}

// plainWord keeps letters, digits and what host names and address literals hold; anything else becomes "?".
func plainWord(s string) string {
	if s == "" {
		return "unknown"
	}
	for i := range len(s) {
		if isPlain(rune(s[i])) {
			continue
		}
		return strings.Map(func(r rune) rune {
			if isPlain(r) {
				return r
			}
			return '?'
		}, s)
	}
	return s
}

func isPlain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:[]", r)
}

func addressLiteral(c filters.Client) string {
	switch {
	case !c.IP.IsValid():
		return "unknown"
	case c.IP.Is6():
		return "IPv6:" + c.IP.String()
	}
	return c.IP.String()
}

// spamFields makes the X-Spam fields. Without a verdict that tags, X-Spam-Flag is not written; in observe mode the
// status says what would have been done.
func spamFields(v filters.Verdict, tag filters.Score) []message.Field {
	var fields []message.Field
	if v.Action == filters.Tag || v.Action == filters.Quarantine {
		fields = append(fields, message.NewField("X-Spam-Flag", "YES"))
	}
	fields = append(fields, message.NewField("X-Spam-Score", v.Score.String()))
	if stars := int(v.Score / 100); stars > 0 {
		fields = append(fields, message.NewField("X-Spam-Level", strings.Repeat("*", min(stars, 50))))
	}
	return append(fields, message.NewField("X-Spam-Status", spamStatus(v, tag)))
}

// maxTests bounds how many findings the status names; the log has them all.
const maxTests = 50

func spamStatus(v filters.Verdict, tag filters.Score) string {
	var b strings.Builder
	word := "No"
	if v.Action >= filters.Tag || v.Would >= filters.Tag {
		word = "Yes"
	}
	fmt.Fprintf(&b, "%s, score=%s required=%s tests=", word, v.Score, tag)
	shown := 0
	for _, f := range v.Findings {
		if f.Shadow || f.Score == 0 && f.Force == filters.NoAction {
			continue
		}
		if shown++; shown > maxTests {
			break
		}
		if shown > 1 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s:%s", f.Symbol, f.Score)
	}
	if shown == 0 {
		b.WriteString("none")
	}
	if v.Would != filters.NoAction {
		fmt.Fprintf(&b, " observed=%s", v.Would)
	}
	return b.String()
}

// claimsOurs reports whether an incoming field says that we wrote it: an X-Spam field, or an
// Authentication-Results field with our authserv-id (RFC 8601 section 5).
func claimsOurs(f message.Field, authservID string) bool {
	if len(f.Name) >= 7 && strings.EqualFold(f.Name[:7], "X-Spam-") {
		return true
	}
	if !strings.EqualFold(f.Name, "Authentication-Results") {
		return false
	}
	return filters.ClaimsAuthservID(f.Value(), authservID)
}

// A filtered message is the client's bytes without the fields that claim to be ours, and in their order.
type filtered struct {
	src      io.ReaderAt
	keep     []span
	Stripped []int // indexes into the header of the fields that were left out
}

type span struct{ from, to int64 }

// stripOurs finds the fields to leave out.
func stripOurs(src io.ReaderAt, msg *message.Message, authservID string) filtered {
	f := filtered{src: src}
	offset, start := int64(0), int64(0)
	for i, field := range msg.Header {
		end := offset + int64(len(field.Raw))
		if claimsOurs(field, authservID) {
			f.Stripped = append(f.Stripped, i)
			f.keep = appendSpan(f.keep, start, offset)
			start = end
		}
		offset = end
	}
	f.keep = appendSpan(f.keep, start, msg.Size())
	return f
}

// cut leaves out the fields of that name too.
func (f *filtered) cut(msg *message.Message, name string) {
	offset := int64(0)
	var keep []span
	next := 0
	for _, field := range msg.Header {
		end := offset + int64(len(field.Raw))
		if strings.EqualFold(field.Name, name) {
			for ; next < len(f.keep) && f.keep[next].to <= offset; next++ {
				keep = append(keep, f.keep[next])
			}
			if next < len(f.keep) && f.keep[next].from <= offset && end <= f.keep[next].to {
				keep = appendSpan(keep, f.keep[next].from, offset)
				f.keep[next].from = end
			}
		}
		offset = end
	}
	for _, s := range f.keep[next:] {
		keep = appendSpan(keep, s.from, s.to)
	}
	f.keep = keep
}

func appendSpan(list []span, from, to int64) []span {
	if from == to {
		return list
	}
	return append(list, span{from: from, to: to})
}

// Size is the number of bytes that are left.
func (f filtered) Size() int64 {
	n := int64(0)
	for _, s := range f.keep {
		n += s.to - s.from
	}
	return n
}

// Reader reads what is left, from its start.
func (f filtered) Reader() io.Reader {
	if len(f.keep) == 1 {
		return io.NewSectionReader(f.src, f.keep[0].from, f.keep[0].to-f.keep[0].from)
	}
	readers := make([]io.Reader, len(f.keep))
	for i, s := range f.keep {
		readers[i] = io.NewSectionReader(f.src, s.from, s.to-s.from)
	}
	return io.MultiReader(readers...)
}

// joinFields is the block that is prepended.
func joinFields(fields []message.Field) []byte {
	var block []byte
	for _, f := range fields {
		block = append(block, f.Raw...)
	}
	return block
}

// strippedSigned lists the names of the removed fields that a verified signature covered, for the log.
func strippedSigned(msg *message.Message, stripped []int, covered func(index int) bool) []string {
	var names []string
	for _, i := range stripped {
		if name := msg.Header[i].Name; covered(i) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
