package ledger

import (
	"fmt"
	"slices"
	"strings"
)

// A point is one fault at one step: what the tests go through.
type point struct {
	hop    hopKind
	before string // what comes before the message: "", "pooled", "session", "RSET"
	fault  *hopFault
	client *clientFault
	secure bool   // the client uses TLS
	world  string // what else is wrong: "refused" (nobody listens), an idle connection's fate
	large  bool   // the message is too large for the buffers of a connection
	held   string // the client acts when the next hop has come to this step
}

// Ways to misbehave where a reply is due.
var (
	transportFaults = []string{"close", "reset", "stall", "vanish"}
	refusals        = []string{"4xx", "421", "5xx"}
	nonsense        = []string{"garbage", "another reply", "two codes", "half, then close", "half, then stall", "endless line", "bare LF"}
	harmless        = []string{"in pieces", "byte by byte", "multi-line"}
)

// name tells a point from all others.
func (p point) name() string {
	parts := []string{p.hop.name}
	for _, s := range []string{p.before, p.where(), p.kind(), p.held} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if p.fault != nil && p.fault.took {
		parts = append(parts, "took")
	}
	if p.fault != nil && p.fault.lasting {
		parts = append(parts, "lasting")
	}
	if p.fault != nil && p.fault.readOn {
		parts = append(parts, "reads on")
	}
	if p.secure {
		parts = append(parts, "under TLS")
	}
	if p.large {
		parts = append(parts, "large")
	}
	return strings.Join(parts, ": ")
}

// where is the side and step, for the table.
func (p point) where() string {
	switch {
	case p.fault != nil:
		return "next hop: " + strings.TrimSuffix(p.fault.step, " again") + p.reused()
	case p.world == "refused":
		return "next hop: connect"
	case p.world != "":
		return "next hop: idle in the pool"
	}
	return "client: " + p.client.step
}

func (p point) reused() string {
	if strings.HasSuffix(p.fault.step, " again") {
		return ", used connection"
	}
	return ""
}

// kind is the way of misbehaving, for the table.
func (p point) kind() string {
	switch {
	case p.fault != nil && within(p.fault.step) && slices.Contains([]string{"4xx", "421", "5xx", "250", "garbage"}, p.fault.kind):
		return "early " + p.fault.kind
	case p.fault != nil:
		return p.fault.kind
	case p.world != "":
		return p.world
	}
	return p.client.kind
}

// within reports whether a step lies within a message.
func within(step string) bool {
	return slices.Contains([]string{"header", "middle", "before the dot"}, step)
}

// refuses tells for which recipients a refusal for good is what the next hop says.
func (p point) refuses() func(int) bool {
	if p.fault == nil || p.fault.kind != "5xx" {
		return nil
	}
	step := strings.TrimSuffix(p.fault.step, " again")
	switch step {
	case "MAIL", "DATA", "dot", "header", "middle", "before the dot":
		return func(int) bool { return true }
	case "RCPT 1", "dot 1":
		return func(n int) bool { return n == 0 }
	case "RCPT 2", "dot 2":
		return func(n int) bool { return n == 1 }
	}
	return nil
}

// allPoints is every fault at every step.
func allPoints() []point {
	var all []point
	for _, k := range allHops {
		all = append(all, replyPoints(k)...)
		all = append(all, messagePoints(k)...)
		for _, lasting := range []bool{false, true} {
			for _, kind := range append(slices.Clone(transportFaults), "garbage") {
				if k.offersTLS() || k.scheme == "smtps" {
					all = append(all, point{hop: k, fault: &hopFault{step: "handshake", kind: kind, lasting: lasting}})
				}
			}
		}
		all = append(all, point{hop: k, world: "refused"})
	}
	for _, kind := range []string{"close", "reset", "421", "garbage", "250", "vanish"} {
		all = append(all,
			point{hop: pooledHop, before: "pooled", world: kind},
			point{hop: lmtpHop, before: "pooled", world: kind},
			point{hop: tlsHop, before: "pooled", world: kind})
	}
	return append(all, clientPoints()...)
}

// A replyStep is one at which a next hop replies.
type replyStep struct{ step, before string }

// steps are those of a kind of next hop.
func (k hopKind) steps() []replyStep {
	all := []replyStep{{step: "banner"}, {step: "EHLO"}}
	switch k.name {
	case "smtp":
		all = append(all, replyStep{step: "XFORWARD"}, replyStep{step: "XFORWARD again", before: "pooled"})
	case "xclient":
		all = append(all, replyStep{step: "XCLIENT"}, replyStep{step: "second EHLO"}, replyStep{step: "QUIT"})
	case "tls", "tls required":
		all = append(all, replyStep{step: "STARTTLS"}, replyStep{step: "second EHLO"})
	}
	before := "pooled"
	if k.name == "xclient" {
		before = "session"
	}
	dots := []string{"dot"}
	if k.lmtp {
		dots = []string{"dot 1", "dot 2"}
	}
	for _, s := range append([]string{"MAIL", "RCPT 1", "RCPT 2", "DATA"}, dots...) {
		all = append(all, replyStep{step: s}, replyStep{step: s + " again", before: before})
	}
	return append(all, replyStep{step: "RSET", before: "RSET"})
}

