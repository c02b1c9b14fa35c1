package message

import (
	"strconv"
	"strings"
	"time"
)

// ParseDate reads a date of RFC 5322 section 3.3, obsolete zones and two-digit years included: "Thu, 6 Nov 2008 08:15:43 +0100".
// ok is false for all else.
func ParseDate(value string) (t time.Time, ok bool) {
	if len(value) > 300 {
		return time.Time{}, false
	}
	words := strings.Fields(strings.ReplaceAll(stripComments(value), ",", " , "))
	if len(words) > 1 && words[1] == "," {
		if !isWeekday(words[0]) {
			return time.Time{}, false
		}
		words = words[2:]
	}
	if len(words) == 4 {
		words = append(words, "-0000") // a missing zone is a common slip: the time is taken as UTC
	}
	if len(words) != 5 {
		return time.Time{}, false
	}
	day, ok1 := number(words[0], 1, 2, 1, 31)
	month, ok2 := monthNumber(words[1])
	year, ok3 := number(words[2], 2, 4, 0, 9999)
	hour, minute, second, ok4 := clock(words[3])
	zone, ok5 := zoneSeconds(words[4])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return time.Time{}, false
	}
	switch { // RFC 5322 section 4.3
	case len(words[2]) == 2 && year < 50:
		year += 2000
	case len(words[2]) < 4:
		year += 1900
	}
	t = time.Date(year, month, day, hour, minute, min(second, 59), 0, time.FixedZone("", zone))
	if year < 1900 || t.Day() != day {
		return time.Time{}, false
	}
	return t, true
}

func isWeekday(s string) bool {
	switch strings.ToLower(s) {
	case "mon", "tue", "wed", "thu", "fri", "sat", "sun":
		return true
	}
	return false
}

func monthNumber(s string) (time.Month, bool) {
	if len(s) != 3 {
		return 0, false
	}
	i := strings.Index("janfebmaraprmayjunjulaugsepoctnovdec", strings.ToLower(s))
	return time.Month(i/3 + 1), i >= 0 && i%3 == 0
}

// number reads a decimal number of a number of digits and within bounds.
func number(s string, minDigits, maxDigits, low, high int) (int, bool) {
	if len(s) < minDigits || len(s) > maxDigits {
		return 0, false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= low && n <= high
}

func clock(s string) (hour, minute, second int, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) == 2 {
		parts = append(parts, "00")
	}
	if len(parts) != 3 {
		return 0, 0, 0, false
	}
	hour, ok1 := number(parts[0], 1, 2, 0, 23)
	minute, ok2 := number(parts[1], 2, 2, 0, 59)
	second, ok3 := number(parts[2], 2, 2, 0, 60)
	return hour, minute, second, ok1 && ok2 && ok3
}

// zoneSeconds reads a zone, as seconds east of UTC.
func zoneSeconds(s string) (int, bool) {
	if len(s) == 5 && (s[0] == '+' || s[0] == '-') {
		n, ok := number(s[1:], 4, 4, 0, 9959)
		seconds := (n/100*60 + n%100) * 60
		if s[0] == '-' {
			seconds = -seconds
		}
		return seconds, ok && n%100 < 60
	}
	switch strings.ToUpper(s) {
	case "UT", "GMT", "UTC", "Z":
		return 0, true
	case "EDT":
		return -4 * 3600, true
	case "EST", "CDT":
		return -5 * 3600, true
	case "CST", "MDT":
		return -6 * 3600, true
	case "MST", "PDT":
		return -7 * 3600, true
	case "PST":
		return -8 * 3600, true
	}
	// Other names, of which many are in use, mean nothing sure: RFC 5322 section 4.3 has them read as -0000.
	if len(s) >= 1 && len(s) <= 5 && strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return 0, true
	}
	return 0, false
}
