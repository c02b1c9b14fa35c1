package filters

import (
	"strconv"
	"strings"
	"time"

	"postern/filters/message"
	"postern/rules"
)

// Message answers about the message as a whole.
func (s *subject) Message(part string) rules.Answer {
	m := s.in.Message
	if m == nil {
		return rules.Answer{Unknown: true}
	}
	switch part {
	case "size":
		return values(strconv.FormatInt(m.Size(), 10))
	case "parts":
		return values(strconv.Itoa(len(m.Parts())))
	case "script":
		return rules.Answer{Values: m.Scripts()}
	case "language":
		return rules.Answer{Values: one(m.Language())}
	case "field_names":
		return values(fieldNames(m.Header))
	case "date_ahead":
		return rules.Answer{Values: dateAhead(m, s.in.Now)}
	case "active":
		return rules.Answer{Values: m.Active()}
	case "hidden_by":
		return rules.Answer{Values: m.HiddenBy()}
	case "invisible":
		return values(strconv.Itoa(m.Disguise().Invisible))
	case "mixed_words":
		return values(strconv.Itoa(m.Disguise().Mixed))
	case "defects":
		var answer rules.Answer
		for _, d := range m.Defects() {
			answer.Values = append(answer.Values, d.Kind)
		}
		return answer
	}
	return rules.Answer{Values: partFacts(m, part)}
}

// partFacts are the media types of the parts, and the charsets and encodings of those that are text to be read.
func partFacts(m *message.Message, what string) []string {
	var list []string
	for _, p := range m.Parts() {
		switch {
		case what == "types":
			list = append(list, p.Type)
		case !p.Leaf() || !strings.HasPrefix(p.Type, "text/") || p.Disposition == "attachment":
		case what == "charsets":
			list = append(list, p.Charset)
		case what == "encodings":
			list = append(list, p.Encoding)
		}
	}
	return list
}

// maxFieldNames bounds the names that are put together.
const maxFieldNames = 300

// fieldNames are the names of the fields as they are written, from top to bottom, with a space between them.
func fieldNames(h message.Header) string {
	names := make([]string, 0, min(len(h), maxFieldNames))
	for _, f := range h {
		if len(names) == maxFieldNames {
			break
		}
		if f.Name != "" {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, " ")
}

// dateAhead is by how many whole hours the Date field is ahead of the time at which the last host took the message in, as
// the topmost Received field has it, or else of now.
func dateAhead(m *message.Message, now time.Time) []string {
	date, ok := m.Date()
	if !ok {
		return nil
	}
	if f, ok := m.Header.First("Received"); ok {
		v := f.Value()
		if received, ok := message.ParseDate(v[strings.LastIndexByte(v, ';')+1:]); ok {
			now = received
		}
	}
	const longest = 24 * 365 * 100 // hours: what is further away is as bad
	hours := int64(date.Sub(now) / time.Hour)
	return []string{strconv.FormatInt(max(-longest, min(longest, hours)), 10)}
}
