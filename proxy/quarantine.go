package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
// it as spam, and removes it when all of them have it. A recipient that is refused leaves it where it is.
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
	if err := q.deliver(ctx, item, raw[len(block):]); err != nil {
		return item, err
	}
	return item, q.dir.Remove(item.entry)
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

func (q *Quarantine) deliver(ctx context.Context, item Quarantined, body []byte) error {
	from, err := filters.ParsePath(item.From)
	if err != nil {
		return fmt.Errorf("the stored reverse-path %q is %w", item.From, err)
	}
	deliveries := make(map[*route]*delivery)
	var order []*delivery
	for _, to := range item.Rcpts {
		path, err := filters.ParsePath(to)
		if err != nil {
			return fmt.Errorf("the stored recipient %q is %w", to, err)
		}
		rt := q.rt.route(path.Domain)
		d := deliveries[rt]
		if d == nil {
			d = &delivery{
				route:  rt,
				client: upstream.Client{Helo: q.rt.Config.Hostname, Extended: true, ID: item.ID},
				mail:   upstream.Mail{From: from, Size: int64(len(body)), Body: "8BITMIME", UTF8: !isASCII(item.From + strings.Join(item.Rcpts, ""))},
			}
			defer d.close()
			deliveries[rt] = d
			order = append(order, d)
		}
		answer, err := d.rcpt(ctx, upstream.Rcpt{To: path})
		if err != nil {
			return err
		}
		if !answer.Positive() {
			return fmt.Errorf("%s refuses %s: %s", d.route.name, to, answer)
		}
	}
	for _, d := range order {
		result, err := d.data(ctx, func() upstream.Body { return upstream.Body{Message: bytes.NewReader(body)} })
		if err != nil {
			return err
		}
		for _, r := range append(result.Per, result.Reply) {
			if r.Code != 0 && !r.Positive() {
				return fmt.Errorf("%s refuses the message: %s", d.route.name, r)
			}
		}
	}
	return nil
}
