package proxy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/filters"
	"postern/proxy/upstream"
	"postern/proxy/wire"
)

// A session is what go-smtp calls: one from the first MAIL to the end of the connection or to STARTTLS. It refuses what go-smtp
// lets through, and keeps nothing itself: the state is the connection's and its transaction's.
type session struct {
	*connection
	smtp *smtp.Conn
	wire *wire.Conn
	bad  *reply // what is wrong with the HELO name, told at MAIL
}

var _ smtp.Session = (*session)(nil)

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	w := c.Conn().(*wire.Conn)
	conn, ok := w.Value().(*connection)
	if !ok {
		return nil, refuse("internal", 421, "4.3.0", "Internal error, please try again later").err()
	}
	conn.enter()
	return &session{connection: conn, smtp: c, wire: w}, nil
}

// hello is told of HELO and EHLO before there is a session: the checks of the name start here.
func (s *Server) hello(w *wire.Conn, name string) *wire.Reply {
	c, ok := w.Value().(*connection)
	if !ok {
		return &wire.Reply{Code: 421, Enhanced: "4.3.0", Text: "Internal error, please try again later"}
	}
	if bad := heloError(name); bad != nil {
		return &wire.Reply{Code: bad.Code, Enhanced: bad.Enhanced, Text: bad.Text}
	}
	if c.peer != addrPort(w.RemoteAddr()) { // XCLIENT
		c.identify(w)
	}
	c.run.Secure(w.TLS(), w.EarlyTalk())
	c.greet(name, w.Extended())
	return nil
}

// heloError refuses a name that no host can have, not even a badly configured one: an address in brackets, or
// printable ASCII without what would be a comment or a parameter elsewhere.
func heloError(name string) *reply {
	ok := name != "" && len(name) <= 255
	for i := 0; i < len(name) && ok; i++ {
		ok = name[i] > ' ' && name[i] < 0x7f && !strings.ContainsRune(`<>()"\@,;`, rune(name[i]))
	}
	if ok {
		return nil
	}
	r := refuse("helo", 501, "5.5.2", "That is not a host name, expected HELO or EHLO and your host name or [address]")
	return &r
}

// greet takes in the name given at HELO or EHLO.
func (c *connection) greet(name string, extended bool) {
	c.helo, c.extended = name, extended
	c.run.Helo(&filters.Helo{Name: name, Extended: extended})
}

// greetAgain takes in the name that is in force, which may be no host name: go-smtp has accepted it.
func (s *session) greetAgain() {
	s.bad = heloError(s.smtp.Hostname())
	s.greet(s.smtp.Hostname(), s.wire.Extended())
}

// Reset ends a transaction: RSET, another HELO, or the end of DATA.
func (s *session) Reset() {
	s.hears()
	s.endTransaction()
	if s.smtp.Hostname() != s.helo {
		s.greetAgain()
	}
}

// Logout ends the session.
func (s *session) Logout() error {
	s.endTransaction()
	s.listenFor(nil)
	s.leave(s.wire)
	return nil
}

// endTransaction logs what was not brought to an end and gives back what it used.
func (s *session) endTransaction() {
	if s.tx == nil {
		return
	}
	tx := s.tx
	s.tx = nil
	tx.dns = tx.dns.Plus(s.run.Spent()) // of a message that was refused before it came, and of our own relay
	s.run.Reset()
	if s.delivery != nil {
		s.delivery.end(s.ctx)
	}
	if tx.spool != nil {
		tx.spool.Close()
	}
	if tx.attempt != nil {
		tx.attempt.release()
	}
	if !tx.ended {
		tx.abandon(s.wire.Reason())
	}
	s.finishTransaction(tx)
	tx.rt.release()
}

// Mail begins a transaction.
func (s *session) Mail(from string, opts *smtp.MailOptions) error {
	switch {
	case s.tx != nil:
		return refuse("protocol", 503, "5.5.1", "There is a sender already, expected RCPT, DATA or RSET").err()
	case s.bad != nil:
		return s.bad.err()
	}
	s.hears()
	rt := s.srv.use()
	s.goBy(rt)
	tx := &transaction{id: s.nextID(), rt: rt, started: time.Now(), mailFrom: shown(from)}
	s.tx = tx
	s.tally.messages++
	r := s.checkRate()
	if r == nil {
		r = s.checkMail(from, opts)
	}
	if r != nil {
		*r = withID(*r, tx.id)
		tx.refuse(*r)
		s.endTransaction()
		return r.err()
	}
	s.run.Mail(&filters.Mail{From: tx.from, Size: opts.Size, UTF8: opts.UTF8})
	return nil
}

