// Postern is a spam-filtering SMTP proxy. It stands in front of a mail server, runs every SMTP session through SPF,
// DKIM, DMARC, DNSBL and content rules, and tags, refuses, diverts or forwards the message.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"postern/rules/strict"
)

// Exit codes.
const (
	exitFine  = 0
	exitBad   = 1 // the thing asked about is bad, or the work failed
	exitUsage = 2
)

// A command is one subcommand.
type command struct {
	name    string
	args    string // what follows the name, for the usage line
	summary string // one line, for the overview
	help    string // the rest of --help
	run     func(ctx context.Context, c *call) int

	verbs []*command // of a command that only leads to them; each has the name "COMMAND VERB"
}

// A call is one invocation of a command.
type call struct {
	cmd    *command
	flags  *flag.FlagSet
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// commands in the order in which the overview lists them.
func commands() []*command {
	return []*command{
		serveCommand, demoCommand, initCommand, checkCommand, scanCommand, explainCommand, rulesCommand, learnCommand, quarantineCommand,
		logsCommand, benchCommand, reloadCommand, schemaCommand, manualCommand, versionCommand,
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		overview(stderr)
		return exitUsage
	}
	name := args[0]
	switch name {
	case "-h", "-help", "--help", "help":
		if len(args) > 1 && name == "help" {
			return run(ctx, append(slices.Clone(args[1:]), "--help"), stdin, stdout, stderr)
		}
		overview(stdout)
		return exitFine
	case "-version", "--version":
		name = "version"
	}
	for _, cmd := range commands() {
		if cmd.name == name {
			return cmd.start(ctx, &call{args: args[1:], stdin: stdin, stdout: stdout, stderr: stderr})
		}
	}
	fmt.Fprintf(stderr, "postern: unknown command %q%s\nRun postern help for the list of commands.\n", name, suggestCommand(name))
	return exitUsage
}

// start runs the command, or the verb of it that the first argument names.
func (cmd *command) start(ctx context.Context, c *call) int {
	c.cmd = cmd
	c.flags = flag.NewFlagSet("postern "+cmd.name, flag.ContinueOnError)
	c.flags.SetOutput(io.Discard)
	if len(cmd.verbs) == 0 {
		return cmd.run(ctx, c)
	}
	if len(c.args) == 0 {
		return c.misuse("expected %s", cmd.args)
	}
	var known []string
	for _, v := range cmd.verbs {
		verb := strings.TrimPrefix(v.name, cmd.name+" ")
		if verb == c.args[0] {
			c.args = c.args[1:]
			return v.start(ctx, c)
		}
		known = append(known, verb)
	}
	if strings.HasPrefix(c.args[0], "-") {
		if code, ok := c.parse(); !ok {
			return code
		}
	}
	return c.misuse("%s", strict.Unknown("command", c.args[0], known))
}

func suggestCommand(name string) string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	if near := suggest(name, names); near != "" {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}

func overview(w io.Writer) {
	fmt.Fprint(w, "Postern is a spam-filtering SMTP proxy: it stands in front of a mail server.\n\nUsage: postern COMMAND [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nRun postern COMMAND --help for the flags of a command.\nTry postern demo first: it needs no configuration, no network and no root.\n")
}

// parse reads the flags. When it returns false the command is over and code is its exit code.
func (c *call) parse() (code int, ok bool) {
	err := c.flags.Parse(c.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.usage(c.stdout)
		return exitFine, false
	case err != nil:
		return c.misuse("%s", c.flagProblem(err)), false
	}
	return 0, true
}

// flagProblem words what package flag complains about; to an unknown flag it adds those that are known.
func (c *call) flagProblem(err error) string {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err.Error()
	}
	var known []string
	c.flags.VisitAll(func(f *flag.Flag) { known = append(known, "-"+f.Name) })
	return strict.Unknown("flag", "-"+name, known)
}

// parseFlagsOnly is parse for a command that takes no arguments.
func (c *call) parseFlagsOnly() (code int, ok bool) {
	if code, ok := c.parse(); !ok {
		return code, false
	}
	if c.flags.NArg() > 0 {
		return c.misuse("unexpected argument %q", c.flags.Arg(0)), false
	}
	return 0, true
}

// misuse says what is wrong with the call.
func (c *call) misuse(format string, args ...any) int {
	fmt.Fprintf(c.stderr, "postern %s: %s\nUsage: postern %s\nRun postern %s --help for more.\n",
		c.cmd.name, fmt.Sprintf(format, args...), strings.TrimSpace(c.cmd.name+" "+c.cmd.args), c.cmd.name)
	return exitUsage
}

// fail says what went wrong.
func (c *call) fail(err error) int {
	fmt.Fprintf(c.stderr, "postern %s: %v\n", c.cmd.name, err)
	return exitBad
}

func (c *call) usage(w io.Writer) {
	fmt.Fprintf(w, "Usage: postern %s\n\n%s\n", strings.TrimSpace(c.cmd.name+" "+c.cmd.args), strings.TrimSpace(c.cmd.help))
	var lines []string
	for _, v := range c.cmd.verbs {
		fmt.Fprintf(w, "\n  %-16s %s", v.name, v.summary)
	}
	if len(c.cmd.verbs) > 0 {
		fmt.Fprintf(w, "\n\nRun postern %s --help for the flags of one.\n", c.cmd.verbs[0].name)
	}
	c.flags.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		line := fmt.Sprintf("  -%s %s", f.Name, kind)
		line = fmt.Sprintf("%-22s %s", strings.TrimRight(line, " "), text)
		if f.DefValue != "" && f.DefValue != "false" {
			line += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		lines = append(lines, line)
	})
	if len(lines) == 0 {
		return
	}
	slices.Sort(lines)
	fmt.Fprintf(w, "\nFlags:\n%s\n", strings.Join(lines, "\n"))
}
