package rules

import (
	"maps"
	"slices"
	"strings"
)

// A kind says what the values of a part are, and so which operators fit it.
type kind uint8

const (
	text   kind = iota // anything that a stranger may write
	word               // one of few words: a result, a defect, a weekday
	addr               // an IP address
	number             // a count
	size               // a number of bytes
	points             // a score, in hundredths
	clock              // a time of day
)

var kindNames = [...]string{"text", "a word", "an IP address", "a number", "a size", "a score", "a time of day"}

func (k kind) String() string { return kindNames[k] }

// numeric kinds take the same operators; they differ in how their numbers are written.
func (k kind) numeric() bool { return k == number || k == size || k == points }

// A part is one thing that can be asked of a subject.
type part struct {
	kind kind
	many bool     // can have several values, among which `which` chooses
	need bool     // `which` must be written
	cost int      // of asking for it the first time, relative to looking at what SMTP said
	word []string // the words there are, where they are known
}

// Relative costs. Only their order matters.
const (
	costEnvelope = 1
	costHeader   = 4
	costSymbol   = 2
	costParts    = 30
	costBody     = 100
	costRaw      = 200
)

var (
	resultWords = []string{"pass", "fail", "softfail", "neutral", "none", "policy", "temperror", "permerror"}
	scriptWords = []string{
		"latin", "cyrillic", "han", "hiragana", "katakana", "hangul", "arabic", "hebrew", "greek", "devanagari", "thai", "armenian", "georgian",
		"bengali", "gujarati", "gurmukhi", "kannada", "khmer", "lao", "malayalam", "myanmar", "sinhala", "tamil", "telugu", "ethiopic", "tibetan",
	}
	languageWords = []string{
		"ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he", "hi", "hr", "hu", "hy", "id", "it", "ja", "ka", "km",
		"kn", "ko", "lo", "lt", "lv", "mk", "ml", "mr", "my", "nl", "no", "pa", "pl", "pt", "ro", "ru", "si", "sk", "sl", "sr", "sv", "ta", "te", "th",
		"tr", "uk", "ur", "vi", "zh",
	}
	activeWords    = []string{"script", "handler", "unpack", "download", "form", "password", "redirect", "frame", "data_uri", "open_action", "launch", "embedded"}
	hidingWords    = []string{"display", "visibility", "opacity", "size", "colour", "off_screen", "clipped"}
	linkTrickWords = []string{"ip", "odd_ip", "user", "port", "punycode", "mixed_script", "encoded_host", "backslash"}
	nameTrickWords = []string{"double_extension", "bidi_name", "padded_name", "type_mismatch"}
	kindWords      = []string{
		"executable", "script", "shortcut", "disk_image", "archive", "office", "macros", "onenote", "help", "html", "svg", "pdf", "image", "audio",
		"video", "text", "message", "calendar", "contact", "font", "signature", "other",
	}
	weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
)

// scope says whose parts are asked for: the message's, or those of one link or attachment at a time.
type scope uint8

const (
	ofMessage scope = iota
	ofLink
	ofAttachment
)