// checkRate defers mail of a client that has begun too many transactions within the last minute. A message that it has to
// hand in again, because it may not have heard that it was taken, is known for far longer than that.
func (s *session) checkRate() *reply {
	cfg := s.rt.Config
	ip := s.peer.Addr()
	if s.relay || s.client.Trusted || s.srv.mails.Allow(ip, cfg.Limits.Mails, cfg.Limits.Mails*cfg.Limits.Network, time.Now()) {
		return nil
	}
	return ptr(refuse("rate", 450, "4.7.1", "Too many messages from your address within a minute, please try again later"))
}

// goBy has the connection go by the configuration that is in force for a new transaction.
func (s *session) goBy(rt *Runtime) {
	if rt == s.rt {
		return
	}
	s.delivery.close()
	s.delivery = nil
	s.rt = rt
	s.identify(s.wire)
	s.run.Secure(s.wire.TLS(), s.wire.EarlyTalk())
	s.greetAgain()
}

// checkMail reads the reverse-path and its parameters into the transaction.
func (s *session) checkMail(from string, opts *smtp.MailOptions) *reply {
	tx := s.tx
	path, ok := splitPath(from)
	if !ok {
		return ptr(refuse("protocol", 553, "5.1.7", "That is not an address, expected MAIL FROM:<local-part@domain>"))
	}
	tx.from = path
	if r := s.offered(mailParameters(opts)); r != nil {
		return r
	}
	if !opts.UTF8 && !isASCII(from) {
		return ptr(refuse("protocol", 553, "5.6.7", "The address is not ASCII, expected the parameter SMTPUTF8"))
	}
	if limit := int64(s.rt.Config.Limits.Message); opts.Size > limit {
		return ptr(refuse("size", 552, "5.3.4", fmt.Sprintf("The message is too large: %d bytes, at most %d are accepted", opts.Size, limit)))
	}
	tx.mail = upstream.Mail{
		From:       path,
		Size:       opts.Size,
		Body:       string(opts.Body),
		UTF8:       opts.UTF8,
		Ret:        string(opts.Return),
		EnvID:      opts.EnvelopeID,
		RequireTLS: opts.RequireTLS,
		Auth:       opts.Auth,
	}
	return nil
}

// mailParameters names the extension that each parameter which was given belongs to.
func mailParameters(o *smtp.MailOptions) []string {
	var used []string
	add := func(given bool, keyword string) {
		if given {
			used = append(used, keyword)
		}
	}
	add(o.Size > 0, "SIZE")
	add(o.Body == smtp.Body8BitMIME, "8BITMIME")
	add(o.UTF8, "SMTPUTF8")
	add(o.Return != "" || o.EnvelopeID != "", "DSN")
	add(o.RequireTLS, "REQUIRETLS")
	add(o.Auth != nil, "AUTH")
	return used
}

