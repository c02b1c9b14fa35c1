package proxy

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"postern/filters"
	"postern/proxy/upstream"
)

// This file is where a session meets the memory of deliveries.

// errTwin withdraws a delivery whose message another transaction has taken up.
var errTwin = errors.New("the same message is being delivered in another transaction")

// recall looks whether the message came before. What was delivered to all its recipients is answered at once, without
// asking the checks again; where it was to some, only the others are left in the transaction. The second result is
// false where there is something to be delivered.
func (s *session) recall(tx *transaction) (reply, bool) {
	a, busy := s.srv.memory.attempt(tx.id, tx.from, tx.rcpts, tx.spool.Sum(), tx.rt.Config.Budget.Reply)
	tx.attempt = a
	switch {
	case busy:
		return tx.twin(), true
	case len(a.served) == 0:
		return reply{}, false
	case len(a.due) == 0:
		tx.verdict.Action, tx.verdict.By = filters.Accept, "memory"
		return withID(refuse("memory", 250, "2.0.0", "The message was accepted before, as id "+a.served[0].was.ID), tx.id), true
	}
	due := make([]bool, len(tx.rcpts))
	for i, r := range tx.rcpts {
		due[i] = slices.ContainsFunc(a.due, func(e entry) bool { return e.to == r.To })
	}
	s.delivery.only(s.ctx, due)
	tx.rcpts = tx.rcpts[:0:0]
	for _, e := range a.due {
		tx.rcpts = append(tx.rcpts, filters.Rcpt{To: e.to})
	}
	return reply{}, false
}

// firstAnswer is what the next hop said when it took a message that is answered from memory.
func (tx *transaction) firstAnswer() upstream.Reply {
	if tx.attempt == nil || len(tx.attempt.served) == 0 || len(tx.attempt.due) > 0 {
		return upstream.Reply{}
	}
	r := tx.attempt.served[0].was.Reply
	return upstream.Reply{Code: r.Code, Enhanced: r.Enhanced, Lines: []string{r.Text}}
}

// twin is the reply to a message that is being delivered in another transaction.
func (tx *transaction) twin() reply {
	tx.verdict.Action, tx.verdict.By = filters.Defer, "in_flight"
	return withID(refuse("in_flight", 451, "4.3.0", "The same message is just being delivered on another connection, please try again later"), tx.id)
}

// foretell writes the line that a recipient may be about to have the message twice. It comes before the final dot: the line
// of the transaction comes after it, and may never be written where the process is killed in between.
func (s *session) foretell(tx *transaction) {
	var again []string
	for _, e := range tx.attempt.due {
		if e.was.State == inDoubt {
			again = append(again, shown(e.to.String()))
		}
	}
	if len(again) == 0 {
		return
	}
	line := attrs{}
	line.add("v", slog.IntValue(logVersion))
	line.text("ip", addrString(s.judgedIP(tx)))
	line.text("id", tx.id)
	line.text("redelivery", inDoubt)
	line.foreign("mail_from", tx.mailFrom)
	line.foreign("rcpt_to", strings.Join(again, ","))
	line.foreign("message_id", tx.headerValue("Message-ID"))
	s.srv.record("redelivery", line.list)
}

// remember has the memory write down what became of the message, and gives the reply that is true of all recipients:
// one that was served before is not told that the message was refused.
func (s *session) remember(tx *transaction, answer reply) reply {
	a := tx.attempt
	if a == nil {
		return answer
	}
	a.settle(answer.Code)
	switch {
	case a.mixed && answer.Code/100 == 5:
		tx.verdict.Action = filters.Defer
		answer = withID(refuse(answer.by, 451, "4.3.0", "Not every recipient can have the message: "+answer.Text), tx.id)
	case tx.alone && len(tx.rcpts) == 1 && answer.Code/100 != 4:
		a.alone(tx.from, tx.rcpts[0].To)
	}
	return answer
}

// answered is told which reply the client is about to be given for its message.
func (s *session) answered(tx *transaction, answer reply) {
	s.listenFor(nil)
	if answer.Code/100 == 2 && tx.attempt != nil {
		s.listenFor(s.srv.memory.await(s.wire, tx.attempt.keys()))
	}
}

// hears looks whether the client has shown by now that it heard the last reply to a message.
func (c *connection) hears() {
	if c.unheard != nil && c.srv.memory.check(c.unheard) {
		c.unheard = nil
	}
}

// listenFor waits for another sign, or for none, than before.
func (c *connection) listenFor(next *sign) {
	c.hears()
	if c.unheard != nil {
		c.srv.memory.giveUp(c.unheard)
	}
	c.unheard = next
}
