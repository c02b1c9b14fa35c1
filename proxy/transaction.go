package proxy

import (
	"errors"
	"slices"
	"time"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy/upstream"
)

// A transaction is one mail transaction, from MAIL to the reply after the data or to what ended it before.
type transaction struct {
	id       string
	rt       *Runtime
	started  time.Time
	mailFrom string // as it was given
	from     filters.Path
	mail     upstream.Mail

	addressed    []string // every recipient that was asked for, as it was given
	rcpts        []filters.Rcpt
	rcptsRefused int
	lastRefusal  reply
	causes       []string // what failed while recipients were offered, each once
	alone        bool     // the first recipient can't share the transaction: see memory

	spool   *spool
	attempt *attempt // nil before the message is there
	message *message.Message
	result  filters.Result
	judged  filters.Client // whom the verdict is about
	rdns    string

	verdict  filters.Verdict
	reply    reply
	ended    bool
	aborted  string // why it was given up, "" when it was not
	cause    error  // what failed, for the log
	upstream string
	answer   upstream.Reply
	stripped []string

	filtersTook, upstreamTook time.Duration
	dns                       filters.DNSCost
}

// refuse ends the transaction before any message was taken.
func (tx *transaction) refuse(r reply) {
	tx.ended, tx.reply = true, r
	tx.verdict.Action, tx.verdict.By = filters.Reject, r.by
	if r.Code/100 == 4 {
		tx.verdict.Action = filters.Defer
	}
}

// note keeps what failed, for the log.
func (tx *transaction) note(err error) {
	if err != nil && !slices.Contains(tx.causes, err.Error()) && len(tx.causes) < 10 {
		tx.causes = append(tx.causes, err.Error())
	}
}

// abandon ends a transaction that the client did not bring to an end. When no recipient was accepted, the last
// refusal is what happened to it.
func (tx *transaction) abandon(reason string) {
	if len(tx.rcpts) == 0 && tx.rcptsRefused > 0 {
		verdict := tx.verdict
		tx.refuse(tx.lastRefusal)
		if verdict.By == tx.lastRefusal.by && verdict.By != "" {
			verdict.Action = tx.verdict.Action
			tx.verdict = verdict
		}
		return
	}
	tx.ended = true
	tx.aborted = reason
	if reason == "" {
		tx.aborted = "reset"
	}
}

func asUpstreamError(err error) (*upstream.Error, bool) {
	var f *upstream.Error
	ok := errors.As(err, &f)
	return f, ok
}
