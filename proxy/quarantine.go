package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy/upstream"
)

// The fields by which a diverted message keeps its envelope. They stand at its top, below those of the Maildir, and
// are taken off again when it is released.
const (
	fieldID      = "X-Postern-Id"
	fieldFrom    = "X-Postern-Envelope-From"
	fieldTo      = "X-Postern-Envelope-To"
	fieldVerdict = "X-Postern-Verdict"
)

func envelopeFields(tx *transaction) []message.Field {
	v := tx.verdict
	fields := []message.Field{
		message.NewField(fieldID, tx.id),
		message.NewField(fieldVerdict, fmt.Sprintf("score=%s limit=%s by=%s", v.Score, v.Limit, v.By)),
		message.NewField(fieldFrom, "<"+tx.from.String()+">"),
	}
	for _, r := range tx.rcpts {
		fields = append(fields, message.NewField(fieldTo, "<"+r.To.String()+">"))
	}
	return fields
}

// A Quarantine is a Maildir of diverted messages.
type Quarantine struct {
	dir *upstream.Maildir
	rt  *Runtime
}

// A Quarantined message and its envelope.
type Quarantined struct {
	ID      string // that of the transaction, as in the log
	File    string
	Time    time.Time
	Size    int64
	From    string
	Rcpts   []string
	Subject string
	Verdict string

	entry string // the Maildir's own id
}

// Quarantine gives the configured quarantine, if it is one that can be listed.
func (rt *Runtime) Quarantine() (*Quarantine, error) {
	path, isMaildir := strings.CutPrefix(rt.Config.UpstreamAddress(rt.Config.Quarantine), "maildir:")
	switch {
	case rt.Config.Quarantine == "":
		return nil, errors.New("the configuration has no quarantine, expected quarantine: maildir:PATH")
	case !isMaildir:
		return nil, fmt.Errorf("the quarantine %s is a mail server: its messages are there, only a maildir: can be listed here", rt.Config.Quarantine)
	}
	return &Quarantine{dir: upstream.NewMaildir(path, rt.Config.Hostname), rt: rt}, nil
}

