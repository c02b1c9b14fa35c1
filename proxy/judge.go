package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy/upstream"
	"postern/proxy/wire"
)

// receive spools the message, has it judged and carries out the verdict. What it returns is the reply after the
// final dot.
func (s *session) receive(tx *transaction, r io.Reader) reply {
	refusal := s.spool(tx, r)
	if tx.ended {
		return tx.reply
	}
	if refusal == nil {
		if answer, known := s.recall(tx); known {
			tx.ended, tx.reply = true, answer
			return answer
		}
		refusal = loopRefusal(tx)
	}
	if refusal == nil {
		s.judge(tx)
	}
	s.decide(tx, refusal)
	answer := s.remember(tx, s.carryOut(tx))
	tx.ended, tx.reply = true, answer
	return answer
}

// spool reads the message to its end. A message that can't be kept is a refusal; a client that is gone ends the
// transaction.
func (s *session) spool(tx *transaction, r io.Reader) *filters.Refusal {
	limits := tx.rt.Config.Limits
	spooled, err := spoolFrom(r, s.srv.bounds(limits))
	tx.spool = spooled
	var broken *wire.DataError
	switch wireErr := s.wire.DataErr(); {
	case errors.As(wireErr, &broken):
		by := "newline"
		if broken.Reply.Code == 552 {
			by = "size"
		}
		return refusal(by, broken.Reply.Code, broken.Reply.Enhanced, broken.Reply.Text)
	case errors.Is(err, errTooLarge):
		return refusal("size", 552, "5.3.4", fmt.Sprintf("The message is too large, at most %d bytes are accepted", int64(limits.Message)))
	case errors.Is(err, errSpoolFull):
		tx.cause = err
		return refusal("spool", 452, "4.3.1", "There is no room for the message just now, please try again later")
	case err != nil:
		tx.cause = err
		tx.abandon(s.wire.Reason())
		tx.reply = refuse("client", 451, "4.4.2", "The message did not arrive whole")
		return nil
	}
	tx.message, err = message.Read(spooled, spooled.Size())
	if err != nil {
		tx.cause = err
		return refusal("spool", 451, "4.3.0", "The message could not be read back, please try again later")
	}
	return headerRefusal(tx.message, spooled)
}

// headerRefusal refuses a header section that is not read whole: a field of it could claim to be ours, and would be
// passed on. And it refuses a message that begins with white space: put below our fields, that would continue them.
func headerRefusal(msg *message.Message, src io.ReaderAt) *filters.Refusal {
	var first [1]byte
	if n, _ := src.ReadAt(first[:], 0); n == 1 && (first[0] == ' ' || first[0] == '\t') {
		return refusal("header", 554, "5.6.0", "The message begins with white space, expected a header field")
	}
	read := int64(0)
	for _, f := range msg.Header {
		read += int64(len(f.Raw))
	}
	if read == msg.HeaderSize() {
		return nil
	}
	limits := message.DefaultLimits
	return refusal("header", 552, "5.3.4", fmt.Sprintf("The header section is too large, at most %d fields and %d bytes are accepted",
		limits.Fields, limits.Header))
}

func refusal(by string, code int, enhanced, text string) *filters.Refusal {
	return &filters.Refusal{By: by, Reply: filters.Reply{Code: code, Enhanced: enhanced, Text: text}}
}

// ourHops is how often a message may have been here before.
const ourHops = 3

// loopRefusal refuses a message that goes round in circles (RFC 5321 section 6.3).
func loopRefusal(tx *transaction) *filters.Refusal {
	fields := tx.message.Header.All("Received")
	ours := 0
	for _, f := range fields {
		if receivedBy(f.Value(), tx.rt.Config.Hostname) {
			ours++
		}
	}
	if len(fields) >= tx.rt.Config.Limits.Relaying || ours >= ourHops {
		return refusal("loop", 554, "5.4.6", fmt.Sprintf("The message goes round in circles: it has %d Received fields, %d of them ours", len(fields), ours))
	}
	return nil
}

// receivedBy reports whether a Received field was written by the host: "by HOST".
func receivedBy(value, host string) bool {
	words := strings.Fields(strings.ToLower(value))
	for i := 1; i < len(words); i++ {
		if words[i-1] == "by" && words[i] == strings.ToLower(host) {
			return true
		}
	}
	return false
}

