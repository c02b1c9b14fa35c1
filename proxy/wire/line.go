package wire

import (
	"bytes"
	"errors"
	"time"
)

// maxSkip is how much of a line that is too long is read to find its end, before the connection is given up.
const maxSkip = 64 << 10

var (
	errEndless   = errors.New("wire: endless line")
	errBareAgain = errors.New("wire: one more bare LF")
)

// Replies to lines that are none.
var (
	replyBareLF   = Reply{Code: 500, Enhanced: "5.5.2", Text: "A line must end in CRLF, this one has a bare LF; it is ignored up to the next CRLF"}
	replyBareCR   = Reply{Code: 500, Enhanced: "5.5.2", Text: "A line must end in CRLF, this one has a bare CR"}
	replyControl  = Reply{Code: 500, Enhanced: "5.5.2", Text: "Control character in command"}
	replyTooLong  = Reply{Code: 500, Enhanced: "5.5.2", Text: "Line too long"}
	replyEndless  = Reply{Code: 500, Enhanced: "5.5.2", Text: "Line too long, closing connection"}
	replyBareLast = Reply{Code: 500, Enhanced: "5.5.2", Text: "Lines must end in CRLF, closing connection"}
	replyTLSHello = Reply{Code: 500, Enhanced: "5.5.2", Text: "This port begins in plain text, use STARTTLS"}
)

// A reader of lines keeps what the last line left to be skipped.
type lineState struct {
	skip    int64 // octets of a refused BDAT
	tainted bool  // a bare LF was answered: the line goes on to its CRLF, and has had its reply
}

// readLine gives the next command line without its end. It is valid until the input is read again. For a line that is
// none it gives the reply; for one that will not come, an error. Each line that ends in CRLF has one reply, whatever is in it.
func (k *link) readLine() (line []byte, bad *Reply, err error) {
	deadline := time.Now().Add(k.cfg.Limits.Idle)
	outside := !k.mail
	grace := k.drained
	if k.drained = false; grace {
		// The client has just been told what became of its message; closing now could cross its QUIT.
		deadline, outside = time.Now().Add(drainGrace), false
	}
	if err := k.skipRest(deadline); err != nil {
		return nil, nil, err
	}
	limit := k.cfg.Limits.CommandLine
	for seen := 0; ; {
		p := k.in.bytes()
		if len(p) > 0 && p[0] == tlsHandshake && !k.encrypted() {
			k.bye(replyTLSHello, "tls on a plain text port")
			return nil, nil, errEnded
		}
		if i := bytes.IndexByte(p[seen:], '\n'); i >= 0 && seen+i < limit {
			line, bad = k.cutLine(p[:seen+i+1])
			return line, bad, nil
		} else if i >= 0 || len(p) >= limit {
			err := k.skipLine(deadline, false)
			return nil, &replyTooLong, err
		}
		seen = len(p)
		if err := k.fill(deadline, outside); err != nil {
			if grace && isTimeout(err) {
				err = errDraining
			}
			return nil, nil, err
		}
	}
}

// tlsHandshake is the first octet of a TLS client's first record (RFC 8446 section 5.1), and of no SMTP command.
const tlsHandshake = 0x16

// keepScratch is the largest room for a command that a waiting connection keeps.
const keepScratch = 256

// cutLine judges and takes a line that ends in LF.
func (k *link) cutLine(p []byte) ([]byte, *Reply) {
	body, crlf := bytes.CutSuffix(p, []byte("\r\n"))
	if !crlf {
		body = p[:len(p)-1]
	}
	line := append(k.scratch[:0], body...) // take gives the buffer away
	if k.scratch = line; cap(line) > keepScratch {
		k.scratch = nil
	}
	k.in.take(len(p))
	switch {
	case !crlf && k.cfg.BareNewline == Reject:
		k.tainted = true
		return nil, &replyBareLF
	case bytes.IndexByte(line, '\r') >= 0:
		return nil, &replyBareCR
	}
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, &replyControl
		}
	}
	return line, nil
}

// skipRest drops what belongs to the last line.
func (k *link) skipRest(deadline time.Time) error {
	for k.skip > 0 {
		if len(k.in.bytes()) == 0 {
			if err := k.fill(deadline, !k.mail); err != nil {
				return err
			}
		}
		n := min(int64(len(k.in.bytes())), k.skip)
		k.in.take(int(n))
		if k.skip -= n; k.skip > 0 {
			deadline = time.Now().Add(k.cfg.Limits.DataIdle)
		}
	}
	if k.tainted {
		k.tainted = false
		return k.skipLine(deadline, true)
	}
	return nil
}

// skipLine drops input up to and with the next CRLF. With strict set, a bare LF is an error: a client that ends its lines so
// would wait in vain for its replies.
func (k *link) skipLine(deadline time.Time, strict bool) error {
	cr := false
	for dropped := 0; dropped < maxSkip; {
		p := k.in.bytes()
		for i, c := range p {
			if c == '\n' && cr {
				k.in.take(i + 1)
				return nil
			}
			if c == '\n' && strict {
				return errBareAgain
			}
			cr = c == '\r'
		}
		dropped += len(p)
		k.in.drop()
		if err := k.fill(deadline, !k.mail); err != nil {
			return err
		}
	}
	return errEndless
}

// hasLine reports whether a whole line has been read ahead.
func hasLine(p []byte) bool { return bytes.Contains(p, []byte("\r\n")) }
