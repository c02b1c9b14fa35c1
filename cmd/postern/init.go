package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"postern/filters/dns"
	"postern/proxy"
)

var initCommand = &command{
	name: "init",
	args: "[-config FILE] [-hostname NAME] [-domains LIST] [-upstream ADDRESS] [-listen ADDRESS] [-cert FILE] [-key FILE] " +
		"[-mta NAME] [-dns LIST] [-dnsbl LIST] [-state FOLDER] [-ask] [-force] [-offline]",
	summary: "write a first configuration, after a look at the server behind and at DNS",
	help: `
Writes a commented configuration in observe mode, which refuses nothing for its content. Before that it asks the server
behind what it offers, how the real client can be told to it, and whether it refuses unknown recipients; and DNS, whether
the resolver answers, the DNS lists do not refuse it, and our host name, its addresses and the MX records agree. It sends no
message. Last it says what to change in the server behind, and how to go from observing to enforcing.

What no flag says is asked for on a terminal; else the host name is that of the machine, and -domains has to be given. It
reaches no other server than those of -upstream and -dns. A configuration that is there is not touched without
-force, which keeps it beside the new one, with .old behind its name. Exits 1 when nothing was written; what is found wrong
outside the configuration is told and does not matter for that.

For example: postern init -hostname mx.example.org -domains example.org,example.com -upstream smtp://127.0.0.1:2525`,
	run: runInit,
}

// A setup is what the configuration is made of.
type setup struct {
	File     string
	Hostname string
	Domains  []string
	Upstream string
	Listen   string
	Cert     string
	Key      string
	MTA      string // "" for not known
	DNS      []string
	DNSBL    []string
	State    string
	Force    bool
	Offline  bool

	Client string            // client_info of the upstream, as found out
	Refuse map[string]string // lists that are not to be asked, with the reason
	Notes  []string          // what the probe showed about the upstream, for the comment
}

// list reads words that are set apart by commas or spaces.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func runInit(ctx context.Context, c *call) int {
	s := &setup{Refuse: make(map[string]string)}
	var domains, servers, zones string
	var ask bool
	c.flags.StringVar(&s.File, "config", proxy.DefaultPath, "the configuration `FILE` to write")
	c.flags.StringVar(&s.Hostname, "hostname", "", "our `NAME`, the one in the MX record")
	c.flags.StringVar(&domains, "domains", "", "the recipient domains, a `LIST` with commas")
	c.flags.StringVar(&s.Upstream, "upstream", "", "the `ADDRESS` of the server behind, such as smtp://127.0.0.1:2525")
	c.flags.StringVar(&s.Listen, "listen", ":25", "the `ADDRESS` to listen on")
	c.flags.StringVar(&s.Cert, "cert", "", "certificate chain for STARTTLS, a PEM `FILE`")
	c.flags.StringVar(&s.Key, "key", "", "its key, a PEM `FILE`")
	c.flags.StringVar(&s.MTA, "mta", "", "the server behind by `NAME`: "+strings.Join(mtaNames(), ", ")+"; without it what its greeting tells")
	c.flags.StringVar(&servers, "dns", "", "resolvers, a `LIST` with commas; without it the system's")
	c.flags.StringVar(&zones, "dnsbl", "zen.spamhaus.org", "DNS lists of client addresses, a `LIST` with commas, or none")
	c.flags.StringVar(&s.State, "state", "/var/lib/postern", "the `FOLDER` for what outlives a restart")
	c.flags.BoolVar(&ask, "ask", false, "ask for what no flag says, also where there is no terminal")
	c.flags.BoolVar(&s.Force, "force", false, "write although there is a configuration; the old one is kept with .old behind its name")
	c.flags.BoolVar(&s.Offline, "offline", false, "ask neither the server behind nor DNS")
	if code, ok := c.parseFlagsOnly(); !ok {
		return code
	}
	if s.MTA != "" && !slices.Contains(mtaNames(), s.MTA) {
		return c.misuse("unknown -mta %q, expected one of %s", s.MTA, strings.Join(mtaNames(), ", "))
	}
	if _, err := os.Lstat(s.File); err == nil && !s.Force {
		return c.fail(fmt.Errorf("%s is there already: expected -force to write it anew (the old one is kept), or another place with -config", s.File))
	}
	if in, ok := c.stdin.(*os.File); ask || ok && answers(in) {
		if err := c.questions(s, &domains); err != nil {
			return c.fail(err)
		}
	}
	s.Domains, s.DNS, s.DNSBL = list(domains), list(servers), list(zones)
	if zones == "none" {
		s.DNSBL = nil
	}
	if s.Hostname == "" {
		s.Hostname = machineName()
	}
	if s.Upstream == "" {
		s.Upstream = "smtp://127.0.0.1:2525"
	}
	return c.setUp(ctx, s)
}

