package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"postern/filters"
	"postern/filters/store"
	"postern/proxy/upstream"
)

// A memory knows which messages were handed on, so that one that comes again because its client could not hear our
// reply is not delivered twice in silence. docs/reliability.md says what follows from it.
//
// A message for one recipient has a key: reverse-path, recipient and the client's bytes, without the client's address,
// since a retry may come from another. Under the key stand, apart from each other,
//
//   - a claim, while one transaction delivers the message: a concurrent twin has to wait. Claims belong to the process:
//     they die with it, as its connections to the next hops do, and so never outlive the delivery that they guard.
//   - a fate. It is "in_doubt" from the final dot to the next hop's reply, and stays so when no reply comes; such a
//     message is delivered again, and the log says so. It is "served" when the next hop has taken the message; such a
//     message is answered from memory. That ends as soon as the client shows that it has heard of it (see sign): what
//     comes then is another message, though it be the same to the last byte.
//
// Where the recipients of a message fared differently, the ones that did not get it are marked, by reverse-path and
// recipient, as to be served apart: the next time each is alone in its transaction and has a reply of its own.
//
// A store that fails must not hold mail up: what it can't write is kept in the process (see spared), and the log is told.
type memory struct {
	store  store.Spaces
	claims store.Store
	fates  store.Store
	apart  store.Store
	rates  store.Store // for the checks that count
	log    *slog.Logger

	mu      sync.Mutex
	unheard map[memoryKey]*sign // replies of which it is not known whether they were heard
}

// How long things are remembered. Clients try for four to five days (RFC 5321 section 4.5.4.1).
const (
	servedFor = time.Hour          // the client may not have heard that all is well
	keptFor   = 5 * 24 * time.Hour // the client was told to come again
	claimFor  = time.Hour          // beyond the time that the next hop has for its reply
)

// How many entries are kept: one is about 250 octets in the file.
const (
	fatesKept = 1_000_000
	apartKept = 100_000
	ratesKept = 500_000
)

// A memoryKey is a hash: of reverse-path, recipient and, but for the mark "apart", the message.
type memoryKey [sha256.Size]byte

// What can be known of a message for a recipient.
const (
	inDoubt = "in_doubt"
	served  = "served"
)

// A fate is what became of a message for one recipient. The zero fate is that nothing is known.
type fate struct {
	State string        `json:"state,omitempty"`
	Kept  bool          `json:"kept,omitempty"` // the client was told to come again, and is waited for
	ID    string        `json:"id,omitempty"`   // of the transaction
	Reply filters.Reply `json:"reply,omitzero"` // the next hop's
}

// openMemory opens the store of the configuration. The note, if there is one, is for the log.
func openMemory(c Store, log *slog.Logger) (m *memory, note string, err error) {
	var spaces store.Spaces
	if c.Kind == "bbolt" {
		bolt, moved, err := store.OpenBolt(c.Path, store.BoltOptions{})
		if err != nil {
			return nil, "", err
		}
		spaces, note = bolt, moved
	} else {
		spaces = store.NewMemory(store.Options{})
	}
	m, err = newMemory(spaces, store.NewMemory(store.Options{}), log)
	if err != nil {
		spaces.Close()
	}
	return m, note, err
}

// newMemory makes a memory of a store, which it owns, and another one for the claims.
func newMemory(spaces store.Spaces, claims store.Store, log *slog.Logger) (m *memory, err error) {
	m = &memory{store: spaces, claims: claims, log: log, unheard: make(map[memoryKey]*sign)}
	fates, err := spaces.Space("delivery", fatesKept)
	if err != nil {
		return nil, err
	}
	apart, err := spaces.Space("apart", apartKept)
	if err != nil {
		return nil, err
	}
	m.fates, m.apart = newSpared(fates), newSpared(apart)
	if m.rates, err = spaces.Space("rates", ratesKept); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *memory) close() error { return m.store.Close() }

// warn tells of a failure that belongs to no transaction's line.
func (m *memory) warn(err error) {
	m.log.Warn("store_failed", "error", err.Error())
}

// keyOf is the key of a message, by its hash, for one recipient; of the pair of addresses alone without one.
func keyOf(from, to filters.Path, digest []byte) memoryKey {
	h := sha256.New()
	for _, part := range []string{from.Local, canonicalDomain(from.Domain), to.Local, canonicalDomain(to.Domain)} {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(part)))
		h.Write(size[:])
		h.Write([]byte(part))
	}
	h.Write(digest)
	return memoryKey(h.Sum(nil))
}

