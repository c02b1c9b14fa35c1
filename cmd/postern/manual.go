package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
)

var manualCommand = &command{
	name:    "manual",
	args:    "man|bash|zsh|fish",
	summary: "print the manual page, or the completion for a shell",
	help: `
Prints the manual page in the form of man(7), or the lines by which bash, zsh or fish complete commands and flags. All
are made of what --help says of each command. The Debian package has them in their places.

For example: postern manual man | man -l -
             postern manual bash > /etc/bash_completion.d/postern`,
}

func init() { manualCommand.run = runManual } // it asks all commands, itself too, for their help

func runManual(ctx context.Context, c *call) int {
	if code, ok := c.parse(); !ok {
		return code
	}
	if c.flags.NArg() != 1 {
		return c.misuse("expected man, bash, zsh or fish, got %d arguments", c.flags.NArg())
	}
	printers := map[string]func(io.Writer, []manualEntry){"man": manPage, "bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
	printer, known := printers[c.flags.Arg(0)]
	if !known {
		return c.misuse("unknown form %q, expected man, bash, zsh or fish", c.flags.Arg(0))
	}
	printer(c.stdout, manualEntries(ctx))
	return exitFine
}

// A manualEntry is what is known of a command or a verb.
type manualEntry struct {
	name, summary, help string
	flags               []string // with the hyphen
}

// manualEntries asks every command for its help, so that nothing is said twice.
func manualEntries(ctx context.Context) []manualEntry {
	var all []manualEntry
	for _, cmd := range commands() {
		for _, one := range append([]*command{cmd}, cmd.verbs...) {
			e := manualEntry{name: one.name, summary: one.summary}
			var out bytes.Buffer
			run(ctx, append(strings.Fields(one.name), "--help"), strings.NewReader(""), &out, io.Discard)
			e.help = out.String()
			if _, flags, found := strings.Cut(e.help, "\nFlags:\n"); found {
				for line := range strings.Lines(flags) {
					if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, "-") {
						e.flags = append(e.flags, name)
					}
				}
			}
			all = append(all, e)
		}
	}
	return all
}

// roff escapes a text for man(7): backslashes, and a dot or quote at the beginning of a line.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			b.WriteString(`\&`)
		}
		b.WriteString(line)
	}
	return b.String()
}

func manPage(w io.Writer, all []manualEntry) {
	fmt.Fprint(w, ".TH POSTERN 1\n.SH NAME\npostern \\- a spam-filtering SMTP proxy\n.SH SYNOPSIS\n.B postern\n.I COMMAND\n[flags]\n.SH COMMANDS\n")
	for _, e := range all {
		fmt.Fprintf(w, ".SS postern %s\n%s.\n.PP\n.nf\n%s.fi\n", roff(e.name), roff(e.summary), roff(e.help))
	}
	fmt.Fprint(w, ".SH FILES\n.I /etc/postern/postern.yaml\n.SH EXIT STATUS\n0 fine, 1 the thing asked about is bad or the work failed, 2 the command line can't be understood.\n")
}

// words gives the verbs and flags that may follow a command.
func words(all []manualEntry, name string) []string {
	var list []string
	for _, e := range all {
		if verb, ok := strings.CutPrefix(e.name, name+" "); ok {
			list = append(list, verb)
		}
		if e.name == name {
			list = append(list, e.flags...)
		}
	}
	return list
}

func topLevel(all []manualEntry) []string {
	var list []string
	for _, e := range all {
		if !strings.Contains(e.name, " ") {
			list = append(list, e.name)
		}
	}
	return list
}

// caseLines are the arms of a shell's case: the words typed so far, and what may follow.
func caseLines(w io.Writer, all []manualEntry) {
	for _, e := range all {
		if list := words(all, e.name); len(list) > 0 {
			fmt.Fprintf(w, "    %q) words=%q ;;\n", e.name, strings.Join(list, " "))
		}
	}
}

func bashCompletion(w io.Writer, all []manualEntry) {
	fmt.Fprintf(w, `# bash completion for postern
_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} words="" command="${COMP_WORDS[1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W %q -- "$cur"))
    return
  fi
  [ "$COMP_CWORD" -gt 2 ] && [[ ${COMP_WORDS[2]} != -* ]] && case "$command" in rules|logs|quarantine) command="$command ${COMP_WORDS[2]}" ;; esac
  case "$command" in
`, strings.Join(topLevel(all), " "))
	caseLines(w, all)
	fmt.Fprint(w, "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -F _postern postern\n")
}

func zshCompletion(w io.Writer, all []manualEntry) {
	fmt.Fprint(w, "#compdef postern\n_postern_complete() {\n  local list=\"\" name=\"$words[2]\"\n  if (( CURRENT == 2 )); then\n")
	fmt.Fprintf(w, "    compadd -- %s\n    return\n  fi\n", strings.Join(topLevel(all), " "))
	fmt.Fprint(w, "  if (( CURRENT > 3 )) && [[ $words[3] != -* ]]; then\n    case $name in rules|logs|quarantine) name=\"$name $words[3]\" ;; esac\n  fi\n  case $name in\n")
	for _, e := range all {
		if list := words(all, e.name); len(list) > 0 {
			fmt.Fprintf(w, "    %q) list=%q ;;\n", e.name, strings.Join(list, " "))
		}
	}
	fmt.Fprint(w, "  esac\n  compadd -- ${=list}\n  _files\n}\n(( $+functions[compdef] )) && compdef _postern_complete postern\n")
}

func fishCompletion(w io.Writer, all []manualEntry) {
	fmt.Fprint(w, "# fish completion for postern\n")
	for _, e := range all {
		name, verb, isVerb := strings.Cut(e.name, " ")
		summary := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(e.summary)
		within := "__fish_seen_subcommand_from " + name
		if isVerb {
			fmt.Fprintf(w, "complete -c postern -n '%s' -a %s -d '%s'\n", within, verb, summary)
			within += "; and __fish_seen_subcommand_from " + verb
		} else {
			fmt.Fprintf(w, "complete -c postern -n __fish_use_subcommand -a %s -d '%s'\n", name, summary)
		}
		for _, f := range e.flags {
			fmt.Fprintf(w, "complete -c postern -n '%s' -o %s\n", within, strings.TrimPrefix(f, "-"))
		}
	}
}