// setUp looks at the surroundings, and writes.
func (c *call) setUp(ctx context.Context, s *setup) int {
	switch {
	case s.Hostname == "":
		return c.misuse("expected -hostname: this machine's own name is not that of a mail server")
	case len(s.Domains) == 0:
		return c.misuse("expected -domains: the recipient domains that Postern accepts, such as example.org")
	case (s.Cert == "") != (s.Key == ""):
		return c.misuse("expected -cert and -key, both or neither")
	}
	// What can't be written need not be looked at.
	cfg, err := proxy.ParseConfig(s.File, []byte(s.text()))
	if err != nil {
		return c.explain(err)
	}
	if !s.Offline {
		fmt.Fprintf(c.stdout, "The server behind, %s\n", s.Upstream)
		s.probe(ctx, report{c.stdout}, cfg)
		fmt.Fprintf(c.stdout, "\nDNS\n")
		s.askDNS(ctx, report{c.stdout})
	}
	text := s.text()
	cfg, err = proxy.ParseConfig(s.File, []byte(text))
	if err != nil {
		return c.explain(err)
	}
	rt, err := c.build(ctx, cfg, proxy.RuntimeOptions{Resolver: dns.Offline(), OwnTests: true})
	if err != nil {
		return c.explain(err)
	}
	rt.Close()
	if err := s.write(text); err != nil {
		return c.fail(err)
	}
	fmt.Fprintf(c.stdout, "\n%s is written. It observes: nothing is refused for its content.\n", s.File)
	c.advise(s)
	return exitFine
}

// questions asks for what no flag has said.
func (c *call) questions(s *setup, domains *string) error {
	given := make(map[string]bool)
	c.flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	in := bufio.NewScanner(io.LimitReader(c.stdin, 1<<16))
	for _, q := range []struct {
		flag, text, proposal string
		to                   *string
	}{
		{flag: "hostname", text: "Our host name, the one in the MX record", proposal: machineName(), to: &s.Hostname},
		{flag: "domains", text: "The domains whose mail is accepted, with commas", proposal: *domains, to: domains},
		{flag: "upstream", text: "The server behind", proposal: "smtp://127.0.0.1:2525", to: &s.Upstream},
		{flag: "listen", text: "Where to listen", proposal: s.Listen, to: &s.Listen},
	} {
		if given[q.flag] {
			continue
		}
		prompt := q.text
		if q.proposal != "" {
			prompt += " [" + q.proposal + "]"
		}
		fmt.Fprintf(c.stdout, "%s: ", prompt)
		if !in.Scan() {
			return errors.Join(errors.New("no more answers: nothing was written"), in.Err())
		}
		if *q.to = strings.TrimSpace(in.Text()); *q.to == "" {
			*q.to = q.proposal
		}
	}
	fmt.Fprintln(c.stdout)
	return nil
}

// answers reports whether somebody sits at the other end.
func answers(in *os.File) bool {
	_, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS)
	return err == nil
}

// machineName is the machine's name where it can be that of a mail server: one with a dot.
func machineName() string {
	name, err := os.Hostname()
	if err != nil || !strings.Contains(name, ".") || !proxy.IsHostname(name) {
		return ""
	}
	return name
}

// write puts the configuration into its place as a whole, and keeps an old one.
func (s *setup) write(text string) error {
	if err := os.MkdirAll(filepath.Dir(s.File), 0o755); err != nil {
		return fmt.Errorf("the folder of the configuration: %w", err)
	}
	if s.Force {
		if err := os.Rename(s.File, s.File+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep the old configuration: %w", err)
		}
	}
	// It holds no secret, and the account that Postern runs as must be able to read it.
	f, err := os.OpenFile(s.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("write %s: %w", s.File, errors.Join(err, f.Close()))
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write %s: %w", s.File, err)
	}
	return nil
}

// A report tells what was found, a line each.
type report struct{ w io.Writer }

func (r report) fine(format string, args ...any) { r.line("ok    ", format, args) }
func (r report) note(format string, args ...any) { r.line("note  ", format, args) }
func (r report) warn(format string, args ...any) { r.line("WARN  ", format, args) }

func (r report) line(mark, format string, args []any) {
	fmt.Fprintf(r.w, "  %s%s\n", mark, printable(fmt.Sprintf(format, args...)))
}