// subjects are the parts of each subject. For header and symbol the subject's value is a name and `part` chooses; for
// the others it is the part itself.
var subjects = map[string]map[string]part{
	"header": {
		"decoded":         {kind: text, many: true, cost: costHeader},
		"raw":             {kind: text, many: true, cost: costHeader},
		"name":            {kind: text, many: true, cost: costHeader},
		"address":         {kind: text, many: true, cost: costHeader},
		"local":           {kind: text, many: true, cost: costHeader},
		"domain":          {kind: text, many: true, cost: costHeader},
		"org_domain":      {kind: text, many: true, cost: costHeader},
		"name_domain":     {kind: text, many: true, cost: costHeader},
		"name_brand":      {kind: text, many: true, cost: costHeader},
		"name_brand_by":   {kind: word, many: true, cost: costHeader, word: brandWords},
		"local_brand":     {kind: text, many: true, cost: costHeader},
		"domain_brand":    {kind: text, many: true, cost: costHeader},
		"domain_brand_by": {kind: word, many: true, cost: costHeader, word: brandWords},
		"text_brand":      {kind: text, many: true, cost: costHeader},
		"count":           {kind: number, cost: costHeader},
	},
	"body": {
		"text":   {kind: text, cost: costBody},
		"hidden": {kind: text, cost: costBody},
		"html":   {kind: text, cost: costBody},
		"raw":    {kind: text, cost: costRaw},
	},
	"brand": {
		"sender": {kind: text, many: true, cost: costHeader},
		"proved": {kind: text, many: true, cost: costEnvelope},
		"text":   {kind: text, many: true, cost: costBody},
	},
	"envelope": {
		"ip":          {kind: addr, cost: costEnvelope},
		"rdns":        {kind: text, many: true, cost: costEnvelope},
		"helo":        {kind: text, cost: costEnvelope},
		"from":        {kind: text, cost: costEnvelope},
		"from_domain": {kind: text, cost: costEnvelope},
		"rcpt":        {kind: text, many: true, need: true, cost: costEnvelope},
		"rcpt_domain": {kind: text, many: true, need: true, cost: costEnvelope},
		"tls":         {kind: text, cost: costEnvelope},
	},
	"auth": {
		"spf":          {kind: word, cost: costEnvelope, word: resultWords},
		"dkim":         {kind: word, many: true, cost: costEnvelope, word: resultWords},
		"dmarc":        {kind: word, cost: costEnvelope, word: resultWords},
		"arc":          {kind: word, cost: costEnvelope, word: resultWords},
		"iprev":        {kind: word, cost: costEnvelope, word: resultWords},
		"dmarc_domain": {kind: text, many: true, cost: costEnvelope},
		"dkim_domain":  {kind: text, many: true, cost: costEnvelope},
	},
	"message": {
		"size":        {kind: size, cost: costEnvelope},
		"parts":       {kind: number, cost: costParts},
		"types":       {kind: text, many: true, cost: costParts},
		"charsets":    {kind: text, many: true, cost: costParts},
		"encodings":   {kind: text, many: true, cost: costParts},
		"field_names": {kind: text, cost: costHeader},
		"date_ahead":  {kind: number, cost: costHeader},
		"active":      {kind: word, many: true, cost: costBody, word: activeWords},
		"hidden_by":   {kind: word, many: true, cost: costBody, word: hidingWords},
		"invisible":   {kind: number, cost: costBody},
		"mixed_words": {kind: number, cost: costBody},
		"defects":     {kind: word, many: true, cost: costParts},
		"script":      {kind: word, many: true, cost: costBody, word: scriptWords},
		"language":    {kind: word, cost: costBody, word: languageWords},
	},
	"time": {
		"local":   {kind: clock, cost: costEnvelope},
		"utc":     {kind: clock, cost: costEnvelope},
		"weekday": {kind: word, cost: costEnvelope, word: weekdays},
	},
	"symbol": {
		"count": {kind: number, cost: costSymbol},
		"score": {kind: points, cost: costSymbol},
	},
}