// offered refuses parameters of extensions that stood in no EHLO reply (RFC 5321 section 4.1.1.11).
func (s *session) offered(keywords []string) *reply {
	for _, k := range keywords {
		if !s.wire.Offered(k) {
			return ptr(refuse("parameter", 555, "5.5.4", "A parameter of "+k+" was given, which is not offered here"))
		}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// splitPath takes apart an address as go-smtp gives it: the local part unquoted. It refuses what no address can hold.
func splitPath(s string) (filters.Path, bool) {
	if s == "" {
		return filters.Path{}, true
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return filters.Path{}, false
	}
	p := filters.Path{Local: s[:at], Domain: s[at+1:]}
	control := func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }
	if len(p.Local) > 256 || strings.ContainsFunc(s, control) || !isDomain(p.Domain) {
		return filters.Path{}, false
	}
	return p, true
}

// shown is an address as the log has it: the local part quoted where that is needed to read it.
func shown(address string) string {
	if path, ok := splitPath(address); ok {
		return path.String()
	}
	return address
}

// isDomain reports whether s can stand behind the @: a domain, in any script, or an address literal.
func isDomain(s string) bool {
	if strings.HasPrefix(s, "[") {
		return strings.HasSuffix(s, "]") && !strings.ContainsAny(s[1:len(s)-1], "[]<>\\ ") && len(s) <= 80
	}
	if len(s) > 255 || s == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63*4 {
			return false
		}
		for i := 0; i < len(label); i++ {
			if c := label[i]; c < 0x80 && !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// Rcpt judges one recipient: ours first, then the upstream, which hears it at once.
func (s *session) Rcpt(to string, opts *smtp.RcptOptions) error {
	tx := s.tx
	if tx == nil {
		return refuse("protocol", 503, "5.5.1", "There is no sender yet, expected MAIL").err()
	}
	tx.addressed = append(tx.addressed, shown(to))
	r, err := s.acceptRcpt(to, opts)
	if r.Code/100 == 2 {
		return nil
	}
	if r.by != "upstream" || err != nil {
		r = withID(r, tx.id) // the upstream's own words are passed on as they are
	}
	tx.rcptsRefused++
	s.srv.metrics.recipient(r, err)
	tx.lastRefusal = r
	tx.note(err)
	if r.Code/100 == 5 {
		if s.unknown++; s.unknown > tx.rt.Config.Limits.Unknown {
			tx.lastRefusal = withID(refuse(r.by, 421, "4.7.0", "Too many recipients were refused, closing the connection"), tx.id)
			return tx.lastRefusal.err()
		}
	}
	return r.err()
}

// acceptRcpt gives a positive reply for a recipient that the upstream took. The error is the cause of a failure.
func (s *session) acceptRcpt(to string, opts *smtp.RcptOptions) (reply, error) {
	tx := s.tx
	path, r := s.checkRcpt(to, opts)
	if r != nil {
		return *r, nil
	}
	rt := tx.rt.route(path.Domain)
	if r := s.together(path, rt); r != nil {
		return *r, nil
	}
	known := rt.name + " " + to
	if r, ok := s.remembered(known); ok {
		return r, nil
	}
	if r := s.refuseEarly(path); r != nil {
		return *r, nil
	}
	s.prepareDelivery(rt)
	answer, err := s.delivery.rcpt(s.ctx, upstreamRcpt(path, opts))
	if err != nil {
		return unreachable(err), err
	}
	if answer.Positive() {
		tx.rcpts = append(tx.rcpts, filters.Rcpt{To: path})
		return reply{Reply: filters.Reply{Code: 250}}, nil
	}
	tx.answer, tx.upstream = answer, rt.name
	if s.delivery.on != nil {
		tx.upstream = s.delivery.on.label()
	}
	r2 := fromUpstream(answer)
	if answer.Code == 421 {
		r2.Code, r2.Enhanced = 451, "4.4.2"
	}
	if noSuchUser(answer) && s.delivery.refused.Code == 0 {
		s.srv.strangers.Add(known, refusedRcpt{reply: r2, expires: time.Now().Add(strangersFor)})
	}
	return r2, nil
}

// prepareDelivery takes the connection to the next hop that an earlier transaction left, or makes ready for a new one:
// where the route is another, or where the next hop was told of another client (XCLIENT, another HELO, TLS since).
func (s *session) prepareDelivery(rt *route) {
	tx := s.tx
	if s.delivery != nil && len(tx.rcpts) > 0 {
		return // under way
	}
	client := s.upstreamClient(s.wire, tx.id)
	if s.delivery == nil || s.delivery.route != rt || !s.delivery.speaksFor(client) {
		s.delivery.close()
		s.delivery = &delivery{route: rt}
	}
	s.delivery.client, s.delivery.mail = client, tx.mail
}

// noSuchUser reports whether a refusal is about the recipient and so the same for every sender: the upstream may refuse
// a recipient for the message's size, say, or for its sender.
func noSuchUser(r upstream.Reply) bool {
	return r.Code == 550 && !r.Own && (r.Enhanced == "" || strings.HasPrefix(r.Enhanced, "5.1."))
}

// checkRcpt refuses what needs no upstream: a bad address, relaying, parameters and limits.
func (s *session) checkRcpt(to string, opts *smtp.RcptOptions) (filters.Path, *reply) {
	tx := s.tx
	path, ok := splitPath(to)
	switch {
	case !ok || path.Null():
		return path, ptr(refuse("protocol", 553, "5.1.3", "That is not an address, expected RCPT TO:<local-part@domain>"))
	case !tx.rt.Config.Domains.Accepts(path.Domain):
		return path, ptr(refuse("relay", 550, "5.7.1", "Mail for "+path.Domain+" is not accepted here: relaying denied"))
	case tx.rt.Config.Domains.Guards() && routesOn(path.Local):
		return path, ptr(refuse("relay", 550, "5.7.1", "An address that asks to be sent on elsewhere is not accepted here: relaying denied"))
	case !tx.mail.UTF8 && !isASCII(to):
		return path, ptr(refuse("protocol", 553, "5.6.7", "The address is not ASCII, expected SMTPUTF8 with MAIL"))
	case len(tx.rcpts) >= tx.rt.Config.Limits.Recipients:
		return path, ptr(refuse("limit", 452, "4.5.3", fmt.Sprintf("At most %d recipients a message, send to the others in another", tx.rt.Config.Limits.Recipients)))
	}
	if len(opts.Notify) > 0 || opts.OriginalRecipient != "" {
		return path, s.offered([]string{"DSN"})
	}
	return path, nil
}

// routesOn reports whether a local part is itself an address: user%other@ours, other!user@ours, "user@other"@ours. A server
// behind that trusts us, as Postfix does by default for its own networks, would send such mail on to the other domain.
func routesOn(local string) bool { return strings.ContainsAny(local, "@%!") }

// together refuses, for now, a recipient that can't share a transaction with the first one.
func (s *session) together(path filters.Path, rt *route) *reply {
	tx := s.tx
	alone := s.srv.memory.isApart(tx.from, path)
	if len(tx.rcpts) == 0 {
		tx.alone = alone
		return nil
	}
	if alone || tx.alone {
		return ptr(refuse("memory", 452, "4.5.3", "That recipient is to be served apart, send to it in a message of its own"))
	}
	if tx.rt.route(tx.rcpts[0].To.Domain) != rt {
		return ptr(refuse("route", 452, "4.5.3", "That recipient is on another server, send to it in a message of its own"))
	}
	policy := tx.rt.policy
	if policy.Split == filters.SplitDefer && !policy.Same(path.Domain, tx.rcpts[0].To.Domain) {
		return ptr(refuse("policy", 452, "4.5.3", "That recipient is under another policy, send to it in a message of its own"))
	}
	return nil
}

// remembered finds a recipient that the upstream refused a moment ago.
func (s *session) remembered(key string) (reply, bool) {
	known, ok := s.srv.strangers.Get(key)
	if !ok || time.Now().After(known.expires) {
		return reply{}, false
	}
	return known.reply, true
}

// refuseEarly asks the lists and rules that may refuse before DATA. Observe mode and a client that is not judged
// yet refuse nothing.
func (s *session) refuseEarly(path filters.Path) *reply {
	tx := s.tx
	if tx.rt.Config.Observe || s.relay {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, tx.rt.Config.Budget.Filters)
	defer cancel()
	findings := s.run.Refusals(ctx, tx.rt.Rules, append(slices.Clone(tx.rcpts), filters.Rcpt{To: path}))
	if len(findings) == 0 {
		return nil
	}
	v := tx.rt.policy.RefuseEarly(filters.Case{
		ID:       tx.id,
		Mail:     &filters.Mail{From: tx.from},
		Rcpts:    []filters.Rcpt{{To: path}},
		Findings: findings,
	})
	if v.Reply.Code == 0 {
		return nil
	}
	tx.verdict = v
	return &reply{Reply: v.Reply, by: v.By}
}

func upstreamRcpt(path filters.Path, opts *smtp.RcptOptions) upstream.Rcpt {
	r := upstream.Rcpt{
		To:        path,
		ORcptType: strings.ToLower(string(opts.OriginalRecipientType)),
		ORcpt:     opts.OriginalRecipient,
	}
	for _, n := range opts.Notify {
		r.Notify = append(r.Notify, string(n))
	}
	return r
}

// unreachable says that the next hop can't be used. Why is for the log: the client only hears that it is not its fault.
func unreachable(err error) reply {
	text := "The mail server behind this one can't be reached just now, please try again later"
	if f, ok := asUpstreamError(err); ok && f.Timeout() {
		text = "The mail server behind this one does not answer in time, please try again later"
	}
	return refuse("upstream", 451, "4.4.1", text)
}

// Data takes the message, has it judged and carries out the verdict. The message is read from the wire, which has it without
// going through it once more.
func (s *session) Data(io.Reader) error {
	if s.tx == nil || len(s.tx.rcpts) == 0 {
		return refuse("protocol", 503, "5.5.1", "There is no recipient yet, expected RCPT").err()
	}
	answer := s.receive(s.tx, s.wire.Body())
	s.answered(s.tx, answer)
	return answer.err()
}
