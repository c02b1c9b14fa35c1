package logs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// maxStory bounds the messages and connections of one story, so that a trace of a busy address stays readable.
const maxStory = 1000

// A Story is what the log says of a message, a client or a correspondent.
type Story struct {
	Messages []Message `json:"messages"` // by time; attempts at the same message stand together, where the first one stands
	Sessions []Session `json:"sessions"` // connections without such a message
	More     int       `json:"more"`     // messages and connections beyond those that are told
}

// A Message is one line of event=message.
type Message struct {
	Time      time.Time `json:"time"`
	ID        string    `json:"id"`
	IP        string    `json:"ip"`
	Helo      string    `json:"helo"`
	From      string    `json:"mail_from"`
	Rcpts     string    `json:"rcpt_to"`
	Author    string    `json:"from"`
	MessageID string    `json:"message_id"`
	Size      int64     `json:"size"`
	Action    string    `json:"action"`
	Would     string    `json:"would,omitempty"`
	By        string    `json:"by"`
	Code      string    `json:"code"`
	ECode     string    `json:"ecode"`
	Score     string    `json:"score"`
	Limit     string    `json:"limit"`
	Rules     string    `json:"rules"`
	Shadow    string    `json:"shadow,omitempty"`
	SPF       string    `json:"spf"`
	DKIM      string    `json:"dkim"`
	DMARC     string    `json:"dmarc"`
	Policy    string    `json:"dmarc_policy,omitempty"`
	Override  string    `json:"dmarc_override,omitempty"`
	TLS       string    `json:"tls"`
	RDNS      string    `json:"rdns"`
	Upstream  string    `json:"upstream"`
	Answer    string    `json:"upstream_reply"`
	MS        int64     `json:"ms_total"`
	Aborted   string    `json:"aborted,omitempty"`
	Again     string    `json:"redelivery,omitempty"` // served, in_doubt
	Lists     string    `json:"dns_lists,omitempty"`
	Errors    string    `json:"errors,omitempty"`
	Attempt   int       `json:"attempt"` // of the same message, from 1 on
	Session   *Session  `json:"session,omitempty"`
}

// A Session is one line of event=session.
type Session struct {
	Time     time.Time `json:"time"`
	ID       string    `json:"id"`
	IP       string    `json:"ip"`
	Reason   string    `json:"reason"`
	By       string    `json:"by,omitempty"`
	Helo     string    `json:"helo"`
	Commands int64     `json:"commands"`
	Errors   int64     `json:"errors"`
	MS       int64     `json:"ms_total"`
}

// A Tracer gathers the story of what it is asked for. Of a log that can be read twice it is to be shown all lines, then asked
// by Again whether to be shown them once more: other attempts at a message are known by its Message-ID only when it was met.
type Tracer struct {
	what     string
	ids      map[string]bool // Message-IDs of what was found by its id
	messages []Message
	sessions map[string]Session // by id
	seen     map[string]bool
	more     int
}

// NewTracer looks for an id of a transaction or connection, a Message-ID, an address of mail, or one of a client.
func NewTracer(what string) *Tracer {
	return &Tracer{what: strings.Trim(what, "<> "), ids: map[string]bool{}, sessions: map[string]Session{}, seen: map[string]bool{}}
}

// Again reports whether the log has more to tell now that the Message-ID is known.
func (t *Tracer) Again() bool { return len(t.ids) > 0 }

// Add looks at a line.
func (t *Tracer) Add(r *Record) {
	switch string(r.raw("event")) {
	case "message":
		t.message(r)
	case "session":
		t.session(r)
	}
}

func (t *Tracer) message(r *Record) {
	id, messageID := r.Get("id"), strings.Trim(r.Get("message_id"), "<> ")
	session, _, _ := strings.Cut(id, ".")
	byID := id == t.what || session == t.what
	if !byID && !t.ids[messageID] && !t.about(r, messageID) || t.seen[id] {
		return
	}
	if len(t.messages) == maxStory {
		t.more++
		return
	}
	if byID && messageID != "" {
		t.ids[messageID] = true
	}
	t.seen[id] = true
	t.messages = append(t.messages, Message{
		Time: r.Time(), ID: id, IP: r.Get("ip"), Helo: r.Get("helo"), From: r.Get("mail_from"), Rcpts: r.Get("rcpt_to"),
		Author: r.Get("from"), MessageID: r.Get("message_id"), Size: r.Int("size"), Action: r.Get("action"), Would: r.Get("would"),
		By: r.Get("by"), Code: r.Get("code"), ECode: r.Get("ecode"), Score: r.Get("score"), Limit: r.Get("limit"), Rules: r.Get("rules"),
		Shadow: r.Get("shadow"), SPF: r.Get("spf"), DKIM: r.Get("dkim"), DMARC: r.Get("dmarc"), Policy: r.Get("dmarc_policy"),
		Override: r.Get("dmarc_override"), TLS: r.Get("tls"), RDNS: r.Get("rdns"), Upstream: r.Get("upstream"), Answer: r.Get("upstream_reply"),
		MS: r.Int("ms_total"), Aborted: r.Get("aborted"), Again: r.Get("redelivery"), Lists: r.Get("dns_lists"), Errors: r.Get("errors"),
	})
}

