package proxy

import (
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/proxy/upstream"
)

// A reply is what the client is told, and, apart from it, what decided so.
type reply struct {
	filters.Reply
	by string // "relay", "upstream", "size" …: for the log
}

func refuse(by string, code int, enhanced, text string) reply {
	return reply{Reply: filters.Reply{Code: code, Enhanced: enhanced, Text: text}, by: by}
}

// fromUpstream passes a reply of the next hop on, with its code, enhanced code and text. What it lacks of these is made up.
func fromUpstream(r upstream.Reply) reply {
	by := "upstream"
	if r.Own {
		by = "parameter"
	}
	out := filters.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: strings.TrimSpace(strings.Join(r.Lines, "\n"))}
	if out.Enhanced == "" {
		out.Enhanced = strconv.Itoa(r.Code/100) + ".0.0" // we offer ENHANCEDSTATUSCODES (RFC 2034)
	}
	if out.Text == "" {
		out.Text = "Ok"
		if !r.Positive() {
			out.Text = "Refused by the mail server behind this one"
		}
	}
	return reply{Reply: out, by: by}
}

// maxReplyText bounds a reply's text: RFC 5321 section 4.5.3.1.5 allows lines of 512 octets.
const maxReplyText = 480

// err makes the error by which go-smtp is told to answer so. The enhanced code is put into each line of the text, as
// RFC 2034 section 4 wants it; go-smtp would put it into the last one only.
func (r reply) err() error {
	if r.Code == 0 { // nil would be a 250, which nobody has said
		r = refuse("internal", 451, "4.3.0", "Internal error, please try again later")
	}
	lines := strings.Split(r.Text, "\n")
	for i, line := range lines {
		line = oneLine(line)
		if r.Enhanced != "" {
			line = strings.TrimRight(r.Enhanced+" "+line, " ")
		}
		lines[i] = line
	}
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.NoEnhancedCode, Message: strings.Join(lines, "\n")}
}

// oneLine keeps what a reply line may hold: printable text, of bounded length.
func oneLine(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0xfffd {
			return -1
		}
		return c
	}, s)
	if len(s) > maxReplyText {
		s = strings.ToValidUTF8(s[:maxReplyText], "") + "…"
	}
	return s
}

func (r reply) String() string {
	return strings.TrimSpace(strconv.Itoa(r.Code) + " " + r.Enhanced + " " + oneLine(strings.ReplaceAll(r.Text, "\n", " ")))
}
