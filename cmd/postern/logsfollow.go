package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"postern/filters"
	"postern/logs"
)

var logsFollowCommand = &command{
	name:    "logs follow",
	args:    "[-n N] [-action LIST] [-domain NAME] [-ip NET] [-rule NAME] [FILE]",
	summary: "a live view of the messages",
	help: `
Prints a line for each message as it is judged: time, action, id, client, sender, recipients, score and what made it. Begins with the
last lines of the file and goes on until it is interrupted, through rotation too. Without FILE, or for -, it reads standard
input, such as that of journalctl -f -o cat. On a terminal actions have colours, unless NO_COLOR is set.

Only messages that all given filters let through are printed: -action of these actions (accept, tag, quarantine, defer, reject,
abort), -domain with that domain in From, in the sender's or in a recipient's address, or one below it, -ip from that address or
network, -rule hit by that rule or symbol, in shadow mode too.

  postern logs follow /var/log/postern.log
  postern logs follow -action reject,quarantine -domain example.org /var/log/postern.log`,
	run: runLogsFollow,
}

// A followFilter says which messages are shown.
type followFilter struct {
	actions []string
	domain  string
	net     netip.Prefix
	rule    string
}

func runLogsFollow(ctx context.Context, c *call) int {
	last := c.flags.Int("n", 10, "begin with the last `N` lines of the file")
	actions := c.flags.String("action", "", "only these actions, a `LIST` with commas")
	domain := c.flags.String("domain", "", "only from or to the domain `NAME`")
	from := c.flags.String("ip", "", "only from this address or network, `NET`")
	rule := c.flags.String("rule", "", "only what the rule or symbol `NAME` hit")
	files, code, ok := c.parseMixed()
	if !ok {
		return code
	}
	filter := followFilter{actions: list(*actions), domain: strings.ToLower(*domain), rule: *rule}
	for _, a := range filter.actions {
		if filters.ActionNamed(a) == filters.NoAction && a != "abort" {
			return c.misuse("-action %q, expected accept, tag, quarantine, defer, reject or abort", a)
		}
	}
	if *from != "" {
		var err error
		if filter.net, err = netip.ParsePrefix(*from); err != nil {
			addr, err := netip.ParseAddr(*from)
			if err != nil {
				return c.misuse("-ip %q is neither an address nor a network", *from)
			}
			filter.net = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	switch {
	case len(files) > 1:
		return c.misuse("%d files, expected one", len(files))
	case *last < 0:
		return c.misuse("-n %d, expected 0 or more", *last)
	}
	m := marksFor(c.stdout)
	if os.Getenv("NO_COLOR") != "" {
		m = plainMarks
	}
	show := func(r *logs.Record) {
		if filter.lets(r) {
			fmt.Fprintln(c.stdout, followLine(r, m))
		}
	}
	var err error
	if len(files) == 0 || files[0] == "-" {
		_, err = logs.Read(ctx, c.stdin, logs.Span{}, show)
	} else {
		err = logs.Follow(ctx, files[0], *last, show)
	}
	if err != nil && ctx.Err() == nil {
		return c.fail(err)
	}
	return exitFine
}

// lets reports whether a line is shown.
func (f *followFilter) lets(r *logs.Record) bool {
	switch {
	case r.Get("event") != "message":
		return false
	case len(f.actions) > 0 && !slices.Contains(f.actions, r.Get("action")) && !slices.Contains(f.actions, r.Get("would")):
		return false
	case f.domain != "" && !f.about(r):
		return false
	case f.rule != "" && !hasFinding(r.Get("rules"), f.rule) && !hasFinding(r.Get("shadow"), f.rule):
		return false
	}
	if f.net.IsValid() {
		ip, err := netip.ParseAddr(r.Get("ip"))
		return err == nil && f.net.Contains(ip)
	}
	return true
}

// about reports whether the domain, or one below it, has to do with a message.
func (f *followFilter) about(r *logs.Record) bool {
	addresses := append(strings.Split(r.Get("rcpt_to"), ","), r.Get("mail_from"), r.Get("from"))
	return slices.ContainsFunc(addresses, func(a string) bool {
		domain := logs.AddressDomain(a)
		return domain == f.domain || strings.HasSuffix(domain, "."+f.domain)
	})
}

// hasFinding reports whether a rule is in a list of findings.
func hasFinding(findings, rule string) bool {
	for name := range logs.Findings(findings) {
		if strings.EqualFold(name, rule) {
			return true
		}
	}
	return false
}

// actionColours are those of terminals.
var actionColours = map[string]string{"accept": "\x1b[32m", "tag": "\x1b[33m", "quarantine": "\x1b[35m", "defer": "\x1b[36m", "reject": "\x1b[31m", "abort": "\x1b[2m"}

// followLine is a message in one line.
func followLine(r *logs.Record, m marks) string {
	action := r.Get("action")
	shown := fmt.Sprintf("%-10s", printable(action))
	if m.off != "" {
		shown = actionColours[action] + shown + m.off
	}
	if would := r.Get("would"); would != "" {
		shown += " (would " + printable(would) + ")"
	}
	from := printable(r.Get("mail_from"))
	line := fmt.Sprintf("%s %s %s%s%s %s <%s> to %s: %s", r.Time().Local().Format("15:04:05"), shown, m.dim, printable(r.Get("id")), m.off,
		printable(r.Get("ip")), from, printable(r.Get("rcpt_to")), printable(r.Get("score")))
	if rules := r.Get("rules"); rules != "" {
		line += " " + printable(strings.ReplaceAll(rules, ",", " "))
	}
	if by, _, _ := strings.Cut(r.Get("by"), ","); by != "score" {
		line += "  by " + printable(by)
	}
	if shadow := r.Get("shadow"); shadow != "" {
		line += "  " + m.dim + "shadow " + printable(strings.ReplaceAll(shadow, ",", " ")) + m.off
	}
	return line
}
