package filters

import (
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"postern/filters/message"
	"postern/rules"
)

// Links gives the links of text and HTML.
func (s *subject) Links() []rules.Item {
	if s.in.Message == nil {
		return nil
	}
	links := s.in.Message.Links()
	items := make([]rules.Item, len(links))
	for i := range links {
		items[i] = linkItem{link: &links[i]}
	}
	return items
}

type linkItem struct{ link *message.Link }

func (l linkItem) Part(name string) []string {
	switch name {
	case "url", "":
		return one(l.link.URL)
	case "host":
		return one(l.link.Host)
	case "org_domain":
		return one(l.link.OrgDomain)
	case "path":
		return one(l.link.Path)
	case "scheme":
		return one(l.link.Scheme)
	case "shown":
		return one(l.link.Shown)
	case "shown_domain":
		return one(shownDomain(l.link.Shown))
	case "source":
		return one(l.link.Source)
	case "user":
		return one(l.link.User)
	case "port":
		return numberValue(l.link.Port)
	case "idn":
		if shown := message.UnicodeDomain(l.link.Host); shown != l.link.Host {
			return one(shown)
		}
	case "tricks":
		return l.link.Tricks
	}
	return nil
}

// Attachments gives the attached files.
func (s *subject) Attachments() []rules.Item {
	if s.in.Message == nil {
		return nil
	}
	list := s.in.Message.Attachments()
	items := make([]rules.Item, len(list))
	for i := range list {
		items[i] = attachmentItem{m: s.in.Message, a: &list[i]}
	}
	return items
}

type attachmentItem struct {
	m *message.Message
	a *message.Attachment
}

func (i attachmentItem) Part(name string) []string {
	switch name {
	case "name", "":
		return one(i.a.Name)
	case "type":
		return one(i.a.Type)
	case "real_type":
		return one(i.a.RealType)
	case "size":
		return one(strconv.FormatInt(i.a.Size, 10))
	case "inside":
		return i.a.Inside
	case "encrypted":
		return flagValue(i.a.Encrypted)
	case "inline":
		return flagValue(i.a.Inline)
	case "extension":
		return one(i.a.Extension)
	case "kind":
		return i.a.Kinds
	case "inside_kind":
		return i.a.InsideKind
	case "tricks":
		return i.a.Tricks
	case "active":
		return i.m.ActiveIn(i.a.PartID)
	}
	return nil
}

func numberValue(n int) []string {
	if n == 0 {
		return nil
	}
	return []string{strconv.Itoa(n)}
}

func flagValue(set bool) []string {
	if set {
		return []string{"true"}
	}
	return nil
}

// claimedDomain is the organizational domain of an address that stands in a display name, or else of a host or URL in it:
// whose sender its reader believes to see.
func claimedDomain(name string) string {
	for word := range strings.FieldsSeq(name) {
		word = strings.Trim(word, `"'()[]<>,.;:!?`)
		if at := strings.LastIndexByte(word, '@'); at > 0 {
			if domain := message.OrgDomain(word[at+1:]); domain != "" {
				return domain
			}
		}
	}
	return shownDomain(name)
}

// shownDomain is the organizational domain of a host or URL in the text of a link: what its reader believes to open.
// A text that names none has none.
func shownDomain(shown string) string {
	for word := range strings.FieldsSeq(shown) {
		word = strings.ToLower(strings.Trim(word, `"'()[]<>,.;:!?`))
		_, rest, isURL := strings.Cut(word, "://")
		if !isURL {
			rest = word
		}
		if end := strings.IndexAny(rest, "/?#:"); end >= 0 {
			rest = rest[:end]
		}
		if strings.Contains(rest, "@") || !strings.Contains(rest, ".") || !isHostName(rest) {
			continue
		}
		if domain := message.OrgDomain(rest); domain != "" && (isURL || strings.HasPrefix(rest, "www.") || knownSuffix(rest)) {
			return domain
		}
	}
	return ""
}

// knownSuffix reports whether a name ends in a suffix of the public list, so that "e.g." and "file.txt" are no hosts.
func knownSuffix(name string) bool {
	_, icann := publicsuffix.PublicSuffix(name)
	return icann
}