// judge runs the checks that need the message and awaits all of them.
func (s *session) judge(tx *transaction) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, tx.rt.Config.Budget.Filters)
	defer cancel()
	run := s.run
	if s.relay {
		run = s.judgeBehindRelay(tx)
		defer run.Close()
	}
	run.Message(tx.rcpts, tx.message)
	tx.result = run.Collect(ctx)
	tx.judged = *run.Input().Client
	tx.rdns = confirmedName(tx.result)
	tx.filtersTook = time.Since(started)
	tx.dns = run.Spent()
}

// judgeBehindRelay begins a run about the client that our relay wrote into its Received field. When none can be
// read, nobody is held to account.
func (s *session) judgeBehindRelay(tx *transaction) *filters.Run {
	networks := tx.rt.Config.Networks
	client := *s.client
	hop, ok := filters.BehindRelays(tx.message.Header, func(ip netip.Addr) bool { return within(networks.Relays, ip) })
	if ok {
		client.IP = hop.IP
		client.Trusted = within(networks.Trusted, hop.IP)
	} else {
		client.IP, client.Trusted = netip.Addr{}, true
	}
	run := tx.rt.pipeline.Start(s.ctx, &client, time.Now)
	if hop.Helo != "" {
		run.Helo(&filters.Helo{Name: hop.Helo, Extended: true})
	}
	run.Mail(&filters.Mail{From: tx.from, Size: tx.mail.Size, UTF8: tx.mail.UTF8})
	return run
}

func confirmedName(res filters.Result) string {
	if fact, ok := res.Facts[filters.IprevKey.Check].(*filters.IprevResult); ok && fact != nil {
		return fact.Name
	}
	return ""
}

func (s *session) decide(tx *transaction, refusal *filters.Refusal) {
	tx.verdict = tx.rt.policy.Decide(filters.Case{
		ID:       tx.id,
		Refusal:  refusal,
		Mail:     &filters.Mail{From: tx.from},
		Rcpts:    tx.rcpts,
		Findings: tx.result.Findings,
	})
}

// carryOut does what the verdict says and gives the reply.
func (s *session) carryOut(tx *transaction) reply {
	v := tx.verdict
	switch v.Action {
	case filters.Reject, filters.Defer:
		return reply{Reply: v.Reply, by: v.By}
	case filters.Quarantine:
		return s.divert(tx)
	}
	return s.deliver(tx)
}

// deliver hands the message to the upstream that took the recipients.
func (s *session) deliver(tx *transaction) reply {
	if !tx.attempt.begin() {
		return tx.twin()
	}
	body := s.bodyFor(tx, nil)
	before := s.delivery.spent
	result, err := s.delivery.data(s.ctx, body)
	tx.upstreamTook = s.delivery.spent - before
	if s.delivery.on != nil {
		tx.upstream = s.delivery.on.label()
	}
	return s.settle(tx, result, err)
}

// settle makes the reply of what the next hop said. 250 is said only if it said so for every recipient.
func (s *session) settle(tx *transaction, result upstream.DataResult, err error) reply {
	tx.attempt.judge(result, err)
	switch {
	case errors.Is(err, errTwin):
		return tx.twin()
	case errors.Is(err, errClientGone):
		tx.cause = err
		tx.aborted = "client gone before delivery"
		tx.verdict.By = "client"
		return refuse("client", 421, "4.4.2", "The connection is gone")
	case err != nil:
		tx.cause = err
		tx.verdict.Action, tx.verdict.By = filters.Defer, "upstream"
		return withID(unreachable(err), tx.id)
	}
	answer := oneReply(result)
	tx.answer = answer
	out := withID(fromUpstream(answer), tx.id)
	switch {
	case answer.Temporary():
		tx.verdict.Action, tx.verdict.By = filters.Defer, "upstream"
	case answer.Permanent():
		tx.verdict.Action, tx.verdict.By = filters.Reject, "upstream"
	}
	if out.Code == 421 { // the next hop's connection ends, not the client's
		out.Code = 451
	}
	return out
}

// oneReply is the one that is true of all recipients. Where they fared differently the client is told to come again:
// the memory sees to it that each recipient gets a reply of its own then.
func oneReply(result upstream.DataResult) upstream.Reply {
	if len(result.Per) == 0 {
		return result.Reply
	}
	first := result.Per[0]
	refused := slices.IndexFunc(result.Per, func(r upstream.Reply) bool { return !r.Positive() })
	differs := func(r upstream.Reply) bool { return r.Code/100 != first.Code/100 }
	if refused < 0 || !slices.ContainsFunc(result.Per, differs) {
		return first
	}
	return upstream.Reply{Code: 451, Enhanced: "4.3.0", Lines: []string{"Not every recipient's mailbox took the message: " + result.Per[refused].String()}}
}