// about reports whether a message is from or to the address, from the client, or has the Message-ID.
func (t *Tracer) about(r *Record, messageID string) bool {
	if string(r.raw("ip")) == t.what || messageID != "" && messageID == t.what {
		return true
	}
	if !strings.Contains(t.what, "@") {
		return false
	}
	if strings.EqualFold(r.Get("mail_from"), t.what) || strings.EqualFold(bareAddress(r.Get("from")), t.what) {
		return true
	}
	for to := range strings.SplitSeq(r.Get("rcpt_to"), ",") {
		if strings.EqualFold(to, t.what) {
			return true
		}
	}
	return false
}

// bareAddress is what stands between the angle brackets of a From field, or all of it.
func bareAddress(s string) string {
	if end := strings.LastIndexByte(s, '>'); end >= 0 {
		if start := strings.LastIndexByte(s[:end], '<'); start >= 0 {
			return s[start+1 : end]
		}
	}
	return strings.TrimSpace(s)
}

// session keeps connections that are asked for, and those of messages that were met, whose lines stand above.
func (t *Tracer) session(r *Record) {
	id := r.Get("id")
	wanted := id == t.what || string(r.raw("ip")) == t.what
	for i := len(t.messages) - 1; i >= 0 && !wanted; i-- {
		wanted = strings.HasPrefix(t.messages[i].ID, id+".")
	}
	if !wanted {
		return
	}
	if _, known := t.sessions[id]; !known && len(t.sessions) == maxStory {
		t.more++
		return
	}
	t.sessions[id] = Session{
		Time: r.Time(), ID: id, IP: r.Get("ip"), Reason: r.Get("reason"), By: r.Get("by"), Helo: r.Get("helo"),
		Commands: r.Int("commands"), Errors: r.Int("errors"), MS: r.Int("ms_total"),
	}
}

