package wire

import "strings"

// Until a client begins a transaction, the wire talks with it alone: go-smtp takes 8 KB of buffers and a goroutine for each
// connection that it gets, and among those that say EHLO are many that say nothing more for a long time, or QUIT. The owner hears of
// the greeting by Config.Hello. At the first MAIL go-smtp gets the connection, and is told of the greeting first.

// withoutServer takes a command that go-smtp would have been given while it does not have the connection. It reports true
// when it leaves something for go-smtp, which then is to get it.
func (k *link) withoutServer(ex exchange, cmd string) bool {
	switch ex {
	case heloSent, ehloSent:
		k.hello(ex, cmd)
		return false
	case rsetSent:
		k.answer(Reply{Code: 250, Enhanced: "2.0.0", Text: "Session reset"})
		return false
	}
	// Nothing but MAIL is in sequence.
	k.pending, k.pendingIs = cmd, ex
	k.leave(helloAgain, k.helloCmd)
	return true
}

// hello answers HELO or EHLO. The client's name goes up to the first space, as go-smtp has it.
func (k *link) hello(ex exchange, cmd string) {
	verb, arg, _ := strings.Cut(cmd, " ")
	name, _, _ := strings.Cut(arg, " ")
	k.helloCmd = ""
	if k.cfg.Hello != nil {
		if r := k.cfg.Hello(&Conn{link: k}, name); r != nil {
			k.afterGreeting(ex, false, nil)
			if r.Code == 421 {
				k.bye(*r, "closed by 421")
			} else {
				k.answer(*r)
			}
			return
		}
	}
	k.helloCmd = verb + " " + name
	k.send(tidy(k.afterGreeting(ex, true, nil)))
}

// leave leaves a command for go-smtp.
func (k *link) leave(ex exchange, cmd string) {
	k.inFlight = ex
	k.rest = append(k.rest[:0], cmd...)
	k.rest = append(k.rest, '\r', '\n')
}

// leavePending leaves the command that waited until go-smtp had been greeted; false if there is none.
func (k *link) leavePending() bool {
	if k.pending == "" {
		return false
	}
	k.leave(k.pendingIs, k.pending)
	k.pending = ""
	return true
}

// greetedAgain takes go-smtp's reply to the greeting that the client has had an answer to already.
func (k *link) greetedAgain(code int, reply []byte) {
	if code/100 == 2 {
		return
	}
	// The owner has accepted the greeting, so this is a failure of ours.
	if code != 421 {
		reply = []byte(replyInternal.String())
	}
	k.pending = ""
	k.send(tidy(reply))
	k.linger()
	k.end("closed by 421")
}