// List gives all messages, the oldest first.
func (q *Quarantine) List() ([]Quarantined, error) {
	entries, err := q.dir.List()
	if err != nil {
		return nil, err
	}
	list := make([]Quarantined, 0, len(entries))
	for _, e := range entries {
		item, err := readQuarantined(e)
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}

func readQuarantined(e upstream.Entry) (Quarantined, error) {
	f, err := os.Open(e.Path)
	if err != nil {
		return Quarantined{}, err
	}
	defer f.Close()
	msg, err := message.Read(f, e.Size)
	if err != nil {
		return Quarantined{}, fmt.Errorf("reading %s: %w", e.Path, err)
	}
	value := func(name string) string {
		field, _ := msg.Header.First(name)
		return field.Value()
	}
	item := Quarantined{
		ID:      value(fieldID),
		File:    e.Path,
		Time:    e.Time,
		Size:    e.Size,
		From:    unbracket(value(fieldFrom)),
		Verdict: value(fieldVerdict),
		entry:   e.ID,
	}
	for _, f := range ownBlock(msg.Header) {
		if strings.EqualFold(f.Name, fieldTo) {
			item.Rcpts = append(item.Rcpts, unbracket(f.Value()))
		}
	}
	if subject, ok := msg.Header.First("Subject"); ok {
		item.Subject = subject.Decoded()
	}
	return item, nil
}

func unbracket(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
}

// Find gives the message of an id: that of the log, or the name of its file.
func (q *Quarantine) Find(id string) (Quarantined, error) {
	list, err := q.List()
	if err != nil {
		return Quarantined{}, err
	}
	for _, item := range list {
		if item.ID == id || item.entry == id {
			return item, nil
		}
	}
	return Quarantined{}, fmt.Errorf("no message %q in the quarantine", id)
}

// Open reads a message as it is stored, with its envelope on top.
func (q *Quarantine) Open(id string) (io.ReadCloser, error) {
	item, err := q.Find(id)
	if err != nil {
		return nil, err
	}
	return os.Open(item.File)
}

// Release delivers a message to its recipients by way of the upstream for their domain, without the fields that mark
// it as spam, and removes it when all of them have it. A recipient that is refused leaves it where it is; where some have
// it and others do not, it stays for those others only, so that releasing it again doubles it for nobody.
func (q *Quarantine) Release(ctx context.Context, id string) (Quarantined, error) {
	item, err := q.Find(id)
	if err != nil {
		return item, err
	}
	raw, err := os.ReadFile(item.File)
	if err != nil {
		return item, err
	}
	msg, err := message.Read(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return item, err
	}
	block := joinFields(ownBlock(msg.Header))
	if len(item.Rcpts) == 0 {
		return item, fmt.Errorf("%s has no envelope: it was not diverted by Postern", item.File)
	}
	had, err := q.deliver(ctx, item, raw[len(block):])
	if err != nil && len(had) > 0 {
		err = fmt.Errorf("delivered to %s; it stays for the others: %w", strings.Join(had, ", "), err)
		kept := append(envelopeWithout(ownBlock(msg.Header), had), raw[len(block):]...)
		if rerr := q.dir.Rewrite(item.entry, kept); rerr != nil {
			err = errors.Join(err, fmt.Errorf("%s still names those who have it: %w", item.File, rerr))
		}
	}
	if err != nil {
		return item, err
	}
	return item, q.dir.Remove(item.entry)
}

// envelopeWithout is the block of fields on top without recipients that have the message.
func envelopeWithout(block message.Header, had []string) []byte {
	var kept []byte
	for _, f := range block {
		if strings.EqualFold(f.Name, fieldTo) && slices.Contains(had, unbracket(f.Value())) {
			continue
		}
		kept = append(kept, f.Raw...)
	}
	return kept
}

// ownBlock is the fields on top that diverting has added: the Maildir's, the envelope, the X-Spam fields.
func ownBlock(h message.Header) message.Header {
	for i, f := range h {
		name := strings.ToLower(f.Name)
		ours := name == "return-path" || name == "delivered-to" ||
			strings.HasPrefix(name, "x-postern-") || strings.HasPrefix(name, "x-spam-")
		if !ours {
			return h[:i]
		}
	}
	return h
}

// A release is the part of a delivery from the quarantine that one route has.
type release struct {
	delivery *delivery
	rcpts    []string
}

// deliver gives the recipients that have the message, of whom there may be some even where it fails.
func (q *Quarantine) deliver(ctx context.Context, item Quarantined, body []byte) (had []string, err error) {
	releases, err := q.address(ctx, item, int64(len(body)))
	defer func() {
		for _, r := range releases {
			r.delivery.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, r := range releases {
		result, err := r.delivery.data(ctx, func() upstream.Body { return upstream.Body{Message: bytes.NewReader(body)} })
		took, refusal := r.took(result, err)
		had = append(had, took...)
		if err == nil {
			err = refusal
		}
		if err != nil {
			return had, err
		}
	}
	return had, nil
}

// took gives the recipients for whom the next hop took the message, and its refusal for another.
func (r *release) took(result upstream.DataResult, failed error) (had []string, refusal error) {
	for i, to := range r.rcpts {
		reply := result.Reply
		if i < len(result.Per) {
			reply = result.Per[i]
		} else if failed != nil || len(result.Per) > 0 {
			continue // it is not known
		}
		if reply.Positive() {
			had = append(had, to)
		} else if refusal == nil {
			refusal = fmt.Errorf("%s refuses the message for %s: %s", r.delivery.route.name, to, reply)
		}
	}
	return had, refusal
}

// address names all recipients to the next hops. None may be refused: the message would be delivered to a part of them.
func (q *Quarantine) address(ctx context.Context, item Quarantined, size int64) ([]*release, error) {
	from, err := filters.ParsePath(item.From)
	if err != nil {
		return nil, fmt.Errorf("the stored reverse-path %q is %w", item.From, err)
	}
	byRoute := make(map[*route]*release)
	var all []*release
	for _, to := range item.Rcpts {
		path, err := filters.ParsePath(to)
		if err != nil {
			return all, fmt.Errorf("the stored recipient %q is %w", to, err)
		}
		rt := q.rt.route(path.Domain)
		r := byRoute[rt]
		if r == nil {
			r = &release{delivery: &delivery{
				route:  rt,
				client: upstream.Client{Helo: q.rt.Config.Hostname, Extended: true, ID: item.ID},
				mail:   upstream.Mail{From: from, Size: size, Body: "8BITMIME", UTF8: !isASCII(item.From + strings.Join(item.Rcpts, ""))},
			}}
			byRoute[rt] = r
			all = append(all, r)
		}
		answer, err := r.delivery.rcpt(ctx, upstream.Rcpt{To: path})
		if err != nil {
			return all, err
		}
		if !answer.Positive() {
			return all, fmt.Errorf("%s refuses %s: %s", rt.name, to, answer)
		}
		r.rcpts = append(r.rcpts, to)
	}
	return all, nil
}
