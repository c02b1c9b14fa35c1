package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// errEnded says that the connection has been ended with its last word said.
var errEnded = errors.New("wire: ended")

// An exchange is the command to which go-smtp's next reply belongs.
type exchange uint8

const (
	noExchange exchange = iota
	heloSent
	ehloSent
	helloAgain // the client's greeting, told go-smtp when it gets the connection
	mailSent
	rcptSent
	dataSent // answered 354, or refused
	dataEnds // the message is read, its reply is due
	rsetSent
)

// commands go-smtp is given. All others are the wire's.
var forServer = map[string]func(*link, string) (exchange, string, *Reply){
	"HELO": (*link).onHelo,
	"EHLO": (*link).onEhlo,
	"MAIL": (*link).onMail,
	"RCPT": (*link).onRcpt,
	"DATA": (*link).onData,
	"RSET": (*link).onRset,
}

// fixed replies of the wire.
var fixed = map[string]Reply{
	"NOOP": {Code: 250, Enhanced: "2.0.0", Text: "Ok"},
	"VRFY": {Code: 252, Enhanced: "2.5.0", Text: "Not verified here, but mail is taken for known recipients"},
	"EXPN": {Code: 502, Enhanced: "5.5.1", Text: "EXPN is not implemented"},
	"HELP": {Code: 214, Enhanced: "2.0.0", Text: "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP, see RFC 5321"},
	"LHLO": {Code: 500, Enhanced: "5.5.1", Text: "This is SMTP, not LMTP: use EHLO"},
	"AUTH": {Code: 502, Enhanced: "5.5.1", Text: "AUTH is not offered"},
	"SEND": {Code: 502, Enhanced: "5.5.1", Text: "SEND is not implemented"},
	"SOML": {Code: 502, Enhanced: "5.5.1", Text: "SOML is not implemented"},
	"SAML": {Code: 502, Enhanced: "5.5.1", Text: "SAML is not implemented"},
	"TURN": {Code: 502, Enhanced: "5.5.1", Text: "TURN is not implemented"},
	"ATRN": {Code: 502, Enhanced: "5.5.1", Text: "ATRN is not implemented"},
	"ETRN": {Code: 502, Enhanced: "5.5.1", Text: "ETRN is not implemented"},
	"BURL": {Code: 502, Enhanced: "5.5.1", Text: "BURL is not implemented"},

	"XFORWARD": {Code: 502, Enhanced: "5.5.1", Text: "XFORWARD is not offered"},
}

// foreign are first words of other protocols. Their clients are not talked to: what follows may be mail that a web page
// has a browser send (cross-protocol attack).
var foreign = map[string]bool{
	"GET": true, "POST": true, "PUT": true, "HEAD": true, "DELETE": true, "OPTIONS": true, "CONNECT": true, "PATCH": true, "TRACE": true,
	"HOST:": true, "USER-AGENT:": true, "CONTENT-TYPE:": true,
}

// next answers commands until there is one for go-smtp, which it leaves in k.rest. False: the connection is over, or about to be handed over.
func (k *link) next() bool {
	for !k.over && !k.leaving {
		if why := k.exhausted(); why != "" {
			k.bye(Reply{Code: 421, Enhanced: "4.7.0", Text: k.cfg.Hostname + " " + why + ", closing connection"}, why)
			break
		}
		line, bad, err := k.readLine()
		switch {
		case err == nil:
		case errors.Is(err, errEndless):
			k.bye(replyEndless, "line too long")
		case errors.Is(err, errBareAgain):
			k.bye(replyBareLast, "bare LF")
		case !errors.Is(err, errEnded):
			k.fail(err)
		}
		if err != nil {
			break
		}
		k.commands.Add(1)
		k.fruitless++
		if bad != nil {
			k.named("?")
			k.answer(*bad)
			continue
		}
		if k.dispatch(line) {
			return true
		}
	}
	return false
}

// exhausted says which limit the client has reached.
func (k *link) exhausted() string {
	l := &k.cfg.Limits
	switch {
	case k.unknown >= l.UnknownCommands, int(k.errors.Load()) >= l.Errors:
		return "too many errors"
	case k.fruitless >= l.Commands:
		return "too many commands"
	}
	return ""
}

func (k *link) named(verb string) {
	k.setFacts(func(f *facts) { f.lastCommand = verb })
}