// itemParts are the parts of links and attachments.
var itemParts = map[scope]map[string]part{
	ofLink: {
		"url":          {kind: text, many: true, cost: costBody},
		"scheme":       {kind: text, many: true, cost: costBody},
		"host":         {kind: text, many: true, cost: costBody},
		"org_domain":   {kind: text, many: true, cost: costBody},
		"path":         {kind: text, many: true, cost: costBody},
		"shown":        {kind: text, many: true, cost: costBody},
		"shown_domain": {kind: text, many: true, cost: costBody},
		"source":       {kind: word, many: true, cost: costBody, word: []string{"text", "html", "resource", "attachment", "calendar", "pdf"}},
		"user":         {kind: text, many: true, cost: costBody},
		"port":         {kind: number, many: true, cost: costBody},
		"brand":        {kind: text, many: true, cost: costBody},
		"brand_by":     {kind: word, many: true, cost: costBody, word: brandWords},
		"shown_brand":  {kind: text, many: true, cost: costBody},
		"idn":          {kind: text, many: true, cost: costBody},
		"tricks":       {kind: word, many: true, cost: costBody, word: linkTrickWords},
	},
	ofAttachment: {
		"name":        {kind: text, many: true, cost: costParts},
		"type":        {kind: text, many: true, cost: costParts},
		"real_type":   {kind: text, many: true, cost: costBody},
		"size":        {kind: size, many: true, cost: costBody},
		"inside":      {kind: text, many: true, cost: costRaw},
		"encrypted":   {kind: word, many: true, cost: costRaw, word: []string{"true"}},
		"inline":      {kind: word, many: true, cost: costParts, word: []string{"true"}},
		"extension":   {kind: text, many: true, cost: costParts},
		"kind":        {kind: word, many: true, cost: costBody, word: kindWords},
		"inside_kind": {kind: word, many: true, cost: costRaw, word: kindWords},
		"tricks":      {kind: word, many: true, cost: costBody, word: nameTrickWords},
		"active":      {kind: word, many: true, cost: costBody, word: activeWords},
	},
}

// itemSubjects are the subjects that are asked about one thing at a time.
var itemSubjects = map[string]scope{"uri": ofLink, "attachment": ofAttachment}

var itemNames = map[scope]string{ofMessage: "message", ofLink: "uri", ofAttachment: "attachment"}

// refusable are the parts that are known before DATA.
func refusable(src source) bool {
	switch src.subject {
	case "envelope", "symbol":
		return true
	case "auth":
		return src.part == "spf" || src.part == "iprev"
	}
	return false
}

// operators, and the kinds of values that each fits.
var operators = map[string][]kind{
	"matches":     {text, word},
	"contains":    {text},
	"equals":      {text, word, addr, number, size, points},
	"starts_with": {text},
	"ends_with":   {text},
	"in":          {text, word, addr},
	"in_net":      {addr},
	"same_as":     {text, addr},
	"holds":       {text},
	"over":        {number, size, points},
	"under":       {number, size, points},
	"between":     {number, size, points, clock},
	"exists":      {text, word, addr, number, points},
	"count":       {text, word},
	"length":      {text},
}

func operatorsFor(k kind) []string {
	var ops []string
	for _, op := range names(operators) {
		if slices.Contains(operators[op], k) {
			ops = append(ops, op)
		}
	}
	return ops
}

var combinators = []string{"all", "any", "not", "at_least", "is"}

func names[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// A source is one thing that conditions ask for: a part of a subject, as it is seen through a view.
type source struct {
	scope   scope
	subject string // "" within a link or attachment
	name    string // of a header field or symbol; several field names are joined by a colon
	part    string
	view    view
	kind    kind
}

// fields are the names of the header fields.
func (s source) fields() []string { return strings.Split(s.name, ":") }

// String names the source as messages and evidence do: "header From domain", "uri host", "symbol spf.fail".
func (s source) String() string {
	var w []string
	switch {
	case s.scope != ofMessage:
		w = append(w, itemNames[s.scope], s.part)
	case s.subject == "header":
		w = append(w, "header", strings.ReplaceAll(s.name, ":", ", "))
		if s.part != "decoded" {
			w = append(w, s.part)
		}
	case s.subject == "symbol":
		w = append(w, "symbol", s.name)
		if s.part != "count" {
			w = append(w, s.part)
		}
	default:
		w = append(w, s.subject, s.part)
	}
	if s.view != asIs {
		w = append(w, "("+s.view.String()+")")
	}
	return strings.Join(w, " ")
}

// A which chooses among several values.
type which uint8

const (
	whichAny which = iota
	whichEvery
	whichFirst
	whichLast
)

var whichNames = []string{"any", "every", "first", "last"}

func (w which) String() string { return whichNames[w] }

// Words returns the values that a part of a subject can have, where they are known.
func Words(subject, part string) []string {
	if sc := itemSubjects[subject]; sc != ofMessage {
		return slices.Clone(itemParts[sc][part].word)
	}
	return slices.Clone(subjects[subject][part].word)
}
