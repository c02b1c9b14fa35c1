// Package rulestest makes subjects for tests of rules from plain messages, as net/http/httptest makes requests.
//
// Its reader of messages is for well-formed test mail only: what the proxy gives to rules comes from a tolerant reader.
package rulestest

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"postern/rules"
)

// A Subject answers from what a test puts into it.
type Subject struct {
	Fields    []Field
	Bodies    map[string]string // by part of body
	LinkItems []rules.Item
	Files     []rules.Item
	Smtp      map[string]rules.Answer // by part of envelope
	Results   map[string]rules.Answer // by part of auth
	Facts     map[string]rules.Answer // by part of message
	Found     map[string]Count        // by symbol
	Time      time.Time

	// Asked counts how often each thing was asked for: "body text", "header From decoded", "links".
	Asked map[string]int
}

// A Field is a header field.
type Field struct{ Name, Value string }

// A Count is what was found of a symbol.
type Count struct {
	N       int
	Score   int32
	Unknown bool
}

// An Item is a link or attachment by its parts.
type Item map[string][]string

// Part returns the values of a part.
func (i Item) Part(name string) []string { return i[name] }

var _ rules.Subject = (*Subject)(nil)

// New reads a message. Line ends may be LF.
func New(message []byte) *Subject {
	s := &Subject{
		Bodies: map[string]string{}, Smtp: map[string]rules.Answer{}, Results: map[string]rules.Answer{},
		Facts: map[string]rules.Answer{}, Found: map[string]Count{}, Asked: map[string]int{},
		Time: time.Date(2024, time.May, 17, 12, 0, 0, 0, time.UTC),
	}
	src := bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	head, body, found := bytes.Cut(src, []byte("\n\n"))
	if rest, ok := bytes.CutPrefix(src, []byte("\n")); ok {
		head, body, found = nil, rest, true
	}
	s.readHeader(string(head))
	s.Facts["size"] = one(strconv.Itoa(len(message)))
	if found {
		s.Bodies["raw"] = string(body)
		s.readPart(func(name string) string { return s.first(name) }, string(body))
	}
	for _, d := range []struct{ field, word string }{{field: "Date", word: "no_date"}, {field: "From", word: "no_from"}, {field: "Message-ID", word: "no_message_id"}} {
		if s.first(d.field) == "" {
			s.defect(d.word)
		}
	}
	return s
}

// Build makes the subject of a rule's test; it is what [rules.Set.RunTests] takes.
func Build(c rules.Case) (rules.Subject, error) {
	s := New(c.Mail)
	set := func(part, v string) {
		if v != "" {
			s.Smtp[part] = one(v)
		}
	}
	if c.IP.IsValid() {
		set("ip", c.IP.String())
	}
	set("rdns", c.RDNS)
	set("helo", c.Helo)
	s.Smtp["from"] = one(c.From)
	set("from_domain", domainOf(c.From))
	s.Smtp["rcpt"] = rules.Answer{Values: c.Rcpts}
	var domains []string
	for _, r := range c.Rcpts {
		domains = append(domains, domainOf(r))
	}
	s.Smtp["rcpt_domain"] = rules.Answer{Values: domains}
	return s, nil
}

func (s *Subject) defect(word string) {
	s.Facts["defects"] = rules.Answer{Values: append(s.Facts["defects"].Values, word)}
}

func one(v string) rules.Answer { return rules.Answer{Values: []string{v}} }

func (s *Subject) readHeader(head string) {
	for line := range strings.SplitSeq(head, "\n") {
		if line != "" && (line[0] == ' ' || line[0] == '\t') && len(s.Fields) > 0 {
			s.Fields[len(s.Fields)-1].Value += " " + strings.TrimSpace(line)
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok {
			s.Fields = append(s.Fields, Field{Name: name, Value: strings.TrimSpace(value)})
		}
	}
}

func (s *Subject) first(name string) string {
	for _, f := range s.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// readPart reads a body or the part of one whose header fields get returns.
func (s *Subject) readPart(get func(string) string, body string) {
	kind, params, err := mime.ParseMediaType(get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	if strings.HasPrefix(kind, "multipart/") && params["boundary"] == "" {
		s.defect("no_boundary")
		return
	}
	if strings.HasPrefix(kind, "multipart/") {
		r := multipart.NewReader(strings.NewReader(body), params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return
			}
			b, err := io.ReadAll(p)
			if err != nil {
				return
			}
			s.readPart(p.Header.Get, string(b))
		}
	}
	text := decodeBody(get("Content-Transfer-Encoding"), body)
	disposition, dparams, _ := mime.ParseMediaType(get("Content-Disposition"))
	name := dparams["filename"]
	if name == "" {
		name = params["name"]
	}
	switch {
	case disposition == "attachment" || name != "":
		item := Item{"name": {name}, "type": {kind}, "real_type": {kind}, "size": {strconv.Itoa(len(text))}}
		if z, err := zip.NewReader(strings.NewReader(text), int64(len(text))); err == nil {
			for _, f := range z.File {
				item["inside"] = append(item["inside"], f.Name)
				if f.Flags&1 != 0 {
					item["encrypted"] = []string{"true"}
				}
			}
		}
		s.Files = append(s.Files, item)
	case kind == "text/html":
		s.Bodies["html"] += text
		s.readHTML(text)
	case kind == "text/plain":
		s.Bodies["text"] += text
		for word := range strings.FieldsSeq(text) {
			if strings.HasPrefix(word, "http://") || strings.HasPrefix(word, "https://") {
				s.addLink(word, word, "text")
			}
		}
	}
}

func decodeBody(encoding, body string) string {
	var r io.Reader = strings.NewReader(body)
	switch strings.ToLower(encoding) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, _ := io.ReadAll(r) // what can be decoded of it
	return string(b)
}

// readHTML tells shown text from hidden and collects links.
func (s *Subject) readHTML(src string) {
	z := html.NewTokenizer(strings.NewReader(src))
	href, shown, hidden := "", "", 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.StartTagToken:
			t := z.Token()
			attr := map[string]string{}
			for _, a := range t.Attr {
				attr[a.Key] = a.Val
			}
			if hidden > 0 || strings.Contains(strings.ReplaceAll(attr["style"], " ", ""), "display:none") {
				hidden++
			}
			if t.Data == "a" {
				href, shown = attr["href"], ""
			}
			if t.Data == "img" && attr["src"] != "" {
				s.addLink(attr["src"], "", "resource")
			}
		case html.EndTagToken:
			if hidden > 0 {
				hidden--
			}
			if t := z.Token(); t.Data == "a" && href != "" {
				s.addLink(href, strings.TrimSpace(shown), "html")
				href = ""
			}
		case html.TextToken:
			text := string(z.Text())
			if hidden > 0 {
				s.Bodies["hidden"] += html.UnescapeString(text)
				continue
			}
			shown += html.UnescapeString(text)
			s.Bodies["text"] += html.UnescapeString(text)
		}
	}
}

