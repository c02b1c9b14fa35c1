package upstream

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// conn is a connection to an SMTP or LMTP server.
type conn struct {
	line   *line
	hop    *hop
	caps   Caps
	client Client

	personal bool // the next hop takes it for the client's: never used for another client
	forward  bool // XFORWARD goes before each MAIL

	utf8     bool // of the transaction
	open     bool // the next hop has a transaction
	accepted int  // recipients of it
	refusals int  // on the connection
	fading   bool // not to be used again
}

func (c *conn) Caps() Caps { return c.caps }

func (c *conn) Alive() bool { return !c.fading && c.line.alive() }

// A command is a line to send, without CRLF.
type command struct {
	op       string
	text     string
	optional bool // a refusal does not end the sequence
}

func (c *conn) Mail(ctx context.Context, m Mail) (Reply, error) {
	if err := c.Reset(ctx); err != nil {
		return Reply{}, err
	}
	cmds, refusal := c.mailCommands(m)
	if refusal.Own {
		return refusal, nil
	}
	replies, err := c.exchange(ctx, cmds)
	if err != nil {
		return Reply{}, err
	}
	return c.mailed(replies[len(replies)-1], m), nil
}

func (c *conn) Rcpt(ctx context.Context, r Rcpt) (Reply, error) {
	cmd, refusal := c.rcptCommand(r, c.utf8)
	if refusal.Own {
		return refusal, nil
	}
	replies, err := c.exchange(ctx, []command{cmd})
	if err != nil {
		return Reply{}, err
	}
	return c.named(replies[0]), nil
}

func (c *conn) MailRcpt(ctx context.Context, m Mail, r Rcpt) (mail, rcpt Reply, err error) {
	if err := c.Reset(ctx); err != nil {
		return Reply{}, Reply{}, err
	}
	cmds, mailRefusal := c.mailCommands(m)
	cmd, rcptRefusal := c.rcptCommand(r, m.UTF8)
	if !c.caps.Pipelining || mailRefusal.Own || rcptRefusal.Own {
		if mail, err = c.Mail(ctx, m); err != nil || !mail.Positive() {
			return mail, Reply{}, err
		}
		rcpt, err = c.Rcpt(ctx, r)
		return mail, rcpt, err
	}
	at := len(cmds) - 1 // of MAIL
	replies, err := c.exchange(ctx, append(cmds, cmd))
	switch {
	case len(replies) > at:
	case err != nil:
		return Reply{}, Reply{}, err
	default: // a 421 to XFORWARD ends the connection, and stands for the reply to MAIL
		return c.mailed(replies[len(replies)-1], m), Reply{}, nil
	}
	mail = c.mailed(replies[at], m)
	if err != nil || !mail.Positive() {
		return mail, Reply{}, err
	}
	return mail, c.named(replies[at+1]), nil
}

func (c *conn) Reset(ctx context.Context) error {
	c.accepted = 0
	if !c.open {
		return nil
	}
	reply, err := c.line.ask(ctx, "rset", "RSET")
	if err != nil {
		return err
	}
	if reply.Code != 250 {
		return c.line.fail(ctx, "rset", false, &Refused{Reply: reply})
	}
	c.open = false
	return nil
}

func (c *conn) Close() error {
	if !c.hop.keep(c) {
		c.line.quit()
	}
	return nil
}

// mailed notes the reply to MAIL. After a refusal, too, there is something to reset: Postfix that has refused a size
// refuses every further MAIL until RSET.
func (c *conn) mailed(r Reply, m Mail) Reply {
	c.count(r)
	c.open, c.accepted, c.utf8 = true, 0, m.UTF8
	return r
}

// named notes the reply to RCPT.
func (c *conn) named(r Reply) Reply {
	c.count(r)
	if r.Positive() {
		c.accepted++
	}
	return r
}

func (c *conn) count(r Reply) {
	if !r.Positive() {
		c.refusals++
	}
}

// exchange sends commands, in one write if the next hop can take that, and gives their replies: all of them, or with an error
// or a 421 those that were heard. Without pipelining, a refusal ends the sequence.
func (c *conn) exchange(ctx context.Context, cmds []command) ([]Reply, error) {
	end, err := c.line.begin(ctx, cmds[0].op)
	if err != nil {
		return nil, err
	}
	defer end()
	replies := make([]Reply, 0, len(cmds))
	for i, cmd := range cmds {
		if i == 0 || !c.caps.Pipelining {
			now := cmds[i : i+1]
			if c.caps.Pipelining {
				now = cmds
			}
			if err := c.line.send(join(now)); err != nil {
				return replies, c.line.fail(ctx, cmd.op, false, err)
			}
		}
		reply, err := c.line.answer(ctx, cmd.op, c.line.t.Command)
		if err != nil {
			return replies, err
		}
		replies = append(replies, reply)
		if cmd.optional && !reply.Positive() {
			c.fading = true
		}
		if reply.Code == 421 || !reply.Positive() && !cmd.optional && !c.caps.Pipelining {
			break
		}
	}
	return replies, nil
}