// dispatch answers a command, or reports true and leaves it, in the form that go-smtp understands, in k.rest.
func (k *link) dispatch(line []byte) bool {
	verb, arg := cutVerb(line)
	name, known := verb, true
	defer func() {
		if !known {
			name = "?"
		}
		k.named(name)
	}()
	if k.unsynced && verb != "RSET" && verb != "NOOP" && verb != "QUIT" {
		k.bye(replyUnsynced, "improper pipelining")
		return false
	}
	if on, ok := forServer[verb]; ok {
		ex, cmd, bad := on(k, arg)
		if bad != nil {
			if bad.Code == 421 {
				k.bye(*bad, "drain")
			} else {
				k.answer(*bad)
			}
			return false
		}
		if !k.withServer {
			return k.withoutServer(ex, cmd)
		}
		k.leave(ex, cmd)
		return true
	}
	if r, ok := fixed[verb]; ok {
		k.answer(r)
		return false
	}
	switch {
	case verb == "QUIT":
		k.onQuit()
	case verb == "STARTTLS":
		k.onStartTLS(arg)
	case verb == "XCLIENT":
		k.onXClient(arg)
	case verb == "BDAT":
		k.onBdat(arg)
	case foreign[verb]:
		known = false
		k.bye(Reply{Code: 554, Enhanced: "5.5.1", Text: "This is an SMTP server, closing connection"}, "not smtp")
	default:
		known = false
		k.unknown++
		k.answer(Reply{Code: 500, Enhanced: "5.5.2", Text: "Command not recognized"})
	}
	return false
}

// cutVerb splits a line at its first space or tab; the verb is in upper case, the argument without white space around it.
func cutVerb(line []byte) (verb, arg string) {
	i := bytes.IndexAny(line, " \t")
	if i < 0 {
		i = len(line)
	}
	return strings.ToUpper(string(line[:i])), string(bytes.Trim(line[i:], " \t"))
}

func syntax(text string) *Reply   { return &Reply{Code: 501, Enhanced: "5.5.4", Text: text} }
func sequence(text string) *Reply { return &Reply{Code: 503, Enhanced: "5.5.1", Text: text} }

func (k *link) onHelo(arg string) (exchange, string, *Reply) {
	if arg == "" {
		return 0, "", syntax("HELO needs your domain")
	}
	k.mustWait()
	k.setFacts(func(f *facts) { f.extended = false })
	return heloSent, "HELO " + arg, nil
}

func (k *link) onEhlo(arg string) (exchange, string, *Reply) {
	if arg == "" {
		return 0, "", syntax("EHLO needs your domain or address literal")
	}
	k.mustWait()
	k.setFacts(func(f *facts) { f.extended = true })
	return ehloSent, "EHLO " + arg, nil
}

func (k *link) onMail(arg string) (exchange, string, *Reply) {
	switch {
	case !k.greeted:
		return 0, "", sequence("Send EHLO or HELO first")
	case k.mail:
		return 0, "", sequence("Sender already given, RSET begins anew")
	case !hasPrefixFold(arg, "FROM:"):
		return 0, "", syntax("Expected MAIL FROM:<address>")
	case k.l.draining.Load():
		return 0, "", &Reply{Code: 421, Enhanced: "4.3.2", Text: k.cfg.Hostname + " is shutting down, try again later"}
	}
	return mailSent, "MAIL " + arg, nil
}

func (k *link) onRcpt(arg string) (exchange, string, *Reply) {
	const postmaster = "<POSTMASTER>"
	switch {
	case !k.mail:
		return 0, "", sequence("Send MAIL first")
	case !hasPrefixFold(arg, "TO:"):
		return 0, "", syntax("Expected RCPT TO:<address>")
	}
	// go-smtp knows no forward-path without a domain.
	if path := strings.TrimLeft(arg[len("TO:"):], " \t"); hasPrefixFold(path, postmaster) {
		arg = "TO:<postmaster@" + k.cfg.PostmasterDomain + ">" + path[len(postmaster):]
	}
	return rcptSent, "RCPT " + arg, nil
}