func (s *Subject) addLink(link, shown, source string) {
	u, err := url.Parse(link)
	if err != nil {
		return
	}
	host := strings.ToLower(u.Hostname())
	if ascii, err := idna.ToASCII(host); err == nil {
		host = ascii
	}
	item := Item{
		"url": {link}, "scheme": {u.Scheme}, "host": {host}, "path": {u.Path}, "shown": {shown}, "source": {source},
	}
	if org := orgDomain(u.Hostname()); org != "" {
		item["org_domain"] = []string{org}
	}
	name := shown
	if su, err := url.Parse(shown); err == nil && su.Host != "" {
		name = su.Hostname()
	}
	if org := orgDomain(name); org != "" {
		item["shown_domain"] = []string{org}
	}
	s.LinkItems = append(s.LinkItems, item)
}

func orgDomain(name string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(name))
	if err != nil || strings.ContainsAny(org, " /:") {
		return ""
	}
	return org
}

func domainOf(address string) string {
	return address[strings.LastIndexByte(address, '@')+1:]
}

func (s *Subject) asked(what string) {
	if s.Asked != nil {
		s.Asked[what]++
	}
}

// Header answers for the fields of a name.
func (s *Subject) Header(name, part string) rules.Answer {
	s.asked("header " + name + " " + part)
	var a rules.Answer
	for _, f := range s.Fields {
		if !strings.EqualFold(f.Name, name) {
			continue
		}
		switch part {
		case "raw":
			a.Values = append(a.Values, f.Value)
		case "", "decoded":
			v, err := new(mime.WordDecoder).DecodeHeader(f.Value)
			if err != nil {
				v = f.Value
			}
			a.Values = append(a.Values, v)
		default:
			list, err := mail.ParseAddressList(f.Value)
			if err != nil {
				continue
			}
			for _, addr := range list {
				if v := addressPart(addr, part); v != "" {
					a.Values = append(a.Values, v)
				}
			}
		}
	}
	return a
}

// Mailboxes gives the addresses in Fields.
func (s *Subject) Mailboxes(name string) []rules.Mailbox {
	var boxes []rules.Mailbox
	for _, f := range s.Fields {
		list, err := mail.ParseAddressList(f.Value)
		if err != nil || !strings.EqualFold(f.Name, name) {
			continue
		}
		for _, a := range list {
			domain := domainOf(a.Address)
			boxes = append(boxes, rules.Mailbox{Name: a.Name, Local: addressPart(a, "local"), Domain: domain, OrgDomain: orgDomain(domain)})
		}
	}
	return boxes
}

func addressPart(a *mail.Address, part string) string {
	domain := domainOf(a.Address)
	switch part {
	case "name":
		return a.Name
	case "local":
		return strings.TrimSuffix(a.Address, "@"+domain)
	case "domain":
		return domain
	case "org_domain":
		return orgDomain(domain)
	}
	return a.Address
}

// Body returns a part of the text.
func (s *Subject) Body(part string) string { s.asked("body " + part); return s.Bodies[part] }

// Links returns the links.
func (s *Subject) Links() []rules.Item { s.asked("links"); return s.LinkItems }

// Attachments returns the attachments.
func (s *Subject) Attachments() []rules.Item { s.asked("attachments"); return s.Files }

// Envelope answers from Smtp.
func (s *Subject) Envelope(part string) rules.Answer {
	s.asked("envelope " + part)
	return s.Smtp[part]
}

// Auth answers from Results.
func (s *Subject) Auth(part string) rules.Answer { s.asked("auth " + part); return s.Results[part] }

// Message answers from Facts.
func (s *Subject) Message(part string) rules.Answer { s.asked("message " + part); return s.Facts[part] }

// Symbol answers from Found.
func (s *Subject) Symbol(name string) (count int, score int32, unknown bool) {
	s.asked("symbol " + name)
	c := s.Found[name]
	return c.N, c.Score, c.Unknown
}

// Now returns Time.
func (s *Subject) Now() time.Time { return s.Time }