func join(cmds []command) []byte {
	var b []byte
	for _, c := range cmds {
		b = append(b, c.text...)
		b = append(b, "\r\n"...)
	}
	return b
}

// mailCommands makes MAIL, with XFORWARD before it where that is wanted, or our own refusal of what can't be sent.
func (c *conn) mailCommands(m Mail) ([]command, Reply) {
	if r := c.checkMail(m); r.Own {
		return nil, r
	}
	var cmds []command
	if c.forward {
		for _, text := range xforward(c.caps.XForward, c.client) {
			cmds = append(cmds, command{op: "xforward", text: text, optional: true})
		}
	}
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + m.From.String() + ">")
	if c.caps.Size && m.Size > 0 {
		b.WriteString(" SIZE=" + strconv.FormatInt(m.Size, 10))
	}
	if c.caps.EightBit && (m.Body == "7BIT" || m.Body == "8BITMIME") {
		b.WriteString(" BODY=" + m.Body)
	}
	if m.UTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if c.caps.DSN && (m.Ret == "FULL" || m.Ret == "HDRS") {
		b.WriteString(" RET=" + m.Ret)
	}
	if c.caps.DSN && m.EnvID != "" {
		b.WriteString(" ENVID=" + xtext(m.EnvID))
	}
	if m.RequireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if c.caps.Auth && m.Auth != nil {
		auth := "<>"
		if *m.Auth != "" {
			auth = xtext(*m.Auth)
		}
		b.WriteString(" AUTH=" + auth)
	}
	return append(cmds, command{op: "mail", text: b.String()}), Reply{}
}

// checkMail gives our own refusal of a transaction that the next hop has no means to carry, or the zero Reply.
func (c *conn) checkMail(m Mail) Reply {
	switch {
	case checkPath(m.From) != nil || m.From.Local == "" && m.From.Domain != "":
		return ownReply(553, "5.1.7", "Bad sender address syntax")
	case m.UTF8 && !c.caps.SMTPUTF8:
		return ownReply(550, "5.6.7", "The destination does not take internationalized mail (SMTPUTF8)")
	case !m.UTF8 && !asciiPath(m.From):
		return ownReply(553, "5.6.7", "Sender address is not ASCII, and SMTPUTF8 was not asked for")
	case m.RequireTLS && !c.caps.RequireTLS:
		return ownReply(550, "5.7.30", "The destination does not support REQUIRETLS")
	}
	return Reply{}
}

// rcptCommand makes RCPT, or our own refusal of what can't be sent.
func (c *conn) rcptCommand(r Rcpt, utf8 bool) (command, Reply) {
	switch {
	case checkPath(r.To) != nil || r.To.Local == "":
		return command{}, ownReply(553, "5.1.3", "Bad recipient address syntax")
	case !utf8 && !asciiPath(r.To):
		return command{}, ownReply(553, "5.6.7", "Recipient address is not ASCII, and SMTPUTF8 was not asked for")
	}
	text := "RCPT TO:<" + r.To.String() + ">"
	if c.caps.DSN {
		text += dsnParameters(r)
	}
	return command{op: "rcpt", text: text}, Reply{}
}

// dsnParameters makes NOTIFY and ORCPT (RFC 3461 sections 4.1 and 4.2); what is not in their grammar is left out.
func dsnParameters(r Rcpt) string {
	var b strings.Builder
	var notify []string
	for _, n := range r.Notify {
		switch n {
		case "NEVER", "SUCCESS", "FAILURE", "DELAY":
			if len(notify) < 4 {
				notify = append(notify, n)
			}
		}
	}
	if len(notify) > 0 {
		b.WriteString(" NOTIFY=" + strings.Join(notify, ","))
	}
	if r.ORcpt == "" {
		return b.String()
	}
	switch strings.ToLower(r.ORcptType) {
	case "rfc822":
		fmt.Fprintf(&b, " ORCPT=%s;%s", r.ORcptType, xtext(r.ORcpt))
	case "utf-8":
		fmt.Fprintf(&b, " ORCPT=%s;%s", r.ORcptType, utf8AddrXtext(r.ORcpt))
	}
	return b.String()
}

// fit reports whether another client may use the connection.
func (c *conn) fit(refusals int) bool {
	return !c.personal && c.Alive() && c.refusals < refusals
}
