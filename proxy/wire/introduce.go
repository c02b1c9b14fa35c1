package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"time"
)

// introduce is a connection's first goroutine: everything up to the first command, of which go-smtp hears nothing.
func (k *link) introduce() {
	if k.preamble() {
		k.await()
		return
	}
	k.finish()
}

// await waits for a command for go-smtp and hands the connection to Accept with it.
func (k *link) await() {
	k.leaving, k.withServer = false, false
	if !k.next() {
		k.finish()
		return
	}
	k.withServer, k.greeting = true, true
	k.mu.Lock()
	k.attached = true
	k.mu.Unlock()
	select {
	case k.l.ready <- &Conn{link: k}:
	case <-k.l.done:
		k.bye(Reply{Code: 421, Enhanced: "4.3.2", Text: k.cfg.Hostname + " is shutting down, try again later"}, "drain")
		k.finish()
	}
}

// preamble does what comes before the dialogue; false if there is to be none.
func (k *link) preamble() bool {
	if contains(k.cfg.ProxyFrom, k.f.client.Addr()) && !k.takeProxyHeader() {
		return false
	}
	if why := k.count(k.facts().client.Addr()); why != "" {
		k.refuse(Reply{Code: 421, Enhanced: "4.7.0", Text: k.cfg.Hostname + " " + why}, "too many connections")
		return false
	}
	k.mu.Lock()
	k.opened = true
	k.mu.Unlock()
	if k.cfg.Open != nil {
		if r := k.cfg.Open(&Conn{link: k}); r != nil {
			k.refuse(*r, "refused")
			return false
		}
	}
	if k.cfg.ImplicitTLS {
		if !k.handshake() {
			return false
		}
	} else if !k.listenEarly() {
		return false
	}
	if k.cfg.Greet != nil {
		if r := k.cfg.Greet(&Conn{link: k}); r != nil {
			k.refuse(*r, "refused")
			return false
		}
	}
	k.send([]byte("220 " + k.cfg.Hostname + " ESMTP Postern\r\n"))
	return true
}

// refuse says why in place of the banner. Where the client expects a handshake it has it first, or it would not understand.
func (k *link) refuse(r Reply, reason string) {
	if k.cfg.ImplicitTLS && !k.encrypted() && !k.handshake() {
		return
	}
	k.send(tidy([]byte(r.String())))
	k.linger()
	k.end(reason)
}

// listenEarly looks whether the client speaks before it has been greeted, as only programs do that read no replies.
func (k *link) listenEarly() bool {
	early := len(k.in.bytes()) > 0 // behind the PROXY header
	var wait time.Duration
	if client := k.facts().client.Addr(); !early && k.cfg.EarlyWait != nil && !contains(k.cfg.Exempt, client) && !contains(k.cfg.XClientFrom, client) {
		wait = k.cfg.EarlyWait(&Conn{link: k})
	}
	found := silent
	switch {
	case early || k.peer == nil:
	case wait <= 0:
		found = look(k.peer)
	default:
		if err := k.arm(time.Now().Add(wait), true); err != nil {
			k.fail(err)
			return false
		}
		found = awaitInput(k.peer)
		if k.awake(true, errTimeout{}) == errDraining {
			k.fail(errDraining)
			return false
		}
	}
	switch found {
	case closedOrderly:
		k.end("client closed")
		return false
	case broken:
		k.end("reset")
		return false
	}
	if early || found == talking {
		k.earlyTalk.Store(true)
		k.l.stats.earlyTalked.Add(1)
	}
	return true
}

// errTimeout stands for a wait that has ended without a word of why.
type errTimeout struct{}

func (errTimeout) Error() string   { return "timeout" }
func (errTimeout) Timeout() bool   { return true }
func (errTimeout) Temporary() bool { return true }

// handshake begins TLS on the socket. When it fails the connection is ended.
func (k *link) handshake() bool {
	deadline := time.Now().Add(k.cfg.Limits.Handshake)
	err := k.arm(deadline, !k.mail)
	if err == nil {
		err = k.sock.SetWriteDeadline(deadline)
	}
	if err != nil {
		k.end("closed")
		return false
	}
	sock := k.sock
	if left := k.in.bytes(); len(left) > 0 {
		sock = &prefixed{Conn: sock, rest: append([]byte(nil), left...)}
		k.in.drop()
	}
	c := tls.Server(sock, k.cfg.TLS)
	if err := k.awake(!k.mail, c.Handshake()); err != nil {
		k.l.stats.badTLS.Add(1)
		switch {
		case errors.Is(err, errDraining):
			k.end("drain")
		case errors.Is(err, io.EOF):
			k.end("tls handshake failed: client closed")
		case isTimeout(err):
			k.end("tls handshake failed: timeout")
		default:
			k.end("tls handshake failed: " + err.Error())
		}
		return false
	}
	k.in.startTLS(c)
	state := c.ConnectionState()
	k.setFacts(func(f *facts) { f.tls = &state })
	return true
}

func (k *link) encrypted() bool {
	_, yes := k.in.conn.(*tls.Conn)
	return yes
}

// shutTLS says goodbye in TLS's own words, so that the client can tell the end from an attacker's cut.
func (k *link) shutTLS() {
	if c, ok := k.in.conn.(*tls.Conn); ok && !k.over {
		// The client may have gone without waiting for it.
		_ = c.CloseWrite()
	}
}

// onStartTLS is RFC 3207.
func (k *link) onStartTLS(arg string) {
	switch {
	case arg != "":
		k.answer(*syntax("STARTTLS takes no argument"))
	case k.facts().tls != nil:
		k.answer(*sequence("TLS is on already"))
	case k.cfg.TLS == nil:
		k.answer(Reply{Code: 502, Enhanced: "5.5.1", Text: "STARTTLS is not offered"})
	case k.l.draining.Load():
		k.bye(Reply{Code: 421, Enhanced: "4.3.2", Text: k.cfg.Hostname + " is shutting down, try again later"}, "drain")
	default:
		// Section 4.2: nothing that came in plain text may be taken for something that came encrypted.
		k.mustWait()
		k.in.drop()
		k.lineState = lineState{}
		k.answer(Reply{Code: 220, Enhanced: "2.0.0", Text: "Ready to start TLS"})
		if !k.over && k.handshake() {
			k.begin()
		}
	}
}

// begin sets the dialogue back to its start. Where go-smtp knows the connection, that one ends and another begins.
func (k *link) begin() {
	k.greeted, k.mail, k.rcpt = false, false, false
	k.helloCmd = ""
	k.mu.Lock()
	defer k.mu.Unlock()
	k.f.extended, k.f.offered = false, nil
	if k.attached {
		k.leaving, k.handOver = true, true
	}
}

// read is Conn.Read.
func (k *link) read(b []byte) (int, error) {
	switch {
	case k.data != nil && k.data.undot && !k.over && !k.leaving:
		return k.readData(b)
	case len(k.rest) > 0:
	case k.over || k.leaving:
		return 0, io.EOF
	case k.data != nil:
		return k.readData(b)
	case k.leavePending():
	case !k.next():
		return 0, io.EOF
	}
	return k.readRest(b), nil
}

func (k *link) readRest(b []byte) int {
	n := copy(b, k.rest)
	if k.rest = k.rest[n:]; len(k.rest) == 0 {
		k.rest = nil
	}
	return n
}