func (k *link) onData(arg string) (exchange, string, *Reply) {
	switch {
	case arg != "":
		return 0, "", syntax("DATA takes no argument")
	case !k.mail:
		return 0, "", sequence("Send MAIL and RCPT first")
	case !k.rcpt:
		k.refuseUnsynced()
		return 0, "", &Reply{Code: 554, Enhanced: "5.5.1", Text: "No valid recipients"}
	}
	k.mustWait()
	return dataSent, "DATA", nil
}

func (k *link) onRset(string) (exchange, string, *Reply) {
	if !k.greeted {
		return 0, "", &Reply{Code: 250, Enhanced: "2.0.0", Text: "Ok"}
	}
	return rsetSent, "RSET", nil
}

// mustWait notes a client that sent more although RFC 2920 section 3.1 has it wait for the reply.
func (k *link) mustWait() {
	if len(k.in.bytes()) > 0 {
		k.badPipelining.Store(true)
	}
}

// refuseUnsynced is called when DATA is refused. What the client has sent behind it may be the message itself, written
// without waiting for 354: taken for commands, its text, which a third party wrote, could send mail in the client's name.
// So nothing but RSET, NOOP and QUIT is listened to any more.
func (k *link) refuseUnsynced() {
	if len(k.in.bytes()) > 0 || k.in.raw != nil && look(k.peer) == talking {
		k.unsynced = true
		k.badPipelining.Store(true)
	}
}

var replyUnsynced = Reply{Code: 503, Enhanced: "5.5.0", Text: "Something was sent after DATA before its reply (RFC 2920), closing connection"}

func (k *link) onQuit() {
	k.send([]byte(Reply{Code: 221, Enhanced: "2.0.0", Text: k.cfg.Hostname + " closing connection"}.String() + "\r\n"))
	if len(k.in.bytes()) > 0 {
		k.linger() // a reset would overtake the replies
	}
	k.shutTLS()
	k.end("quit")
}

// onBdat refuses CHUNKING (RFC 3030), which is not offered. The chunk follows whatever the reply is, and is not to be read as commands.
func (k *link) onBdat(arg string) {
	size, _, _ := strings.Cut(arg, " ")
	n, err := strconv.ParseUint(size, 10, 63)
	switch {
	case err != nil:
		k.bye(Reply{Code: 501, Enhanced: "5.5.4", Text: "Malformed chunk size, closing connection"}, "bad BDAT")
	case int64(n) > k.cfg.Limits.MessageMax:
		k.bye(Reply{Code: 552, Enhanced: "5.3.4", Text: "Chunk too big, closing connection"}, "message too big")
	default:
		k.answer(Reply{Code: 502, Enhanced: "5.5.1", Text: "CHUNKING is not offered, use DATA"})
		k.skip = int64(n)
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// mayXClient reports whether the peer may speak for others.
func (k *link) mayXClient() bool {
	return contains(k.cfg.XClientFrom, addrPort(k.sock.RemoteAddr()).Addr()) && !k.facts().xclient.Used
}

// Replies to clients that come too often.
const (
	tooMany = "too many connections from your address, try again later"
	tooFast = "too many new connections from your address, try again in a minute"
)

// count moves the connection's place in the census to the client's address. Where there is no place it refuses.
func (k *link) count(a netip.Addr) (refusal string) {
	k.mu.Lock()
	old := k.counted
	k.counted = netip.Addr{}
	k.mu.Unlock()
	if old.IsValid() {
		k.l.census.leaveFrom(old)
	}
	peer := addrPort(k.sock.RemoteAddr()).Addr()
	if !a.IsValid() || contains(k.cfg.Exempt, a) || a == peer && contains(k.cfg.XClientFrom, a) {
		return ""
	}
	l := &k.cfg.Limits
	if !k.l.census.enterFrom(a, l.PerIP, l.PerNet) {
		k.l.stats.crowded.Add(1)
		k.l.warnLimit(k.cfg, "limits.per_ip")
		return tooMany
	}
	if !k.l.census.arrivals.Allow(a, l.Arrivals, l.ArrivalsNet, k.cfg.Now()) {
		k.l.census.leaveFrom(a)
		k.l.stats.hasty.Add(1)
		k.l.warnLimit(k.cfg, "limits.connections_per_minute")
		return tooFast
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		k.l.census.leaveFrom(a) // closed meanwhile, and forgotten
		return tooMany
	}
	k.counted = a
	return ""
}
