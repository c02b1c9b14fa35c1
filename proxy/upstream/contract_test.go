package upstream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// far is the other end of an upstream under test: what has arrived there.
type far func(t *testing.T) []received

// implementations are all the ways to a next hop. Each must pass the same suite.
func implementations(t *testing.T) map[string]func(t *testing.T) (Config, far) {
	serverTLS, clientTLS := testTLS(t)
	network := func(scheme string, like *server, cfg Config) func(t *testing.T) (Config, far) {
		return func(t *testing.T) (Config, far) {
			s := &server{keywords: like.keywords, lmtp: like.lmtp, tls: like.tls, implicit: like.implicit, proxy: like.proxy}
			if scheme == "lmtp+unix" {
				s.listen(t, "unix", unixSocket(t))
				cfg.Address = "lmtp+unix:" + s.addr()
			} else {
				s.start(t)
				cfg.Address = scheme + "://" + s.addr()
			}
			return cfg, func(*testing.T) []received { return s.messages() }
		}
	}
	secured := append(slices.Clone(allKeywords), "STARTTLS")
	return map[string]func(t *testing.T) (Config, far){
		"smtp":            network("smtp", &server{keywords: allKeywords}, Config{}),
		"smtp, bare":      network("smtp", &server{}, Config{}),
		"smtp, STARTTLS":  network("smtp", &server{keywords: secured, tls: serverTLS}, Config{TLS: TLSRequired, TLSConfig: clientTLS}),
		"smtp, XCLIENT":   network("smtp", &server{keywords: append(slices.Clone(allKeywords), "XCLIENT NAME ADDR")}, Config{}),
		"smtp, XFORWARD":  network("smtp", &server{keywords: append(slices.Clone(allKeywords), "XFORWARD NAME ADDR")}, Config{}),
		"smtp, PROXY":     network("smtp", &server{keywords: allKeywords, proxy: true}, Config{ClientInfo: ClientProxy}),
		"smtp, no pool":   network("smtp", &server{keywords: allKeywords}, Config{Pool: Pool{Size: -1}}),
		"smtps":           network("smtps", &server{keywords: allKeywords, tls: serverTLS, implicit: true}, Config{TLSConfig: clientTLS}),
		"lmtp":            network("lmtp", &server{keywords: allKeywords, lmtp: true}, Config{}),
		"lmtp, STARTTLS":  network("lmtp", &server{keywords: secured, lmtp: true, tls: serverTLS}, Config{TLS: TLSOpportunistic}),
		"lmtp+unix":       network("lmtp+unix", &server{keywords: allKeywords, lmtp: true}, Config{}),
		"lmtp+unix, bare": network("lmtp+unix", &server{lmtp: true}, Config{}),
		"maildir": func(t *testing.T) (Config, far) {
			dir := t.TempDir() + "/mail"
			return Config{Address: "maildir:" + dir}, func(t *testing.T) []received { return fromMaildir(t, dir) }
		},
	}
}

