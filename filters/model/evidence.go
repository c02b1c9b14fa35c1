package model

import (
	"math/bits"
	"path"
	"strconv"
	"strings"

	"postern/filters/message"
)

// sender is what the links and the header are compared with.
type sender struct{ domain, org string }

// header notes what the writer and the mailer put into the header. Fields that name a mail's way, its recipients or its list
// are left out: they tell where the mail was collected, not what it is.
func (x *extractor) header(m *message.Message) sender {
	from := x.addresses(m.Header)
	subject, _ := m.Header.First("Subject")
	decoded := cut(subject.Decoded(), maxField)
	x.text("subject", "subject pair", decoded)
	x.grams("subject gram", decoded)
	if subject.Name == "" {
		x.add("has", "no subject")
	}
	for _, name := range []string{"X-Mailer", "User-Agent"} {
		if f, ok := m.Header.First(name); ok {
			x.text("mailer", "mailer pair", cut(f.Decoded(), maxField))
		}
	}
	x.add("has", "mailer "+strconv.FormatBool(m.Header.Count("X-Mailer")+m.Header.Count("User-Agent") > 0))
	for _, name := range []string{"X-Priority", "Importance", "X-MSMail-Priority", "MIME-Version", "Content-Transfer-Encoding", "Content-Language"} {
		for _, f := range m.Header.All(name) {
			x.add("field", name+": "+strings.ToLower(cut(f.Value(), maxWord)))
		}
	}
	x.messageID(m.Header, from)
	x.mimeOrder(m.Header)
	return from
}

// addresses notes the author's and the reply's address, and gives the author's.
func (x *extractor) addresses(h message.Header) sender {
	field, _ := h.First("From")
	addrs, _ := message.ParseAddresses(cut(field.Value(), maxField))
	var from sender
	if len(addrs) > 0 {
		a := addrs[0]
		from.domain = message.ASCIIDomain(a.Domain)
		from.org = message.OrgDomain(a.Domain)
		x.text("name", "name pair", cut(a.Name, maxField))
		x.grams("name gram", cut(a.Name, maxWord*2))
		x.add("sender", from.org)
		x.add("sender", a.Local+"@")
		x.add("sender tld", topLevel(from.domain))
		x.add("sender shape", shape(a.Local)+"@"+shape(from.domain))
		x.text("sender word", "sender pair", a.Local+" "+from.domain)
		if a.Name == "" {
			x.add("has", "sender without name")
		}
	}
	if f, ok := h.First("Reply-To"); ok {
		replies, _ := message.ParseAddresses(cut(f.Value(), maxField))
		if len(replies) > 0 {
			org := message.OrgDomain(replies[0].Domain)
			x.add("reply", org)
			x.add("has", "reply to sender's domain: "+strconv.FormatBool(org == from.org))
		}
	}
	return from
}

func (x *extractor) messageID(h message.Header, from sender) {
	f, ok := h.First("Message-ID")
	if !ok {
		x.add("has", "no Message-ID")
		return
	}
	left, right, _ := strings.Cut(strings.Trim(f.Value(), "<> \t"), "@")
	right = message.ASCIIDomain(right)
	x.add("message-id", shape(left))
	x.add("message-id size", strconv.Itoa(bits.Len(uint(len(left)))))
	x.add("message-id domain", message.OrgDomain(right))
	x.add("has", "Message-ID of sender's domain: "+relation(right, from))
}

// relation says how a host stands to the author's domain.
func relation(host string, from sender) string {
	switch {
	case host == "" || from.domain == "":
		return "none"
	case host == from.domain:
		return "same"
	case message.OrgDomain(host) == from.org && from.org != "":
		return "organization"
	}
	return "other"
}

// mimeOrder notes in which order the mailer wrote the fields that each mailer writes in one and the same order.
func (x *extractor) mimeOrder(h message.Header) {
	var order []string
	for _, f := range h {
		switch name := strings.ToLower(f.Name); name {
		case "mime-version", "content-type", "content-transfer-encoding", "message-id", "date", "from", "subject", "to":
			if len(order) < 12 {
				order = append(order, name)
			}
			x.add("spelling", cut(f.Name, maxWord))
		}
	}
	for i := 1; i < len(order); i++ {
		x.add("order", order[i-1]+" "+order[i])
	}
}

// structure notes of what parts the message is made.
func (x *extractor) structure(m *message.Message) {
	parts := m.Parts()
	var types []string
	html, plain := false, false
	for i, p := range parts {
		if i == maxParts {
			break
		}
		types = append(types, p.Type)
		html = html || p.Type == "text/html"
		plain = plain || p.Type == "text/plain" && p.Leaf()
		x.add("part", p.Type+" "+p.Encoding+" "+p.Charset)
		if b := p.Params["boundary"]; b != "" {
			x.add("boundary", shape(b))
		}
	}
	x.add("parts", strings.Join(types[:min(len(types), 8)], " "))
	if html && !plain {
		x.add("has", "HTML without text")
	}
	for i, a := range m.Attachments() {
		if i == maxParts {
			break
		}
		x.add("attachment", a.Type+" "+a.RealType)
		x.add("attachment", strings.ToLower(cut(path.Ext(a.Name), maxWord)))
	}
	x.add("size", strconv.Itoa(bits.Len64(uint64(m.Size()))))
	x.add("text size", strconv.Itoa(bits.Len(uint(len(m.Text())))))
	x.add("HTML size", strconv.Itoa(bits.Len(uint(len(m.HTML())))))
}

// links notes where the links lead.
func (x *extractor) links(m *message.Message, from sender) {
	links := m.Links()
	x.add("links", strconv.Itoa(bits.Len(uint(len(links)))))
	same, other, images := 0, 0, 0
	for i, l := range links {
		if i == maxLinks {
			break
		}
		x.add("link", l.OrgDomain)
		x.add("link tld", topLevel(l.Host)+" "+l.Source)
		x.add("link scheme", l.Scheme+" "+l.Source)
		x.add("link path", shape(cut(l.Path, 60)))
		if l.Host != "" && l.OrgDomain == "" {
			x.add("has", "link to a bare address")
		}
		if l.Source == "resource" {
			images++
		}
		switch relation(l.Host, from) {
		case "same", "organization":
			same++
		case "other":
			other++
		}
	}
	x.add("links to sender's domain", ratio(same, other))
	x.add("images", strconv.Itoa(bits.Len(uint(images))))
}

// ratio says which of two prevails.
func ratio(a, b int) string {
	switch {
	case a+b == 0:
		return "none"
	case b == 0:
		return "all"
	case a == 0:
		return "no"
	case a >= b:
		return "most"
	}
	return "few"
}

func topLevel(host string) string { return host[strings.LastIndexByte(host, '.')+1:] }
