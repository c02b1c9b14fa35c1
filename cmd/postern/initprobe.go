package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"postern/proxy"
	"postern/proxy/upstream"
)

// initPatience bounds how long the server behind may take for each step while it is looked at.
const initPatience = 10 * time.Second

// probe asks the server behind what it offers and whom it accepts. No message is sent.
func (s *setup) probe(ctx context.Context, r report, cfg *proxy.Config) {
	up, err := upstream.New(upstream.Config{
		Address: s.Upstream, Hostname: s.Hostname, TLS: cfg.Upstream[0].TLS, ClientInfo: upstream.ClientNone,
		Timeouts: upstream.Timeouts{Connect: initPatience, Command: initPatience},
	})
	if err != nil {
		r.warn("%v", err)
		return
	}
	defer up.Close()
	if strings.HasPrefix(s.Upstream, "maildir:") {
		r.note("a Maildir takes mail for whatever recipient; there is nobody to ask")
		return
	}
	greeting := greeting(ctx, up)
	if s.MTA == "" {
		s.MTA = mtaOf(greeting)
	}
	caps, err := up.Probe(ctx)
	if err != nil {
		r.warn("it does not answer now: %v", err)
		if m := mtaNamed(s.MTA); m != nil {
			s.Client = m.client
		}
		return
	}
	r.fine("it answers: %s", strings.TrimSpace(caps.Name+" "+bracketed(mtaTitle(s.MTA))))
	s.told(r, caps)
	s.offers(r, caps)
	s.recipients(ctx, r, up)
}

// greeting is the first line that the server says, "" if it says none.
func greeting(ctx context.Context, up upstream.Upstream) string {
	ctx, cancel := context.WithTimeout(ctx, initPatience)
	defer cancel()
	network, address := up.Addr()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return "" // the probe says so
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok && conn.SetDeadline(deadline) != nil {
		return ""
	}
	line, _ := bufio.NewReader(io.LimitReader(conn, 512)).ReadString('\n')
	_, _ = io.WriteString(conn, "QUIT\r\n")
	return line
}