func withID(r reply, id string) reply {
	if strings.HasSuffix(r.Text, "(id "+id+")") {
		return r
	}
	r.Text = strings.TrimSpace(r.Text) + " (id " + id + ")"
	return r
}

// divert hands the message with its envelope to the quarantine. The client hears 250; if diverting fails it hears 4xx
// and keeps the message.
func (s *session) divert(tx *transaction) reply {
	if !tx.attempt.begin() {
		return tx.twin()
	}
	tx.upstream = tx.rt.quarantine.label()
	result, err := s.toQuarantine(tx)
	out := s.settle(tx, result, err)
	if out.Code/100 == 5 {
		out.Code, out.Enhanced = 451, "4.3.0"
		tx.verdict.Action = filters.Defer
	}
	if out.Code/100 == 2 {
		return withID(refuse("quarantine", 250, "2.0.0", "Message accepted"), tx.id)
	}
	return out
}

func (s *session) toQuarantine(tx *transaction) (upstream.DataResult, error) {
	d := &delivery{route: &route{upstreams: []*nextHop{tx.rt.quarantine}}, mail: tx.mail}
	defer d.close()
	for _, r := range tx.rcpts {
		answer, err := d.rcpt(s.ctx, upstream.Rcpt{To: r.To})
		if err != nil {
			return upstream.DataResult{}, err
		}
		if !answer.Positive() {
			return upstream.DataResult{Reply: answer}, nil
		}
	}
	return d.data(s.ctx, s.bodyFor(tx, envelopeFields(tx)))
}

// bodyFor gives the message as it goes out: more fields on top, ours, and then the client's bytes without the fields
// that claim to be ours. Before the final dot it looks whether the client is still there to hear the reply, and has the
// memory note that the outcome is open from here on.
func (s *session) bodyFor(tx *transaction, more []message.Field) func() upstream.Body {
	host := tx.rt.Config.Hostname
	kept := stripOurs(tx.spool, tx.message, host)
	tx.stripped = strippedSigned(tx.message, kept.Stripped, tx.signed)
	subject := tx.tagSubject(&kept)
	block := joinFields(append(append(more, s.ownFields(tx)...), subject...))
	return func() upstream.Body {
		return upstream.Body{Fields: block, Message: kept.Reader(), BeforeDot: func() error {
			if !s.wire.Alive() {
				return errClientGone
			}
			if !tx.attempt.offer() {
				return errTwin
			}
			s.foretell(tx)
			return nil
		}}
	}
}

// ownFields are the fields that we prepend, the last hop on top.
func (s *session) ownFields(tx *transaction) []message.Field {
	t := trace{
		helo: s.helo, rdns: tx.rdns, client: *s.client, extended: s.extended, utf8: tx.mail.UTF8,
		id: tx.id, hostname: tx.rt.Config.Hostname, now: time.Now(),
	}
	t.client.TLS = s.wire.TLS()
	if s.relay {
		t.rdns = "" // it is the name of the client behind the relay
	}
	if len(tx.rcpts) == 1 {
		t.rcpt = tx.rcpts[0].To.String()
	}
	fields := spamFields(tx.verdict, tx.rt.policy.For(tx.rcpts[0].To.Domain).Tag)
	fields = append(fields, filters.AuthResults{AuthservID: t.hostname, Results: tx.result.Auth}.Field())
	fields = append(fields, tx.result.Fields...)
	return append(fields, t.received())
}

// signed reports whether a verified signature covered the field of that index.
func (tx *transaction) signed(index int) bool {
	fact, ok := tx.result.Facts[filters.DKIMKey.Check].(*filters.DKIMResult)
	return ok && fact != nil && fact.Covers(index) != ""
}

// tagSubject takes the Subject out of a message that is tagged and gives it back with the configured mark. It breaks
// signatures, and is off unless configured.
func (tx *transaction) tagSubject(kept *filtered) []message.Field {
	mark := tx.rt.Config.Subject
	if mark == "" || tx.verdict.Action != filters.Tag {
		return nil
	}
	old, _ := tx.message.Header.First("Subject")
	kept.cut(tx.message, "Subject")
	return []message.Field{message.NewField("Subject", mark+" "+old.Value())}
}