// look gives what is known under a key. A reply that a client turns out to have heard is forgotten first.
func (m *memory) look(key memoryKey) (fate, error) {
	m.mu.Lock()
	pending := m.unheard[key]
	m.mu.Unlock()
	if pending != nil {
		m.check(pending)
	}
	value, ok, err := m.fates.Get(key[:])
	if err != nil || !ok {
		return fate{}, err
	}
	var f fate
	if err := json.Unmarshal(value, &f); err != nil {
		return fate{}, fmt.Errorf("an entry that can't be read: %w", err)
	}
	return f, nil
}

// fates are changes to the fates of one message's recipients. The store makes them as one.
type fates []store.Change

func (c *fates) become(key memoryKey, f fate) error {
	ttl := keptFor
	if f.State == served && !f.Kept {
		ttl = servedFor
	}
	value, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("an entry that can't be written: %w", err)
	}
	*c = append(*c, store.Change{Key: key[:], Value: value, TTL: ttl})
	return nil
}

func (c *fates) forget(key memoryKey) {
	*c = append(*c, store.Change{Key: key[:], Delete: true})
}

// claimed reports whether a transaction is delivering the message just now.
func (m *memory) claimed(key memoryKey) (bool, error) {
	_, ok, err := m.claims.Get(key[:])
	return ok, err
}

// claim takes the message for a transaction, or renews its claim; false: another one has it.
func (m *memory) claim(key memoryKey, id string, ttl time.Duration) (bool, error) {
	holder, stored, err := m.claims.PutIfAbsent(key[:], []byte(id), ttl)
	if err != nil || stored {
		return true, err
	}
	if string(holder) != id {
		return false, nil
	}
	return true, m.claims.Put(key[:], []byte(id), ttl)
}

// isApart reports whether mail from and to these addresses has to have a transaction of its own.
func (m *memory) isApart(from, to filters.Path) bool {
	key := keyOf(from, to, nil)
	_, ok, err := m.apart.Get(key[:])
	if err != nil {
		m.warn(err)
	}
	return ok
}

// knownReply is a reply of the next hop as it is kept: its first line, of bounded length.
func knownReply(r upstream.Reply) filters.Reply {
	text := ""
	if len(r.Lines) > 0 {
		text = shorten(r.Lines[0])
	}
	return filters.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: text}
}

// An attempt is what one transaction, once its message is there, has to do with the memory.
type attempt struct {
	memory   *memory
	id       string
	claimFor time.Duration
	due      []entry // what is to be delivered, in the order of the transaction's recipients
	served   []entry // what was delivered before
	outcomes []outcome
	mixed    bool // no reply is true of all recipients
	holding  int  // how many of due are claimed
	offered  bool // the final dot was about to be sent: in_doubt is written
	failed   error
}

// An entry is one recipient of an attempt.
type entry struct {
	from, to filters.Path
	key      memoryKey
	was      fate // before the attempt
}

// An outcome is what an attempt led to for one recipient. The zero outcome: nothing, it was not offered.
type outcome struct {
	state string // served, inDoubt or, with a negative reply, ""
	reply upstream.Reply
}

// attempt looks up what is known of a message. The second result is true where another transaction is delivering it.
func (m *memory) attempt(id string, from filters.Path, rcpts []filters.Rcpt, digest []byte, reply time.Duration) (*attempt, bool) {
	a := &attempt{memory: m, id: id, claimFor: claimFor + reply}
	for _, r := range rcpts {
		e := entry{from: from, to: r.To, key: keyOf(from, r.To, digest)}
		// In this order: a claim is given up after the fate was written.
		busy, err := m.claimed(e.key)
		a.note(err)
		if busy {
			return a, true
		}
		e.was, err = m.look(e.key)
		a.note(err)
		if e.was.State == served {
			a.served = append(a.served, e)
		} else {
			a.due = append(a.due, e)
		}
	}
	return a, false
}

// note keeps the first failure of the store for the transaction's log line.
func (a *attempt) note(err error) {
	if err != nil && a.failed == nil {
		a.failed = fmt.Errorf("delivery memory: %w", err)
	}
}

