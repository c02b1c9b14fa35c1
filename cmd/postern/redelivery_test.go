package main

import (
	"fmt"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// storeConfig is a proxy in front of a next hop, with a store in a file.
func storeConfig(names, upstream string) string {
	return fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nlisten: [{address: '127.0.0.1:0'}]\n"+
		"upstream: [{address: 'smtp://%s'}]\ndns: {servers: ['%s']}\nstore: {path: state.db}\n", upstream, names)
}

// kill ends the process as a crash would.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	for range p.lines {
	}
	p.exited <- <-p.exited
}

// offer sends a message up to the final dot and does not wait for the reply.
func (c *client) offer(message string) {
	c.t.Helper()
	c.say("EHLO mail.corp.example", 250)
	c.say("MAIL FROM:<carol@home.example>", 250)
	c.say("RCPT TO:<alice@example.org>", 250)
	c.say("DATA", 354)
	if _, err := fmt.Fprint(c.conn, message+".\r\n"); err != nil {
		c.t.Fatal(err)
	}
}

// The process is killed at different moments of a delivery, started again, and the client comes with the message again.
// The message arrives; it arrives twice only where the log says so.
func TestServeKilled(t *testing.T) {
	for _, tt := range []struct {
		name       string
		moment     string // of the kill
		delivered  int
		redelivery string
	}{
		{name: "before the message is handed on", moment: "DATA", delivered: 1},
		{name: "after the final dot, before the reply to it", moment: ".", delivered: 2, redelivery: "in_doubt"},
		{name: "after our reply, which nobody was seen to read", moment: "250", delivered: 1, redelivery: "served"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reached, over := make(chan struct{}), make(chan struct{})
			sink := peertest.StartSink(t, peertest.Sink{Script: func(e peertest.Event) peertest.Answer {
				if e.Conn == firstClient && e.Verb == tt.moment {
					close(reached)
					<-over
				}
				return peertest.Answer{}
			}})
			dir := folder(t, map[string]string{"postern.yaml": storeConfig(serveNames(t), sink.Addr)})
			p := startServe(t, dir, "-config", "postern.yaml")
			c := dial(t, p.addr)
			c.offer(hello)
			if tt.moment == "250" {
				c.expect(250)
			} else {
				<-reached
			}
			p.kill()
			close(over)

			p = startServe(t, dir, "-config", "postern.yaml")
			c = dial(t, p.addr)
			c.offer(hello)
			c.expect(250)
			line := p.await(`event=message`)
			if got := value(line, "redelivery"); got != tt.redelivery || value(line, "action") != "accept" {
				t.Errorf("redelivery is %q, want %q: %s", got, tt.redelivery, line)
			}
			if n := len(sink.Wait(tt.delivered)); n != tt.delivered {
				t.Errorf("delivered %d times, want %d", n, tt.delivered)
			}
		})
	}
}

// firstClient is the number of the sink's connection that carries the first message: before it comes the one that asks
// what the sink offers.
const firstClient = 2

// messages counts those that the sink was offered. It knows of each before it answers.
func messages(sink *peertest.SinkServer) int {
	n := 0
	for _, command := range sink.Commands() {
		if command == "DATA" {
			n++
		}
	}
	return n
}

// The process is killed as close as can be to the moment between the next hop's reply and ours.
func TestServeKilledBetweenReplies(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	sink := peertest.StartSink(t, peertest.Sink{})
	dir := folder(t, map[string]string{"postern.yaml": storeConfig(serveNames(t), sink.Addr)})
	for round := range rounds {
		message := strings.Replace(hello, "<1@", fmt.Sprintf("<%d@", round), 1)
		before := messages(sink)
		p := startServe(t, dir, "-config", "postern.yaml")
		dial(t, p.addr).offer(message)
		sink.Wait(before + 1) // it has said 250
		p.kill()

		p = startServe(t, dir, "-config", "postern.yaml")
		c := dial(t, p.addr)
		c.offer(message)
		c.expect(250)
		line := p.await(`event=message`)
		c.say("QUIT", 221)
		p.kill()
		switch n, said := messages(sink)-before, value(line, "redelivery"); {
		case n == 1 && said == "served", n == 2 && said == "in_doubt":
		default:
			t.Errorf("delivered %d times, redelivery is %q: %s", n, said, line)
		}
	}
}