// Story ends the gathering.
func (t *Tracer) Story() *Story {
	s := &Story{Messages: t.messages, Sessions: []Session{}, More: t.more}
	slices.SortStableFunc(s.Messages, func(a, b Message) int { return a.Time.Compare(b.Time) })
	s.join()
	told := map[string]bool{}
	for i := range s.Messages {
		id, _, _ := strings.Cut(s.Messages[i].ID, ".")
		if session, ok := t.sessions[id]; ok {
			s.Messages[i].Session, told[id] = &session, true
		}
	}
	for id, session := range t.sessions {
		if !told[id] {
			s.Sessions = append(s.Sessions, session)
		}
	}
	slices.SortFunc(s.Sessions, func(a, b Session) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return s
}

// join numbers the attempts at one message, and puts them behind the first. A client that was told to come again comes with the same
// sender and Message-ID.
func (s *Story) join() {
	type key struct{ messageID, from string }
	first := map[key]int{}
	order := make([]int, len(s.Messages)) // where the first attempt stands
	count := map[key]int{}
	for i := range s.Messages {
		m := &s.Messages[i]
		k := key{messageID: m.MessageID, from: strings.ToLower(m.From)}
		m.Attempt, order[i] = 1, i
		if m.MessageID == "" {
			continue
		}
		if at, again := first[k]; again {
			order[i] = at
		} else {
			first[k] = i
		}
		count[k]++
		m.Attempt = count[k]
	}
	index := make([]int, len(s.Messages))
	for i := range index {
		index[i] = i
	}
	slices.SortStableFunc(index, func(a, b int) int { return cmp.Compare(order[a], order[b]) })
	sorted := make([]Message, len(index))
	for i, at := range index {
		sorted[i] = s.Messages[at]
	}
	s.Messages = sorted
}

// WriteText tells the story in words. Text of strangers goes through printable.
func (s *Story) WriteText(w io.Writer, printable func(string) string) error {
	var b strings.Builder
	for i := range s.Messages {
		m := &s.Messages[i]
		if i > 0 && m.Attempt == 1 {
			b.WriteString("\n")
		}
		m.tell(&b, printable)
	}
	for i, session := range s.Sessions {
		if i == 0 && len(s.Messages) > 0 {
			b.WriteString("\nConnections without such a message:\n")
		}
		session.tell(&b, printable)
	}
	if s.More > 0 {
		fmt.Fprintf(&b, "\n%d more messages or connections are not told; a shorter time (-since, -until) shows them\n", s.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (m *Message) tell(b *strings.Builder, printable func(string) string) {
	line := func(format string, args ...any) { fmt.Fprintf(b, "  "+format+"\n", args...) }
	fmt.Fprintf(b, "%s  %s", moment(m.Time), printable(m.ID))
	if m.Attempt > 1 {
		fmt.Fprintf(b, "  came again, attempt %d", m.Attempt)
	}
	b.WriteString("\n")
	line("%s connected%s and called itself %s%s", printable(m.IP), noName(m.RDNS), orNothing(printable(m.Helo)), overTLS(m.TLS))
	line("from %s to %s", angle(printable(m.From)), orNothing(printable(m.Rcpts)))
	if m.Author != "" || m.MessageID != "" {
		line("written by %s, Message-ID %s, %d octets", orNothing(printable(m.Author)), orNothing(printable(m.MessageID)), m.Size)
	}
	if m.SPF+m.DKIM+m.DMARC != "" {
		line("SPF %s, DKIM %s, DMARC %s%s", orNothing(m.SPF), orNothing(m.DKIM), orNothing(m.DMARC), m.policy())
	}
	if lists := m.lists(); lists != "" {
		line("DNS lists: %s", printable(lists))
	}
	if m.Rules != "" {
		line("%s points: %s", m.Score, apart(m.Rules))
	}
	if m.Shadow != "" {
		line("in shadow, not counted: %s", apart(m.Shadow))
	}
	line("%s", printable(m.outcome()))
	if m.Again == "in_doubt" {
		line("handed on again although it may have arrived before: the answer of an earlier attempt was lost")
	}
	if m.Upstream != "" {
		line("%s answered: %s", printable(m.Upstream), orNothing(printable(m.Answer)))
	}
	if m.Errors != "" {
		line("failed on the way: %s", printable(m.Errors))
	}
	if m.Session != nil {
		line("the connection ended after %d ms: %s", m.Session.MS, printable(m.Session.Reason))
	}
}

func (s *Session) tell(b *strings.Builder, printable func(string) string) {
	fmt.Fprintf(b, "%s  %s\n", moment(s.Time), printable(s.ID))
	fmt.Fprintf(b, "  %s connected and called itself %s; %d commands, %d of them errors\n", printable(s.IP), orNothing(printable(s.Helo)), s.Commands, s.Errors)
	why := s.Reason
	if s.By != "" {
		why += " (" + s.By + ")"
	}
	fmt.Fprintf(b, "  the connection ended after %d ms: %s\n", s.MS, printable(why))
}

func (m *Message) policy() string {
	switch {
	case m.Override != "":
		return " (not held against it: " + m.Override + ")"
	case m.DMARC == "fail" && m.Policy != "":
		return " (the domain asks for: " + m.Policy + ")"
	}
	return ""
}

// lists says what DNS lists answered, those that have nothing against the message at last, without their time.
func (m *Message) lists() string {
	var told, clean []string
	for l := range ListLookups(m.Lists) {
		if l.Result == "clean" {
			clean = append(clean, l.Zone)
			continue
		}
		told = append(told, fmt.Sprintf("%s %s (%d ms)", l.Zone, l.Result, l.Took.Milliseconds()))
	}
	if len(clean) > 0 {
		told = append(told, "not on "+strings.Join(clean, ", "))
	}
	return strings.Join(told, ", ")
}

// outcome says what was done, and why.
func (m *Message) outcome() string {
	by, exception, _ := strings.Cut(m.By, ",")
	why := "because of " + by
	switch {
	case by == "score" && m.Action == "accept":
		why = "as " + m.Score + " is below all thresholds"
	case by == "score":
		why = "as " + m.Score + " reaches " + m.Limit
	case by == "upstream":
		why = "by the server behind"
	}
	if exception != "" {
		why += ", milder as it is mail for or from " + exception
	}
	done := map[string]string{
		"accept": "accepted", "tag": "tagged and passed on", "quarantine": "diverted to the quarantine", "defer": "told to come again later", "reject": "refused",
		"abort": "given up by the client",
	}[m.Action]
	if done == "" {
		done = m.Action
	}
	out := done
	switch {
	case m.Action == "abort":
		out += ": " + orNothing(m.Aborted)
	default:
		out += " " + why
	}
	if m.Would != "" {
		out += "; only observed, else: " + m.Would
	}
	if m.Code != "" && m.Code != "0" {
		out += " (" + strings.TrimSpace(m.Code+" "+m.ECode) + ")"
	}
	if m.Again == "served" {
		out += "; it had been delivered before and was not delivered again"
	}
	return out
}

// apart sets what stands in rules and shadow apart.
func apart(findings string) string { return strings.ReplaceAll(findings, ",", ", ") }

func noName(rdns string) string {
	if rdns == "" || rdns == "pass" {
		return ""
	}
	return " without a confirmed name (" + rdns + ")"
}

func overTLS(version string) string {
	if version == "" || version == "none" {
		return ""
	}
	return ", over " + version
}

func orNothing(s string) string { return cmp.Or(s, "nothing") }

func angle(s string) string { return "<" + s + ">" }

// moment is a time to the second, in UTC.
func moment(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}