// fromMaildir reads a Maildir back, taking apart what final delivery put on top.
func fromMaildir(t *testing.T, path string) []received {
	t.Helper()
	entries, err := NewMaildir(path, "x").List()
	if err != nil {
		t.Fatal(err)
	}
	var all []received
	for _, e := range entries {
		raw, err := os.ReadFile(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		var r received
		rest := string(raw)
		for {
			line, after, _ := strings.Cut(rest, "\r\n")
			if from, ok := strings.CutPrefix(line, "Return-Path: "); ok {
				r.from = "FROM:" + from
			} else if to, ok := strings.CutPrefix(line, "Delivered-To: "); ok {
				r.to = append(r.to, "TO:<"+to+">")
			} else {
				break
			}
			rest = after
		}
		r.data = rest
		all = append(all, r)
	}
	return all
}

// someone is a client from outside.
var someone = Client{Name: "client.example", Helo: "client.example", Extended: true}

func TestContract(t *testing.T) {
	for name, start := range implementations(t) {
		t.Run(name, func(t *testing.T) {
			for _, tc := range contract {
				t.Run(tc.name, func(t *testing.T) {
					cfg, far := start(t)
					tc.run(t, newUpstream(t, cfg), far)
				})
			}
		})
	}
}

var contract = []struct {
	name string
	run  func(t *testing.T, u Upstream, far far)
}{
	{name: "a message arrives byte for byte", run: contractExact},
	{name: "several recipients, one message", run: contractRecipients},
	{name: "one transaction after another", run: contractSequence},
	{name: "a failing BeforeDot stops the delivery", run: contractBeforeDot},
	{name: "a broken message is not delivered", run: contractBroken},
	{name: "Reset forgets the transaction", run: contractReset},
	{name: "Mail gives up an open transaction", run: contractMailTwice},
	{name: "a cancelled context stops the delivery", run: contractCancel},
	{name: "Probe tells what Open finds", run: contractProbe},
	{name: "addresses that need quoting", run: contractQuoting},
	{name: "a closed upstream gives no network connections", run: contractClosed},
	{name: "many at once", run: contractParallel},
}

func contractExact(t *testing.T, u Upstream, far far) {
	fields := "Received: from client.example\r\n\tby mx.example.org; Thu, 6 Nov 2008 08:15:43 +0000\r\n"
	message := ".starts with a dot\r\n..two\r\n.\r\nline \x80\xff\x00 and trailing space \t \r\n\r\n" +
		strings.Repeat("x", 5000) + "\r\n" + strings.Repeat(".\r\n", 70000) + "no line end"
	result, err := deliver(context.Background(), mustOpen(t, u, someone),
		Body{Fields: []byte(fields), Message: strings.NewReader(message)}, alice)
	if err != nil || result.Reply.Code != 250 || !result.Offered {
		t.Fatal(result, err)
	}
	mail := far(t)
	if len(mail) != 1 || mail[0].data != fields+message+"\r\n" {
		t.Fatalf("%d messages, or one that was changed", len(mail))
	}
}

func contractRecipients(t *testing.T, u Upstream, far far) {
	c := mustOpen(t, u, someone)
	result, err := deliver(context.Background(), c, text("Hello\r\n"), alice, bob)
	if err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if want := 2; c.Caps().LMTP && len(result.Per) != want || !c.Caps().LMTP && result.Per != nil {
		t.Fatalf("%d replies for recipients", len(result.Per))
	}
	mail := far(t)
	if len(mail) != 1 || !slices.Equal(mail[0].to, []string{"TO:<alice@example.org>", "TO:<bob@example.com>"}) {
		t.Fatalf("got %v", mail)
	}
	if from, _, _ := strings.Cut(mail[0].from, " "); from != "FROM:<bob@example.com>" {
		t.Fatalf("from %q", from)
	}
}

func contractSequence(t *testing.T, u Upstream, far far) {
	ctx := context.Background()
	c := mustOpen(t, u, someone)
	for range 3 {
		mail, rcpt, err := c.MailRcpt(ctx, Mail{From: bob}, Rcpt{To: alice})
		if err != nil || mail.Code != 250 || rcpt.Code != 250 {
			t.Fatal(mail, rcpt, err)
		}
		if result, err := c.Data(ctx, text("Hello\r\n")); err != nil || result.Reply.Code != 250 {
			t.Fatal(result, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = mustOpen(t, u, someone)
	if result, err := deliver(ctx, c, text("Hello\r\n"), alice); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if n := len(far(t)); n != 4 {
		t.Fatalf("%d messages, expected 4", n)
	}
}

func contractBeforeDot(t *testing.T, u Upstream, far far) {
	no := errors.New("no")
	body := text("Hello\r\n")
	body.BeforeDot = func() error {
		if n := len(far(t)); n != 0 {
			t.Errorf("%d messages have arrived before the dot", n)
		}
		return no
	}
	result, err := deliver(context.Background(), mustOpen(t, u, someone), body, alice)
	wantError(t, err, "data", false)
	if !errors.Is(err, no) || result.Offered {
		t.Fatal(result, err)
	}
	u.Close()
	if n := len(far(t)); n != 0 {
		t.Fatalf("%d messages", n)
	}
}

func contractBroken(t *testing.T, u Upstream, far far) {
	broken := errors.New("broken")
	_, err := deliver(context.Background(), mustOpen(t, u, someone), Body{Message: errReader{broken}}, alice)
	wantError(t, err, "data", false)
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	u.Close()
	if n := len(far(t)); n != 0 {
		t.Fatalf("%d messages", n)
	}
}

func contractReset(t *testing.T, u Upstream, far far) {
	ctx := context.Background()
	c := mustOpen(t, u, someone)
	for _, to := range []Path{alice, bob} {
		if err := c.Reset(ctx); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Mail(ctx, Mail{From: to}); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		if r, err := c.Rcpt(ctx, Rcpt{To: to}); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
	}
	if result, err := c.Data(ctx, text("Hello\r\n")); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if mail := far(t); len(mail) != 1 || !slices.Equal(mail[0].to, []string{"TO:<bob@example.com>"}) {
		t.Fatalf("got %v", mail)
	}
}

func contractMailTwice(t *testing.T, u Upstream, far far) {
	ctx := context.Background()
	c := mustOpen(t, u, someone)
	for _, to := range []Path{alice, bob} {
		mail, rcpt, err := c.MailRcpt(ctx, Mail{From: to}, Rcpt{To: to})
		if err != nil || mail.Code != 250 || rcpt.Code != 250 {
			t.Fatal(mail, rcpt, err)
		}
	}
	if result, err := c.Data(ctx, text("Hello\r\n")); err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if mail := far(t); len(mail) != 1 || !slices.Equal(mail[0].to, []string{"TO:<bob@example.com>"}) {
		t.Fatalf("got %v", mail)
	}
}

func contractCancel(t *testing.T, u Upstream, far far) {
	ctx, cancel := context.WithCancel(context.Background())
	body := text("Hello\r\n")
	body.BeforeDot = func() error { cancel(); return ctx.Err() }
	_, err := deliver(ctx, mustOpen(t, u, someone), body, alice)
	wantError(t, err, "data", false)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := u.Open(ctx, someone); !errors.Is(err, context.Canceled) {
		t.Fatalf("Open with a cancelled context: %v", err)
	}
	u.Close()
	if n := len(far(t)); n != 0 {
		t.Fatalf("%d messages", n)
	}
}

func contractProbe(t *testing.T, u Upstream, far far) {
	caps, err := u.Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	found := mustOpen(t, u, someone).Caps()
	if caps.LMTP != found.LMTP || caps.TLS != found.TLS || caps.Size != found.Size || caps.MaxSize != found.MaxSize ||
		caps.SMTPUTF8 != found.SMTPUTF8 || caps.EightBit != found.EightBit || caps.DSN != found.DSN {
		t.Fatalf("Probe found %+v\nOpen found %+v", caps, found)
	}
	if n := len(far(t)); n != 0 {
		t.Fatalf("Probe left %d messages", n)
	}
}

func contractQuoting(t *testing.T, u Upstream, far far) {
	to := Path{Local: `a" b@c`, Domain: "example.org"}
	result, err := deliver(context.Background(), mustOpen(t, u, someone), text("Hello\r\n"), to)
	if err != nil || result.Reply.Code != 250 {
		t.Fatal(result, err)
	}
	if mail := far(t); len(mail) != 1 || !slices.Equal(mail[0].to, []string{`TO:<"a\" b@c"@example.org>`}) {
		t.Fatalf("got %v", mail)
	}
	reply, err := mustOpen(t, u, someone).Mail(context.Background(), Mail{From: Path{Local: "a\r\nX: y", Domain: "example.org"}})
	if err != nil || reply.Code != 553 {
		t.Fatalf("got %v, %v; expected 553", reply, err)
	}
}

func contractClosed(t *testing.T, u Upstream, far far) {
	c := mustOpen(t, u, someone)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if network, _ := u.Addr(); network == "" {
		return
	}
	if c, err := u.Open(context.Background(), someone); err == nil {
		t.Fatalf("got %v after Close", c)
	}
}

func contractParallel(t *testing.T, u Upstream, far far) {
	const clients, each = 4, 5
	errs := make(chan error, clients)
	for range clients {
		go func() {
			errs <- func() error {
				for range each {
					c, err := u.Open(context.Background(), someone)
					if err != nil {
						return err
					}
					result, err := deliver(context.Background(), c, Body{Message: bytes.NewReader(someLines)}, alice)
					if err != nil {
						return err
					}
					if result.Reply.Code != 250 {
						return errors.New(result.Reply.String())
					}
					if err := c.Close(); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	mail := far(t)
	if len(mail) != clients*each {
		t.Fatalf("%d messages, expected %d", len(mail), clients*each)
	}
	for _, m := range mail {
		if m.data != string(someLines) {
			t.Fatal("a message was changed")
		}
	}
}
