package message

import "strings"

// A calendar (iCalendar, RFC 5545) is text in lines like those of a message's header: "URL:https://example.org/". An invitation
// is shown with its description and can bring links that stand nowhere else in the message.

// calendar reports whether a part is a calendar, by its type or by its name.
func (p *Part) calendar() bool {
	return p.Type == "text/calendar" || p.Type == "application/ics" || kindOfExtension[extension(p.Name)] == "calendar"
}

// calendarText takes the lines of a calendar apart from how they are written: long ones are folded (section 3.1), and line ends
// and some other characters of a text are escaped (section 3.3.11).
func calendarText(source string) string {
	return calendarEscapes.Replace(calendarFolds.Replace(source))
}

var (
	calendarFolds   = strings.NewReplacer("\r\n ", "", "\r\n\t", "", "\n ", "", "\n\t", "")
	calendarEscapes = strings.NewReplacer(`\n`, "\n", `\N`, "\n", `\,`, ",", `\;`, ";", `\\`, `\`)
)
