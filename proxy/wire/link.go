package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A link is one socket through its whole life, whatever number of Conns it is presented as. One goroutine at a time
// drives it: first the wire's own, which greets and waits for the first command, then that of go-smtp.
type link struct {
	l       *Listener
	cfg     *Config
	sock    net.Conn
	peer    syscall.RawConn // of sock, to look whether the client is there; nil where the system gives none
	started time.Time       // by the system's clock, as deadlines are
	begun   time.Time       // by the owner's clock

	bytesIn, bytesOut        atomic.Int64
	commands, errors         atomic.Int32
	earlyTalk, badPipelining atomic.Bool

	mu sync.Mutex
	f  facts // what may be asked at any time
	// waiting: blocked for input outside a transaction, so a drain may interrupt it. attached: a Conn of it is with go-smtp.
	// handOver: that Conn's Close passes the socket on. dead: closed.
	waiting, attached, handOver, dead, opened bool
	counted                                   netip.Addr // the address under which it is counted

	dialogue // owned by the driving goroutine
}

// facts is what a Conn tells its owner.
type facts struct {
	client, server netip.AddrPort
	tls            *tls.ConnectionState
	extended       bool
	offered        []string
	dataErr        error
	reason         string
	lastCommand    string
	xclient        XClient
	value          any
}

// dialogue is the state of the SMTP conversation.
type dialogue struct {
	in      *input
	rest    []byte // of a command or of data, for the next Read
	out     []byte // a reply that is not complete yet
	scratch []byte // the command line that is being looked at
	over    bool   // the connection has been ended: reads give io.EOF
	leaving bool   // reads give io.EOF so that go-smtp closes its Conn, and the socket is handed over

	withServer bool     // go-smtp has the connection
	greeting   bool     // its own greeting is due, and to be swallowed
	helloCmd   string   // the client's HELO or EHLO that was accepted
	pending    string   // the command that is due behind it
	pendingIs  exchange // and what it is
	lineState

	inFlight exchange
	data     *dataReader // while a message is being read

	greeted, mail, rcpt bool // EHLO or HELO, MAIL, and at least one RCPT were accepted
	drained             bool // a message has just ended during a drain
	unsynced            bool // data may be in the way of commands: see refuseUnsynced
	unknown, fruitless  int
}

var errDraining = errors.New("wire: shutting down")

// aLongTimeAgo is a read deadline that ends a read at once.
var aLongTimeAgo = time.Unix(1, 0)

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 256 << 10
	drainGrace  = 5 * time.Second
)

func (k *link) facts() facts {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.f
}

func (k *link) setFacts(set func(*facts)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set(&k.f)
}

// arm sets the deadline for a read to come. A wait outside a transaction is given up when the listener drains.
func (k *link) arm(deadline time.Time, outside bool) error {
	if end := k.started.Add(k.cfg.Limits.Session); deadline.After(end) {
		deadline = end
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return net.ErrClosed
	}
	if outside && k.quitting() {
		return errDraining
	}
	k.waiting = outside
	return k.sock.SetReadDeadline(deadline)
}

// quitting reports whether waits outside a transaction are to end. A connection that no server will accept any more ends too.
func (k *link) quitting() bool {
	return k.l.draining.Load() || !k.attached && k.l.isClosed()
}

// wake interrupts a wait outside a transaction.
func (k *link) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting && !k.dead && k.quitting() {
		k.waiting = false
		// A failure means that the socket is closed, and then nothing waits on it.
		_ = k.sock.SetReadDeadline(aLongTimeAgo)
	}
}

// awake ends a wait and gives its error a meaning.
func (k *link) awake(outside bool, err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = false
	if err != nil && outside && isTimeout(err) && k.quitting() {
		return errDraining
	}
	return err
}

