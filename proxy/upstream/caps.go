package upstream

import (
	"strconv"
	"strings"
)

// maxAttributes bounds the attributes of XCLIENT and XFORWARD that are remembered; Postfix knows nine.
const maxAttributes = 20

// parseCaps reads the reply to EHLO or LHLO (RFC 5321 section 4.1.1.1): the next hop's name, then a keyword in each line.
func parseCaps(r Reply) Caps {
	c := Caps{Extended: true}
	if len(r.Lines) == 0 {
		return c
	}
	c.Name, _, _ = strings.Cut(r.Lines[0], " ")
	for _, line := range r.Lines[1:] {
		words := strings.Fields(strings.ToUpper(line))
		if len(words) == 0 {
			continue
		}
		keyword, args := words[0], words[1:]
		if rest, ok := strings.CutPrefix(keyword, "AUTH="); ok { // an old way to write "AUTH "
			keyword, args = "AUTH", append([]string{rest}, args...)
		}
		c.add(keyword, args)
	}
	return c
}

func (c *Caps) add(keyword string, args []string) {
	switch keyword {
	case "SMTPUTF8":
		c.SMTPUTF8 = true
	case "8BITMIME":
		c.EightBit = true
	case "DSN":
		c.DSN = true
	case "PIPELINING":
		c.Pipelining = true
	case "STARTTLS":
		c.StartTLS = true
	case "REQUIRETLS":
		c.RequireTLS = true
	case "AUTH":
		c.Auth = true
	case "ENHANCEDSTATUSCODES":
		c.EnhancedStatus = true
	case "SIZE":
		c.Size = true
		if len(args) > 0 {
			if n, err := strconv.ParseInt(args[0], 10, 64); err == nil && n > 0 {
				c.MaxSize = n
			}
		}
	case "XCLIENT":
		c.XClient = args[:min(len(args), maxAttributes)]
	case "XFORWARD":
		c.XForward = args[:min(len(args), maxAttributes)]
	}
}
