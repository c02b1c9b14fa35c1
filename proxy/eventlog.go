package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/filters"
	"postern/proxy/upstream"
)

// logVersion names the schema of the event lines.
const logVersion = 1

// finishTransaction writes the one line that a transaction leaves, and counts it for the session's.
func (s *session) finishTransaction(tx *transaction) {
	s.srv.metrics.transaction(tx)
	switch action := tx.actionName(); {
	case tx.aborted != "":
		s.tally.aborted++
	case action == "reject" || action == "defer":
		s.tally.refused++
	default:
		s.tally.delivered++
	}
	s.srv.record("message", s.messageLine(tx))
}

// messageKeys is room for all keys that the line of a message can have.
const messageKeys = 48

// record writes the line of an event. slog's own methods would find out the place in the program besides, which nobody asks for and
// which takes longer than the line.
func (s *Server) record(event string, keys []slog.Attr) {
	h := s.log.Handler()
	if h.Enabled(context.Background(), slog.LevelInfo) {
		// As with slog's own methods: a log that can't be written to has nobody to be told.
		_ = writeKeys(h, time.Now(), slog.LevelInfo, event, keys)
	}
}

// actionName is the verdict's action, or that there was none.
func (tx *transaction) actionName() string {
	if tx.aborted != "" {
		return "abort"
	}
	return tx.verdict.Action.String()
}

// messageLine is the line's keys in their order: the verdict and the address first, then what the checks said, what it
// cost, and last, always quoted, what strangers control.
func (s *session) messageLine(tx *transaction) []slog.Attr {
	v := tx.verdict
	line := attrs{list: make([]slog.Attr, 0, messageKeys)}
	line.add("v", slog.IntValue(logVersion))
	line.text("action", tx.actionName())
	line.text("ip", addrString(s.judgedIP(tx)))
	line.text("id", tx.id)
	var heard reply // none by who was gone
	if tx.aborted == "" {
		heard = tx.reply
	}
	line.add("code", slog.IntValue(heard.Code))
	line.text("ecode", heard.Enhanced)
	line.text("by", v.By)
	line.add("score", points(v.Score))
	line.add("limit", points(v.Limit))
	line.text("rules", findingList(v.Findings, false))
	line.optional("shadow", findingList(v.Findings, true))
	if v.Would != filters.NoAction {
		line.text("would", v.Would.String())
	}
	for _, method := range []string{"spf", "dkim", "dmarc"} {
		line.text(method, authResult(tx.result.Auth, method))
	}
	if arc := authResult(tx.result.Auth, "arc"); arc != "none" {
		line.optional("arc", arc)
	}
	line.optional("dmarc_policy", authProp(tx.result.Auth, "dmarc", "policy", "dmarc"))
	line.optional("dmarc_override", override(v.Findings))
	line.text("tls", tlsName(s.wire))
	line.text("rdns", authResult(tx.result.Auth, "iprev"))
	line.add("size", slog.Int64Value(tx.size()))
	line.add("rcpts", slog.IntValue(tx.accepted()))
	line.add("rcpts_refused", slog.IntValue(tx.rcptsRefused))
	line.text("upstream", tx.upstream)
	answer := tx.answer
	if answer.Code == 0 {
		answer = tx.firstAnswer()
	}
	line.foreign("upstream_reply", answerText(answer))
	line.add("ms_total", milliseconds(time.Since(tx.started)))
	line.add("ms_dns", milliseconds(tx.dns.Waited))
	line.add("ms_filters", milliseconds(tx.filtersTook))
	line.add("ms_upstream", milliseconds(tx.upstreamTook))
	line.add("dns_lookups", slog.IntValue(tx.dns.Lookups))
	line.add("dns_queries", slog.IntValue(tx.dns.Queries))
	line.optional("dns_lists", listCosts(tx.dns.Lists))
	line.optional("aborted", tx.aborted)
	line.optional("redelivery", tx.redelivery())
	line.optional("warn", s.warning())
	line.optional("unknown", unknownRules(tx.result))
	line.optional("defects", tx.defects())
	line.optional("stripped_signed", strings.Join(tx.stripped, ","))
	line.text("errors", tx.errorText())
	line.foreign("helo", s.helo)
	line.foreign("mail_from", tx.mailFrom)
	line.foreign("rcpt_to", strings.Join(tx.addressed, ","))
	line.foreign("from", tx.headerValue("From"))
	line.foreign("message_id", tx.headerValue("Message-ID"))
	return line.list
}

// attrs gathers the keys of a line in order.
type attrs struct{ list []slog.Attr }