// fill waits for input until the deadline.
func (k *link) fill(deadline time.Time, outside bool) error {
	if err := k.arm(deadline, outside); err != nil {
		return err
	}
	n, err := k.in.fill()
	k.bytesIn.Add(int64(n))
	return k.awake(outside, err)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// fail ends the connection because reading failed: with a reply where the client may still hear it.
func (k *link) fail(err error) {
	name := k.cfg.Hostname
	switch {
	case errors.Is(err, errDraining):
		k.bye(Reply{Code: 421, Enhanced: "4.3.2", Text: name + " is shutting down, try again later"}, "drain")
	case isTimeout(err) && !time.Now().Before(k.started.Add(k.cfg.Limits.Session)):
		k.bye(Reply{Code: 421, Enhanced: "4.4.2", Text: name + " session time limit reached, closing connection"}, "session timeout")
	case isTimeout(err):
		k.bye(Reply{Code: 421, Enhanced: "4.4.2", Text: name + " waited too long, closing connection"}, "idle timeout")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		k.end(k.farewell())
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		k.end("reset")
	case errors.Is(err, net.ErrClosed):
		k.end("closed")
	default:
		k.end("read failed: " + err.Error())
	}
}

// bye says a last word and closes so that the client gets to read it: a socket closed with input unread would be reset,
// and a reset can overtake the reply.
func (k *link) bye(r Reply, reason string) {
	if k.over {
		return
	}
	k.send(tidy([]byte(r.String())))
	k.linger()
	k.end(reason)
}

// linger closes our side and reads on for a little while until the client has closed its own.
func (k *link) linger() {
	if k.over {
		return
	}
	k.shutTLS()
	half, ok := k.sock.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	k.mu.Lock()
	dead := k.dead
	k.waiting = false
	err := k.sock.SetReadDeadline(time.Now().Add(lingerTime))
	k.mu.Unlock()
	if dead || err != nil {
		return
	}
	k.in.drop()
	k.in.borrow()
	for left := lingerBytes; left > 0; {
		n, err := k.sock.Read(k.in.buf[:])
		left -= n
		if err != nil {
			break
		}
	}
	k.in.park()
}

// end closes the socket and notes why; the first reason stays.
func (k *link) end(reason string) {
	k.over = true
	k.rest, k.out = nil, nil
	k.in.drop()
	k.kill(reason)
}

// kill closes the socket under whoever uses it.
func (k *link) kill(reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return
	}
	k.dead = true
	if k.f.reason == "" {
		k.f.reason = reason
	}
	// Nothing can be done about a socket that does not close.
	_ = k.sock.Close()
}

// release is the Close of the Conn that is with go-smtp: it passes the socket on, or is the end of it.
func (k *link) release() {
	k.mu.Lock()
	// An smtp.Server that is being closed closes its listeners first, and then Conns whose goroutines may still be at work here.
	pass := k.handOver && !k.dead && !k.l.isClosed()
	k.handOver, k.attached = false, false
	k.mu.Unlock()
	if pass {
		k.l.spawn(k.await)
		return
	}
	k.kill("closed")
	k.finish()
}

// finish forgets the link and tells the owner. It is called once, by whoever drives the link last.
func (k *link) finish() {
	k.l.forget(k)
	k.mu.Lock()
	opened := k.opened
	k.opened = false
	k.mu.Unlock()
	if opened && k.cfg.Closed != nil {
		k.cfg.Closed(&Conn{link: k})
	}
}

// send writes to the client; a client that takes nothing is given up.
func (k *link) send(b []byte) {
	if k.over {
		return
	}
	err := k.sock.SetWriteDeadline(time.Now().Add(k.cfg.Limits.Idle))
	if err == nil {
		var n int
		n, err = k.in.conn.Write(b)
		k.bytesOut.Add(int64(n))
	}
	switch {
	case err == nil:
	case isTimeout(err):
		k.end("write timeout")
	case errors.Is(err, net.ErrClosed):
		k.end("closed")
	default:
		k.end("reset")
	}
}

// answer writes a reply of the wire's own.
func (k *link) answer(r Reply) {
	k.tally(r.Code)
	k.send(tidy([]byte(r.String())))
}

// alive looks at the socket. What the client has sent ahead is read, as far as the buffer holds, since a FIN stands behind it.
func (k *link) alive() bool {
	for !k.over {
		found := look(k.peer)
		switch {
		case found == broken:
			return false
		case k.in.full():
			return true
		case k.in.raw == nil:
			// TLS, which may have read the client's farewell together with what stood before it.
		case found == silent:
			return true
		case found == closedOrderly:
			return hasLine(k.in.bytes())
		}
		deadline := aLongTimeAgo // take only what TLS has already
		if found != silent {
			deadline = time.Now().Add(5 * time.Millisecond) // there may be less than a whole record
		}
		err := k.fill(deadline, false)
		switch {
		case err == nil:
		case isTimeout(err):
			return true
		case errors.Is(err, io.EOF):
			return hasLine(k.in.bytes())
		default:
			return false
		}
	}
	return false
}