func replyPoints(k hopKind) []point {
	var all []point
	add := func(s replyStep, f hopFault) {
		f.step = s.step
		all = append(all, point{hop: k, before: s.before, fault: &f})
	}
	for _, s := range k.steps() {
		isDot := strings.HasPrefix(s.step, "dot")
		once := isDot || s.before != "" || s.step == "QUIT" // there is no second time for it
		for _, kind := range slices.Concat(transportFaults, refusals, nonsense) {
			add(s, hopFault{kind: kind})
			if isDot && !slices.Contains(refusals, kind) {
				add(s, hopFault{kind: kind, took: true})
			}
			if !once {
				add(s, hopFault{kind: kind, lasting: true})
			}
		}
		for _, kind := range append(slices.Clone(harmless), "twice") {
			add(s, hopFault{kind: kind})
		}
	}
	for _, kind := range append(slices.Clone(transportFaults), "421", "garbage", "250") {
		add(replyStep{step: "after"}, hopFault{kind: kind})
	}
	return all
}

// messagePoints are faults while the message is on its way to the next hop.
func messagePoints(k hopKind) []point {
	var all []point
	for _, step := range []string{"header", "middle", "before the dot"} {
		for _, large := range []bool{false, true} {
			for _, kind := range transportFaults {
				all = append(all, point{hop: k, large: large, fault: &hopFault{step: step, kind: kind}})
				all = append(all, point{hop: k, large: large, fault: &hopFault{step: step, kind: kind, lasting: true}})
			}
			for _, kind := range []string{"4xx", "5xx"} {
				all = append(all, point{hop: k, large: large, fault: &hopFault{step: step, kind: kind}})
			}
			for _, kind := range []string{"4xx", "5xx", "250"} {
				all = append(all, point{hop: k, large: large, fault: &hopFault{step: step, kind: kind, readOn: true}})
			}
			for _, kind := range []string{"421", "garbage"} {
				all = append(all, point{hop: k, large: large, fault: &hopFault{step: step, kind: kind}})
			}
		}
	}
	return all
}

// clientPoints are what clients do wrong.
func clientPoints() []point {
	var all []point
	ends := []string{"close", "reset", "stall", "vanish", "close, reading on"}
	for _, secure := range []bool{false, true} {
		hops := []hopKind{pooledHop, personalHop, lmtpHop}
		if secure {
			hops = []hopKind{pooledHop, requiredHop, lmtpHop}
		}
		for _, k := range hops {
			add := func(step, kind, held string) {
				all = append(all, point{hop: k, secure: secure, held: held, client: &clientFault{step: step, kind: kind}})
			}
			steps := []string{"EHLO", "MAIL", "RCPT 1", "RCPT 2", "DATA"}
			if secure {
				steps = append(steps, "STARTTLS", "handshake", "second EHLO")
			}
			for _, step := range steps {
				for _, kind := range ends {
					add(step, kind, "")
				}
				if step != "handshake" {
					add(step, "octet by octet", "")
					add(step, "half a line, then close", "")
					add(step, "garbage", "")
				}
			}
			for _, kind := range ends {
				add("connect", kind, "")
				for _, step := range places {
					add(step, kind, "")
				}
			}
			for _, step := range places {
				add(step, "octet by octet", "")
			}
			for _, kind := range []string{"close", "reset", "vanish", "close, reading on"} {
				add("final dot", kind, "")
				for _, held := range []string{"MAIL", "DATA", "before the dot", "taken"} {
					add("final dot", kind, held)
				}
			}
			for _, kind := range []string{"close", "reset", "vanish"} {
				add("unread reply", kind, "")
				add("reply", kind, "")
			}
			add("reply", "stall", "")
			add("whole transaction", "all ahead", "")
		}
	}
	return all
}

// message makes one of a size that suits the point.
func (p point) message(id string) []byte {
	filler := strings.Repeat("this line is here to fill the message up, and this one has nothing more to say\r\n", 20)
	if p.large {
		filler = strings.Repeat(filler, 600)
	}
	return fmt.Appendf(nil, "From: Ledger <book@sender.example>\r\nTo: somebody\r\nSubject: %s\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"+
		"Message-ID: <%s@sender.example>\r\n\r\nbegin\r\n.a dot in front\r\n..\r\nmiddle of %s\r\n%send of %s\r\n", id, id, id, filler, id)
}
