package wire

import (
	"syscall"
	"time"
)

// How long it is waited for a client that has said its farewell to close its socket, and to acknowledge what it was sent.
const (
	farewellTime = 2 * time.Second
	farewellStep = 5 * time.Millisecond
)

// farewell says how a client left that sends no more: "client closed" in good order, having received all that it was
// told, or "reset". Who closes a socket with a reply unread resets the connection, and so does the system of one whose
// socket was closed before the reply came; but under TLS the farewell of TLS stands before that, and in plain text an end
// that the client sent while the reply was on its way to it. So the word "closed" alone does not show that a reply was heard.
func (k *link) farewell() string {
	if k.peer == nil {
		return "client closed"
	}
	limit := time.Now().Add(farewellTime)
	if k.in.raw == nil && !k.awaitClose(limit) {
		return "reset"
	}
	for {
		switch receivedAll(k.peer) {
		case received:
			return "client closed"
		case neverReceived:
			return "reset"
		}
		if time.Now().After(limit) {
			return "reset"
		}
		time.Sleep(farewellStep)
	}
}

// awaitClose waits until a client that has ended TLS closes its socket, and reports whether it does so in good order.
func (k *link) awaitClose(limit time.Time) bool {
	for _, until := range []time.Time{time.Now().Add(farewellTime / 10), limit} {
		if err := k.arm(until, false); err != nil {
			return false
		}
		found := awaitInput(k.peer)
		_ = k.awake(false, nil)
		switch found {
		case closedOrderly:
			return true
		case broken, talking: // there is nothing to be said behind the farewell
			return false
		}
		k.shutTLS() // it waits for ours
	}
	return false
}

// A receipt is what the system knows about the octets that were sent.
type receipt uint8

const (
	received      receipt = iota // the client's system has all of them; also where ours cannot tell
	pending                      // not yet
	neverReceived                // the connection was reset
)

// receivedAll asks the system.
func receivedAll(rc syscall.RawConn) receipt {
	found := received
	if err := rc.Control(func(fd uintptr) { found = receiptOf(fd) }); err != nil {
		return neverReceived
	}
	return found
}
