package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"postern/proxy/upstream"
)

// A route is the upstreams for some recipient domains. balance.go says in which order they are tried.
type route struct {
	name      string // for the log: the first address
	upstreams []*nextHop
}

// open gives a connection to the first upstream that takes one, the one that has failed this delivery last. The errors
// of all of them are returned. They are tried whatever is known of their health.
func (r *route) open(ctx context.Context, client upstream.Client, failed *nextHop) (*nextHop, upstream.Conn, error) {
	var errs error
	for _, u := range r.order(rand.IntN, failed) {
		conn, err := u.Open(ctx, client)
		if err == nil {
			u.learn(conn.Caps())
			return u, conn, nil
		}
		if ctx.Err() == nil && !meantForClient(err) {
			u.fail(err)
		}
		errs = errors.Join(errs, err)
	}
	return nil, nil, errs
}

// meantForClient reports whether an upstream may have failed because of the client that it was told of: strangers must
// not be able to take it out of use for all.
func meantForClient(err error) bool {
	var e *upstream.Error
	return errors.As(err, &e) && e.Told
}

// A delivery is one transaction with the next hop. It remembers what was accepted, so that it can begin again on
// another connection as long as the message has not been offered.
type delivery struct {
	route  *route
	client upstream.Client
	mail   upstream.Mail

	on       *nextHop
	conn     upstream.Conn
	began    bool           // MAIL was accepted on conn
	refused  upstream.Reply // MAIL was refused for good
	accepted []upstream.Rcpt
	spent    time.Duration
	replays  int
	failed   *nextHop // the last one that broke off
}

// speaksFor reports whether the next hop was told of this client, whatever the message.
func (d *delivery) speaksFor(client upstream.Client) bool {
	client.ID = d.client.ID
	return d.client == client
}

// maxReplays is how often a transaction begins again on another connection.
const maxReplays = 2

// rcpt offers one recipient, after MAIL where that was not said yet. A failure of the connection is made up for on
// another one; the error that is returned means that no upstream can be used.
func (d *delivery) rcpt(ctx context.Context, r upstream.Rcpt) (upstream.Reply, error) {
	started := time.Now()
	defer func() { d.spent += time.Since(started) }()
	if d.refused.Code != 0 {
		return d.refused, nil
	}
	for {
		reply, err := d.tryRcpt(ctx, r)
		if err == nil && reply.Code != 421 {
			if reply.Positive() {
				d.accepted = append(d.accepted, r)
			}
			return reply, nil
		}
		d.failed = d.on
		d.drop()
		if d.replays++; d.replays > maxReplays || ctx.Err() != nil {
			return reply, err
		}
		if err := d.replay(ctx); err != nil {
			return upstream.Reply{}, err
		}
	}
}

func (d *delivery) tryRcpt(ctx context.Context, r upstream.Rcpt) (upstream.Reply, error) {
	if err := d.connect(ctx); err != nil {
		return upstream.Reply{}, err
	}
	if d.began {
		return d.conn.Rcpt(ctx, r)
	}
	mail, reply, err := d.conn.MailRcpt(ctx, d.mail, r)
	switch {
	case err != nil:
		return upstream.Reply{}, err
	case !mail.Positive():
		if mail.Permanent() {
			d.refused = mail
		}
		if err := d.conn.Reset(ctx); err != nil {
			d.drop()
		}
		return mail, nil
	}
	d.began = true
	return reply, nil
}

func (d *delivery) connect(ctx context.Context) error {
	if d.conn != nil && d.conn.Alive() {
		return nil
	}
	if d.conn != nil && d.began {
		return fmt.Errorf("upstream %s: %w", d.on, upstream.ErrClosed)
	}
	d.drop()
	on, conn, err := d.route.open(ctx, d.client, d.failed)
	if err != nil {
		d.replays = maxReplays // all of them were tried just now
		return err
	}
	d.on, d.conn = on, conn
	return nil
}

// drop gives the connection up, but not what was accepted.
func (d *delivery) drop() {
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn, d.began = nil, false
}

// errReplay is a transaction that went another way when it was said again.
var errReplay = errors.New("the upstream answered differently when the transaction was replayed")

// replay says MAIL and the accepted RCPTs again on a new connection. Any other reply than before is an error.
func (d *delivery) replay(ctx context.Context) error {
	if len(d.accepted) == 0 {
		return nil
	}
	if err := d.connect(ctx); err != nil {
		return err
	}
	mail, first, err := d.conn.MailRcpt(ctx, d.mail, d.accepted[0])
	if err != nil {
		return err
	}
	replies := []upstream.Reply{mail, first}
	for _, r := range d.accepted[1:] {
		reply, err := d.conn.Rcpt(ctx, r)
		if err != nil {
			return err
		}
		replies = append(replies, reply)
	}
	for _, reply := range replies {
		if !reply.Positive() {
			return fmt.Errorf("%w: %s", errReplay, reply)
		}
	}
	d.began = true
	return nil
}

// data offers the message. make gives the body from its start, anew for each attempt. As long as the final dot was
// not sent, a connection that fails is replaced.
func (d *delivery) data(ctx context.Context, body func() upstream.Body) (upstream.DataResult, error) {
	started := time.Now()
	defer func() { d.spent += time.Since(started) }()
	for {
		result, err := d.tryData(ctx, body())
		var failure *upstream.Error
		retry := !errors.Is(err, errClientGone) && !errors.Is(err, errTwin) && !errors.Is(err, errReplay) &&
			!(errors.As(err, &failure) && failure.Offered)
		if err == nil && (result.Offered || result.Reply.Code != 421) {
			d.began, d.accepted = false, nil
			return result, nil
		}
		d.failed = d.on
		d.drop()
		if d.replays++; !retry || d.replays > maxReplays || ctx.Err() != nil {
			return result, err
		}
	}
}

func (d *delivery) tryData(ctx context.Context, body upstream.Body) (upstream.DataResult, error) {
	if d.conn == nil || !d.conn.Alive() {
		d.drop()
	}
	if !d.began {
		if err := d.replay(ctx); err != nil {
			return upstream.DataResult{}, err
		}
	}
	return d.conn.Data(ctx, body)
}

// only takes recipients out of the transaction, but for those that keep names, by their place among the accepted ones.
// Since SMTP has no way to take one back, the transaction begins anew when the message is offered.
func (d *delivery) only(ctx context.Context, keep []bool) {
	var kept []upstream.Rcpt
	for i, r := range d.accepted {
		if i < len(keep) && keep[i] {
			kept = append(kept, r)
		}
	}
	d.accepted = kept
	if d.conn != nil && d.began {
		if err := d.conn.Reset(ctx); err != nil {
			d.drop()
		}
	}
	d.began = false
}

// end gives up what is under way and keeps the connection for the next transaction of this client.
func (d *delivery) end(ctx context.Context) {
	d.accepted, d.refused, d.replays, d.spent, d.failed = nil, upstream.Reply{}, 0, 0, nil
	if d.conn == nil || !d.began {
		return
	}
	if err := d.conn.Reset(ctx); err != nil {
		d.drop()
	}
	d.began = false
}

// close gives the connection back.
func (d *delivery) close() {
	if d != nil {
		d.drop()
	}
}

// errClientGone aborts a delivery before the final dot.
var errClientGone = errors.New("the client has gone before the message was handed over")
