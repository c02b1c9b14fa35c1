package wire

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxReply bounds what is kept of a reply; go-smtp never writes so much.
	maxReply = 64 << 10
	// maxReplyLine is RFC 5321 section 4.5.3.1.5, without the CRLF.
	maxReplyLine = 510
)

// write collects what go-smtp answers and sends it on when a reply is complete.
func (k *link) write(p []byte) (int, error) {
	if k.over || k.leaving {
		// Not an error to go-smtp's log: whoever ended the connection has said why.
		return len(p), nil
	}
	k.out = append(k.out, p...)
	for !k.over {
		n := replyEnd(k.out)
		if n == 0 {
			break
		}
		r := bytes.Clone(k.out[:n])
		k.out = append(k.out[:0], k.out[n:]...)
		k.onReply(r)
	}
	if len(k.out) == 0 {
		k.out = nil
	}
	if len(k.out) > maxReply {
		k.bye(replyInternal, "reply too long")
	}
	return len(p), nil
}

var replyInternal = Reply{Code: 421, Enhanced: "4.3.0", Text: "Internal error, closing connection"}

// replyEnd gives the length of the first complete reply, 0 if there is none yet. Its last line has no hyphen behind the code.
func replyEnd(p []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			return 0
		}
		line := p[at : at+i]
		at += i + 1
		if len(line) < 4 || line[3] != '-' {
			return at
		}
	}
}

// code reads a reply's code, 0 if it is not well-formed.
func code(reply []byte) int {
	if len(reply) < 4 || reply[0] < '2' || reply[0] > '5' {
		return 0
	}
	n, err := strconv.Atoi(string(reply[:3]))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(reply) {
		if len(line) < 4 || !bytes.Equal(line[:3], reply[:3]) || line[3] != ' ' && line[3] != '-' {
			return 0
		}
	}
	return n
}

// onReply takes a whole reply of go-smtp, notes what it means for the dialogue, and sends it or what stands for it.
func (k *link) onReply(r []byte) {
	if k.greeting {
		k.greeting = false
		return
	}
	ex := k.inFlight
	if ex == noExchange {
		return // go-smtp answers each command once
	}
	k.inFlight = noExchange
	n := code(r)
	if n == 0 {
		r, n = []byte("451 4.3.0 Internal error\r\n"), 451
	}
	if k.data != nil && !k.data.closed {
		// The session failed (a panic) in the middle of the message.
		k.data = nil
		k.send(tidy(r))
		k.linger()
		k.end("session failed")
		return
	}
	k.data = nil
	if ex == helloAgain {
		k.greetedAgain(n, r)
		return
	}
	r = k.meaning(ex, n, r)
	k.tally(n)
	k.send(tidy(r))
	if n == 421 && !k.over {
		// RFC 5321 section 3.8: 421 says that the channel is being closed.
		k.linger()
		k.end("closed by 421")
	}
}

// meaning follows the dialogue, and puts our words where go-smtp's are fixed and poorer.
func (k *link) meaning(ex exchange, n int, r []byte) []byte {
	good := n/100 == 2
	switch ex {
	case ehloSent, heloSent:
		return k.afterGreeting(ex, good, r)
	case mailSent:
		if good {
			k.mail, k.rcpt = true, false
			return []byte("250 2.1.0 Sender ok\r\n")
		}
		return inOurWords(r)
	case rcptSent:
		if good {
			k.rcpt = true
			k.fruitless--
			return []byte("250 2.1.5 Recipient ok\r\n")
		}
		return inOurWords(r)
	case dataSent:
		if n == 354 {
			k.data = newDataReader(k.cfg)
			k.setFacts(func(f *facts) { f.dataErr = nil })
			k.inFlight = dataEnds
			break
		}
		k.refuseUnsynced()
	case dataEnds:
		k.mail, k.rcpt = false, false
		k.drained = k.l.draining.Load()
		if good {
			k.fruitless = 0
		}
	case rsetSent:
		k.mail, k.rcpt = false, false
	}
	return r
}