func (a *attrs) add(key string, v slog.Value) { a.list = append(a.list, slog.Attr{Key: key, Value: v}) }
func (a *attrs) text(key, v string)           { a.add(key, slog.StringValue(v)) }
func (a *attrs) foreign(key, v string)        { a.add(key, slog.AnyValue(Foreign(v))) }

// optional leaves an empty value out.
func (a *attrs) optional(key, v string) {
	if v != "" {
		a.text(key, v)
	}
}

// answerText is what the next hop said to the message, if it was asked.
func answerText(r upstream.Reply) string {
	if r.Code == 0 {
		return ""
	}
	return shorten(r.String())
}

// accepted is how many recipients the message was for, those included that had it before.
func (tx *transaction) accepted() int {
	if tx.attempt == nil {
		return len(tx.rcpts)
	}
	return max(len(tx.rcpts), len(tx.attempt.served)+len(tx.attempt.due))
}

// redelivery says that a message came before: "served" to some recipient, or that it is "in_doubt" whether it was.
func (tx *transaction) redelivery() string {
	if tx.attempt == nil {
		return ""
	}
	return tx.attempt.redelivery()
}

// judgedIP is the address that the verdict is about: the client's, or, behind a relay, the one that it was judged by.
func (s *session) judgedIP(tx *transaction) netip.Addr {
	if s.relay && tx.judged.IP.IsValid() {
		return tx.judged.IP
	}
	return s.peer.Addr()
}

func (tx *transaction) size() int64 {
	if tx.message == nil {
		return 0
	}
	return tx.message.Size()
}

func (tx *transaction) headerValue(name string) string {
	if tx.message == nil {
		return ""
	}
	f, _ := tx.message.Header.First(name)
	return shorten(f.Value())
}

// defects lists the kinds of what is not well-formed in the message, as far as it was looked at.
func (tx *transaction) defects() string {
	if tx.message == nil {
		return ""
	}
	var kinds []string
	for _, d := range tx.message.KnownDefects() {
		kinds = append(kinds, d.Kind)
	}
	return strings.Join(kinds, ",")
}

// maxForeign bounds a value in the log that a stranger chose.
const maxForeign = 500

func shorten(s string) string {
	if len(s) > maxForeign {
		return strings.ToValidUTF8(s[:maxForeign], "") + "…"
	}
	return s
}

// findingList is what made the verdict: symbol:score of each finding that weighs or forces; of the shadow rules, or of
// the others.
func findingList(findings []filters.Finding, shadow bool) string {
	var b strings.Builder
	for _, f := range findings {
		if f.Shadow != shadow || f.Score == 0 && f.Force == filters.NoAction {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(f.Symbol)
		b.WriteByte(':')
		b.WriteString(f.Score.String())
	}
	return b.String()
}

// listCosts is what each DNS list that was asked came to: zone:milliseconds:result.
func listCosts(lists []filters.ListCost) string {
	var b []byte
	for i, l := range lists {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, l.Zone...), ':')
		b = strconv.AppendInt(b, l.Took.Milliseconds(), 10)
		b = append(append(b, ':'), l.Result...)
	}
	return string(b)
}

// override is why a DMARC failure is not held against a message; "" for nothing. It is named even where it weighs nothing.
func override(findings []filters.Finding) string {
	for _, f := range findings {
		if kind, ok := strings.CutPrefix(f.Symbol, "dmarc.override."); ok {
			return kind
		}
	}
	return ""
}

// authResult is a method's result: of several, a pass where there is one, else the first.
func authResult(results []filters.AuthResult, method string) string {
	first := ""
	for _, r := range results {
		if r.Method != method {
			continue
		}
		if r.Result == "pass" {
			return r.Result
		}
		if first == "" {
			first = r.Result
		}
	}
	return first
}

func authProp(results []filters.AuthResult, method, kind, name string) string {
	for _, r := range results {
		if r.Method != method {
			continue
		}
		i := slices.IndexFunc(r.Props, func(p filters.Prop) bool { return p.Type == kind && p.Name == name })
		if i >= 0 {
			return r.Props[i].Value
		}
	}
	return ""
}

func unknownRules(res filters.Result) string {
	fact, _ := res.Facts[filters.ContentCheck].(filters.ContentFact)
	return strings.Join(fact.Unknown, ",")
}

// errorText lists what failed: checks, spool, upstream.
func (tx *transaction) errorText() string {
	var list []string
	for _, e := range tx.result.Errors {
		list = append(list, e.Check+": "+e.Err.Error())
	}
	list = append(list, tx.causes...)
	if tx.cause != nil {
		list = append(list, tx.cause.Error())
	}
	if tx.attempt != nil && tx.attempt.failed != nil {
		list = append(list, tx.attempt.failed.Error())
	}
	return shorten(strings.Join(list, "; "))
}
