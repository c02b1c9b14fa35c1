package ledger

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
)

// A book knows what was said and what was done about every message.
type book struct {
	mu       sync.Mutex
	accounts map[string]*account
	strays   []string // messages that nobody sent
	missed   []string // faults that could not be brought about
	vanished []net.Conn
}

// An account is that of one message.
type account struct {
	id      string
	cause   cause
	rcpts   []string
	message []byte

	tries  int
	told   map[string]told
	copies map[string]int
	torn   int // copies with other bytes than the client's
	fired  bool

	abandoned bool // the client does not come again
}

// told is the final answer that the client has for a recipient.
type told struct {
	code int
	try  int // at which it came, from 1
}

// A cause is the fault that a message meets, as the table has it.
type cause struct {
	where  string         // side and step
	kind   string         // of fault
	refuse func(int) bool // whether the next hop refuses the n-th recipient for good; nil: none
	name   string         // all of it, to find it again
}

func newBook() *book { return &book{accounts: make(map[string]*account)} }

// open begins an account.
func (b *book) open(id string, c cause, rcpts []string, message []byte) *account {
	a := &account{id: id, cause: c, rcpts: rcpts, message: message, told: make(map[string]told), copies: make(map[string]int)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accounts[id] = a
	return a
}

// miss notes that a fault could not be brought about.
func (b *book) miss(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.missed = append(b.missed, name)
}

// keep keeps a client's connection of which the other side hears no more, until the book is closed.
func (b *book) keep(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.vanished = append(b.vanished, c)
}

// hit notes what befell all messages that are under way.
func (b *book) hit(where string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.accounts {
		if a.tries > 0 && len(a.told) < len(a.rcpts) {
			a.cause.where, a.cause.kind = where, "kill"
		}
	}
}

// settled notes a final answer for recipients.
func (b *book) settled(a *account, code int, rcpts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rcpts {
		a.told[r] = told{code: code, try: a.tries}
	}
}

// try counts an attempt and gives the recipients that still have no final answer.
func (b *book) try(a *account) (pending []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range a.rcpts {
		if a.told[r].code == 0 {
			pending = append(pending, r)
		}
	}
	if len(pending) > 0 {
		a.tries++
	}
	return pending
}

var messageID = regexp.MustCompile(`(?mi)^Message-ID: <([^>@]+)@`)

// take notes that a next hop has taken a message for a recipient.
func (b *book) take(data []byte, rcpt string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := messageID.FindSubmatch(data)
	if m == nil || b.accounts[string(m[1])] == nil {
		b.strays = append(b.strays, fmt.Sprintf("%.200q", data))
		return
	}
	a := b.accounts[string(m[1])]
	a.copies[rcpt]++
	if !bytes.HasSuffix(data, a.message) {
		a.torn++
	}
}

// An outcome is what became of one recipient of one message.
type outcome string

const (
	atOnce      outcome = "at once"       // 250 at the first try
	later       outcome = "later"         // 250 at a further one
	refused     outcome = "refused"       // 5xx that the next hop said
	doubled     outcome = "in doubt"      // two copies, and the log says so
	lost        outcome = "LOST"          // told 250, not there or not whole
	silent      outcome = "SILENT DOUBLE" // two copies without a word
	falseRefuse outcome = "FALSE REFUSAL" // told 5xx without reason
	stuck       outcome = "STUCK"         // no final answer
)

// bad says which outcomes break a promise.
func (o outcome) bad() bool { return o == lost || o == silent || o == falseRefuse || o == stuck }

// judge gives the outcome for the n-th recipient.
func (a *account) judge(n int, inDoubt map[string]bool) outcome {
	r := a.rcpts[n]
	said, copies := a.told[r], a.copies[r]
	switch {
	case said.code/100 == 2 && (copies == 0 || a.torn > 0):
		return lost
	case copies > 1 && !inDoubt[a.id+" "+r]:
		return silent
	case said.code == 0:
		return stuck
	case said.code/100 == 5 && (a.cause.refuse == nil || !a.cause.refuse(n)):
		return falseRefuse
	case said.code/100 == 5:
		return refused
	case copies > 1:
		return doubled
	case said.try > 1:
		return later
	}
	return atOnce
}

// readDoubts finds in the log for which messages and recipients it says, before the message is handed on again, that it is
// in doubt.
func readDoubts(log string) map[string]bool {
	found := make(map[string]bool)
	for line := range strings.Lines(log) {
		if !strings.Contains(line, " event=redelivery ") || logValue(line, "redelivery") != "in_doubt" {
			continue
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(logValue(line, "message_id"), "<"), "@")
		for _, r := range strings.Split(logValue(line, "rcpt_to"), ",") {
			found[id+" "+r] = true
		}
	}
	return found
}

// logValue is that of a key in a line of logfmt, without its quotes.
func logValue(line, key string) string {
	_, rest, ok := strings.Cut(line, " "+key+"=")
	if !ok {
		return ""
	}
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		value, _, _ := strings.Cut(quoted, `"`)
		return value
	}
	value, _, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
	return value
}