// theirWords are go-smtp's refusals whose code or text is not the right one, and what is said instead: RFC 5321
// section 4.1.1.11 has 555 for a parameter that is not known.
var theirWords = []struct{ theirs, ours string }{
	{"500 5.5.4 Unknown MAIL FROM argument", "555 5.5.4 A parameter of MAIL is not known here"},
	{"500 5.5.4 Unknown RCPT TO argument", "555 5.5.4 A parameter of RCPT is not known here"},
	{"504 5.5.4 REQUIRETLS is not implemented", "555 5.5.4 REQUIRETLS is not offered here"},
	{"504 5.5.4 BINARYMIME is not implemented", "555 5.5.4 BINARYMIME is not offered here"},
	{"504 5.5.4 RRVS is not implemented", "555 5.5.4 RRVS is not offered here"},
	{"504 5.5.4 BY is not implemented", "555 5.5.4 DELIVERBY is not offered here"},
	{"504 5.5.4 MT-PRIORITY is not implemented", "555 5.5.4 MT-PRIORITY is not offered here"},
	{"501 5.5.2 Was expecting MAIL arg syntax of FROM:<address>", "501 5.1.7 That is not an address, expected MAIL FROM:<local-part@domain>"},
	{"501 5.5.2 Was expecting RCPT arg syntax of TO:<address>", "501 5.1.3 That is not an address, expected RCPT TO:<local-part@domain>"},
	{"501 5.5.4 Unable to parse SIZE as an integer", "501 5.5.4 The SIZE is not a number that a message can have"},
}

// inOurWords puts a refusal of go-smtp right.
func inOurWords(r []byte) []byte {
	for _, w := range theirWords {
		if string(bytes.TrimSuffix(r, []byte("\r\n"))) == w.theirs {
			return []byte(w.ours + "\r\n")
		}
	}
	return r
}

// afterGreeting replaces the reply to HELO and EHLO: RFC 5321 section 4.1.1.1 has our name in it, not the client's.
func (k *link) afterGreeting(ex exchange, good bool, r []byte) []byte {
	// In both cases the transaction is gone (section 4.1.4).
	k.mail, k.rcpt, k.greeted = false, false, good
	var offered []string
	if good && ex == ehloSent {
		offered = k.keywords()
	}
	k.setFacts(func(f *facts) {
		f.offered = offered
		f.extended = good && ex == ehloSent
	})
	if !good {
		return r
	}
	b := append(make([]byte, 0, 256), "250 "...)
	b = append(append(b, k.cfg.Hostname...), "\r\n"...)
	last := 0
	for _, word := range offered {
		b[last+3] = '-' // the line before goes on
		last = len(b)
		b = append(append(append(b, "250 "...), word...), "\r\n"...)
	}
	return b
}

// ourKeywords are those that no upstream can have offered: our own, and, for the reasons that the package comment gives, CHUNKING,
// BINARYMIME and AUTH.
var ourKeywords = []string{"", "PIPELINING", "ENHANCEDSTATUSCODES", "STARTTLS", "XCLIENT", "CHUNKING", "BINARYMIME", "AUTH"}

// keywords composes what EHLO offers.
func (k *link) keywords() []string {
	list := append(make([]string, 0, 8), "PIPELINING")
	if k.cfg.Keywords != nil {
		for _, kw := range k.cfg.Keywords() {
			name, _, _ := strings.Cut(kw, " ")
			same := func(other string) bool {
				other, _, _ = strings.Cut(other, " ")
				return strings.EqualFold(other, name)
			}
			if !slices.ContainsFunc(ourKeywords, same) && !slices.ContainsFunc(list, same) && printable(kw) {
				list = append(list, kw)
			}
		}
	}
	if k.cfg.TLS != nil && k.facts().tls == nil {
		list = append(list, "STARTTLS")
	}
	if k.mayXClient() {
		list = append(list, xclientKeyword)
	}
	return append(list, "ENHANCEDSTATUSCODES")
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= maxReplyLine-len("250-")
}

// tally counts replies that speak of a client that does not speak SMTP: syntax and sequence, not refusals of mail.
func (k *link) tally(n int) {
	if n >= 500 && n <= 504 || n == 555 {
		k.errors.Add(1)
	}
}

// tidy makes a reply fit for the line: printable ASCII, lines of at most 512 octets with their CRLF.
func tidy(r []byte) []byte {
	out := make([]byte, 0, len(r))
	for line := range bytes.Lines(r) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > maxReplyLine {
			line = line[:maxReplyLine]
		}
		for _, c := range line {
			switch {
			case c == '\t':
				c = ' '
			case c < ' ' || c > '~':
				c = '?'
			}
			out = append(out, c)
		}
		out = append(out, '\r', '\n')
	}
	return out
}