// begin claims what is due; false: another transaction has been quicker with a part of it.
func (a *attempt) begin() bool {
	for i := range a.due {
		e := &a.due[i]
		ok, err := a.memory.claim(e.key, a.id, a.claimFor)
		a.note(err)
		if !ok {
			a.release()
			return false
		}
		a.holding = i + 1
		e.was, err = a.memory.look(e.key)
		a.note(err)
		if e.was.State == served {
			a.release()
			return false
		}
	}
	return true
}

// offer is called just before the final dot: from here on the next hop may have the message. False: the claim has
// passed to another transaction.
func (a *attempt) offer() bool {
	for _, e := range a.due {
		ok, err := a.memory.claim(e.key, a.id, a.claimFor)
		a.note(err)
		if !ok {
			return false
		}
	}
	a.offered = true
	var changes fates
	for _, e := range a.due {
		a.note(changes.become(e.key, fate{State: inDoubt, ID: a.id}))
	}
	a.note(a.memory.fates.Apply(changes))
	return true
}

// release gives the claims back, but for one that has passed to another transaction. It may be called more than once.
func (a *attempt) release() {
	for _, e := range a.due[:a.holding] {
		holder, ok, err := a.memory.claims.Get(e.key[:])
		a.note(err)
		if ok && string(holder) == a.id {
			a.note(a.memory.claims.Delete(e.key[:]))
		}
	}
	a.holding = 0
}

// judge takes in what the next hop said.
func (a *attempt) judge(result upstream.DataResult, err error) {
	f, ok := asUpstreamError(err)
	offered := result.Offered || ok && f.Offered
	a.outcomes = make([]outcome, len(a.due))
	for i := range a.outcomes {
		o := &a.outcomes[i]
		switch {
		case i < len(result.Per):
			o.reply = result.Per[i]
		case err == nil && len(result.Per) == 0:
			o.reply = result.Reply
		}
		switch {
		case o.reply.Positive():
			o.state = served
		case o.reply.Code == 0 && offered:
			o.state = inDoubt
		}
		a.mixed = a.mixed || o.reply.Code/100 != a.outcomes[0].reply.Code/100
	}
}

// settle writes down what became of the message, when the client's reply is known, and gives the claims back. Which
// recipients are to be served apart is decided here: where no reply is true of all, those that did not get the message.
func (a *attempt) settle(code int) {
	a.mixed = a.mixed || len(a.served) > 0 && code/100 == 5
	again := code/100 != 2
	var changes fates
	for i, o := range a.outcomes {
		e := a.due[i]
		switch {
		case o.state == served:
			a.note(changes.become(e.key, fate{State: served, Kept: again, ID: a.id, Reply: knownReply(o.reply)}))
		case o.state == "" && a.offered && e.was.State == "":
			changes.forget(e.key)
		}
		if a.mixed && o.state == "" && o.reply.Code != 0 {
			a.setApart(e)
		}
	}
	for _, e := range a.served {
		e.was.Kept = e.was.Kept || again
		a.note(changes.become(e.key, e.was))
	}
	a.note(a.memory.fates.Apply(changes))
	if a.outcomes == nil && a.mixed {
		for _, e := range a.due {
			a.setApart(e)
		}
	}
	a.release()
}

func (a *attempt) setApart(e entry) {
	key := keyOf(e.from, e.to, nil)
	a.note(a.memory.apart.Put(key[:], nil, keptFor))
}

// alone ends the mark of a recipient that got a final reply of its own.
func (a *attempt) alone(from, to filters.Path) {
	key := keyOf(from, to, nil)
	a.note(a.memory.apart.Delete(key[:]))
}

// redelivery is what the log line says of a message that came before, "" if it did not.
func (a *attempt) redelivery() string {
	var words []string
	if len(a.served) > 0 {
		words = append(words, served)
	}
	for _, e := range a.due {
		if a.offered && e.was.State == inDoubt {
			words = append(words, inDoubt)
			break
		}
	}
	return strings.Join(words, ",")
}

// keys are those of all recipients.
func (a *attempt) keys() []memoryKey {
	var keys []memoryKey
	for _, list := range [][]entry{a.served, a.due} {
		for _, e := range list {
			keys = append(keys, e.key)
		}
	}
	return keys
}
