package message

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Defect is something in a message that is not as RFC 5322 and MIME have it. Reading goes on after every one of them;
// whether a defect matters is for rules to say.
type Defect struct {
	Kind   string // a token of [DefectKinds]
	Detail string // what and where, for people; may hold bytes that a stranger wrote, with controls replaced
}

// defectKinds names every kind of defect and says what it means.
var defectKinds = map[string]string{
	// The header section.
	"no_blank_line":  "the header section ends at a line that is no field, with no empty line before it",
	"bad_field":      "a line in the header section is neither a field nor the continuation of one",
	"empty_header":   "there is no header field at all",
	"header_too_big": "the header section, or those of the parts, is larger than is kept",
	"many_fields":    "there are more header fields than are kept",
	"no_from":        "there is no From field",
	"many_from":      "there is more than one From field",
	"bad_from":       "the From field is not an address list",
	"no_date":        "there is no Date field",
	"bad_date":       "the Date field is not a date of RFC 5322",
	"no_message_id":  "there is no Message-ID field",
	"repeated_field": "a field that may stand once stands more than once",
	"8bit_header":    "there are 8-bit bytes in the header section that are not UTF-8",
	"bad_word":       "an encoded word can't be decoded",
	// Lines, anywhere.
	"long_line": "a line is longer than 998 octets",
	"bare_lf":   "a line ends in LF without CR",
	"bare_cr":   "there is a CR without LF",
	"nul":       "there is a NUL octet",
	// The MIME structure.
	"bad_content_type":    "a Content-Type field can't be read, or stands more than once",
	"two_names":           "a part gives two file names with different extensions",
	"bad_encoding":        "a Content-Transfer-Encoding is unknown, or not allowed where it stands",
	"no_boundary":         "a multipart names no boundary",
	"empty_multipart":     "the boundary of a multipart occurs nowhere in it",
	"truncated_multipart": "a multipart has no closing boundary",
	"parts_after_end":     "there are further parts after the closing boundary of a multipart",
	"deep_mime":           "parts are nested more deeply than is read",
	"many_parts":          "there are more parts than are read",
	// Contents of parts.
	"bad_base64":       "a base64 body has characters that don't belong, or is cut off",
	"bad_qp":           "a quoted-printable body has broken escapes",
	"bad_charset":      "a charset is unknown, or the text isn't in it",
	"text_cut":         "there is more text than is read",
	"pdf_cut":          "there is more of a PDF than is read",
	"many_links":       "there are more links than are kept",
	"many_attachments": "there are more attachments than are kept",
	"archive_cut":      "there is more in archives, or deeper in them, than is read",
	"bad_archive":      "an archive's list of names can't be read",
}

// bodyDefects are the kinds that are found only by decoding bodies.
var bodyDefects = map[string]bool{
	"bad_base64": true, "bad_qp": true, "bad_charset": true, "text_cut": true, "pdf_cut": true,
	"many_links": true, "many_attachments": true, "bad_archive": true, "archive_cut": true,
}

// BodyDefect reports whether a kind of defect is found only by decoding bodies.
func BodyDefect(kind string) bool { return bodyDefects[kind] }

// DefectKinds are the kinds that a [Defect] can have, each with its meaning.
func DefectKinds() map[string]string { return maps.Clone(defectKinds) }

// A defectSet gathers defects, one of each kind.
type defectSet struct {
	seen []Defect
}

func (s *defectSet) add(kind, format string, args ...any) {
	if s == nil || s.has(kind) {
		return
	}
	s.seen = append(s.seen, Defect{Kind: kind, Detail: printable(fmt.Sprintf(format, args...), 200)})
}

func (s *defectSet) has(kind string) bool {
	return slices.ContainsFunc(s.seen, func(d Defect) bool { return d.Kind == kind })
}

// with is s and those kinds of other that are not in it.
func (s defectSet) with(other defectSet) defectSet {
	all := defectSet{seen: slices.Clone(s.seen)}
	for _, d := range other.seen {
		if !all.has(d.Kind) {
			all.seen = append(all.seen, d)
		}
	}
	return all
}

// printable makes s one line of valid UTF-8 of at most max bytes.
func printable(s string, max int) string {
	s = cutUTF8(s, max)
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// cutUTF8 is at most the first max bytes of s, cut between characters.
func cutUTF8(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