func bracketed(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

// told finds out how the real client can be told to the server.
func (s *setup) told(r report, caps upstream.Caps) {
	m := mtaNamed(s.MTA)
	switch {
	case len(caps.XClient) > 0:
		s.Client = upstream.ClientAuto
		r.fine("XCLIENT is offered: it can be told the real client (%s)", strings.Join(caps.XClient, " "))
		s.Notes = append(s.Notes, "It offers XCLIENT, so it hears the real client.")
	case len(caps.XForward) > 0:
		s.Client = upstream.ClientAuto
		r.note("XFORWARD is offered, XCLIENT is not: its log can name the real client, its restrictions see Postern")
		s.Notes = append(s.Notes, "It offers XFORWARD, so its log names the real client.")
	case m != nil && strings.HasPrefix(m.client, upstream.ClientProxy):
		// A server that waits for a PROXY header would not have answered.
		s.Client = upstream.ClientNone
		r.note("neither XCLIENT nor XFORWARD is offered, and no PROXY header was waited for: it sees Postern as the client of all mail")
	default:
		s.Client = upstream.ClientAuto
		r.note("neither XCLIENT nor XFORWARD is offered: it sees Postern as the client of all mail")
	}
}

// offers tells of the rest.
func (s *setup) offers(r report, caps upstream.Caps) {
	switch {
	case caps.TLS:
		r.fine("the connection to it is inside TLS")
	case caps.StartTLS:
		r.note("STARTTLS is offered, and not used to an address of this machine")
	case strings.HasPrefix(s.Upstream, "smtp://"):
		r.note("no STARTTLS: mail goes to it in plain text")
	}
	if caps.MaxSize > 0 {
		r.fine("SIZE: it takes messages up to %d octets, which Postern offers in its turn", caps.MaxSize)
	}
	if caps.LMTP {
		r.fine("LMTP: it answers for each recipient by itself")
	}
	var missing []string
	for name, offered := range map[string]bool{"8BITMIME": caps.EightBit, "PIPELINING": caps.Pipelining} {
		if !offered {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		r.note("not offered: %s", strings.Join(missing, ", "))
	}
}

// recipients finds out whether unknown recipients are refused, and whether the server would relay for us.
func (s *setup) recipients(ctx context.Context, r report, up upstream.Upstream) {
	unknown := "postern-init-" + strings.ToLower(rand.Text()[:10])
	accepted := func(local, domain string) (upstream.Reply, error) {
		conn, err := up.Open(ctx, upstream.Client{})
		if err != nil {
			return upstream.Reply{}, err
		}
		defer conn.Close()
		reply, err := conn.Mail(ctx, upstream.Mail{})
		if err == nil && reply.Positive() {
			reply, err = conn.Rcpt(ctx, upstream.Rcpt{To: upstream.Path{Local: local, Domain: domain}})
		}
		return reply, errors.Join(err, conn.Reset(ctx))
	}
	for _, domain := range s.Domains {
		switch reply, err := accepted(unknown, domain); {
		case err != nil:
			r.warn("%s: it could not be asked about recipients: %v", domain, err)
		case reply.Positive():
			r.warn("%s: it accepts recipients that can't be known to it (%s): what it can't deliver it will bounce to forged senders; have it refuse them at RCPT", domain, unknown)
			s.Notes = append(s.Notes, "It accepted an unknown recipient in "+domain+" when it was asked: have it refuse those at RCPT.")
		case reply.Permanent():
			r.fine("%s: unknown recipients are refused: %s", domain, reply)
		default:
			r.note("%s: an unknown recipient is put off, not refused: %s", domain, reply)
		}
		switch reply, err := accepted("postmaster", domain); {
		case err == nil && !reply.Positive():
			r.warn("%s: it does not take mail to postmaster, which every domain has to (RFC 5321 section 4.5.1): %s", domain, reply)
		case err == nil:
			r.fine("%s: mail to postmaster is taken", domain)
		}
	}
	if reply, err := accepted(unknown, "relay-test.invalid"); err == nil && reply.Positive() {
		r.note("it relays for this machine: Postern's own domains keep strangers from that, so never write `domains: upstream`")
	}
}

// An mta is a kind of server that can stand behind.
type mta struct {
	name, title string
	says        string // in its greeting
	client      string // client_info that its page advises
}

// mtas are those with advice of their own, and last the rest.
var mtas = []mta{
	{name: "postfix", title: "Postfix", says: "postfix", client: upstream.ClientAuto},
	{name: "exim", title: "Exim", says: "exim", client: upstream.ClientNone},
	{name: "opensmtpd", title: "OpenSMTPD", says: "opensmtpd", client: upstream.ClientProxyV2},
	{name: "sendmail", title: "Sendmail", says: "sendmail", client: upstream.ClientNone},
	{name: "exchange", title: "Exchange", says: "microsoft esmtp", client: upstream.ClientNone},
	{name: "dovecot", title: "Dovecot", says: "dovecot", client: upstream.ClientNone},
	{name: "other", title: "Another server"},
}

func mtaNames() []string {
	var names []string
	for _, m := range mtas {
		names = append(names, m.name)
	}
	return names
}

func mtaNamed(name string) *mta {
	for i, m := range mtas {
		if m.name == name {
			return &mtas[i]
		}
	}
	return nil
}

func mtaTitle(name string) string {
	if m := mtaNamed(name); m != nil && m.says != "" {
		return m.title
	}
	return ""
}

// mtaOf guesses by the greeting; "" for no idea.
func mtaOf(greeting string) string {
	for _, m := range mtas {
		if m.says != "" && strings.Contains(strings.ToLower(greeting), m.says) {
			return m.name
		}
	}
	return ""
}

// advise prints what is left to do.
func (c *call) advise(s *setup) {
	m := mtaNamed(s.MTA)
	if m == nil {
		m = mtaNamed("other")
	}
	section := func(title, text string) {
		fmt.Fprintf(c.stdout, "\n%s\n\n", title)
		for line := range strings.Lines(text) {
			fmt.Fprintf(c.stdout, "  %s", line)
		}
	}
	title := "What to change in " + m.title
	if m.name == "other" {
		title = "What to change in the server behind"
	}
	section(title, behindText(m.name))
	section("From observing to enforcing", behindText("enforce"))
	fmt.Fprintf(c.stdout, "\nNext: postern check -config %s, then postern serve -config %s\n", s.File, s.File)
}
