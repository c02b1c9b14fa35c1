package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
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
	valued              []string // those of them that a value follows
	words               []string // that the usage offers for the first argument, such as man|bash|zsh|fish
}

var (
	plainWords = regexp.MustCompile(`^[a-z]+(\|[a-z]+)+`)
	flagLine   = regexp.MustCompile(`^  (-\S+)( [A-Za-z]\S*)?(?:  |$)`)
)

// manualEntries asks every command for its help, so that nothing is said twice.
func manualEntries(ctx context.Context) []manualEntry {
	var all []manualEntry
	for _, cmd := range commands() {
		for _, one := range append([]*command{cmd}, cmd.verbs...) {
			e := manualEntry{name: one.name, summary: one.summary}
			if m := plainWords.FindStringSubmatch(one.args); m != nil {
				e.words = strings.Split(m[0], "|")
			} else if len(one.verbs) == 0 && strings.Contains(one.args, " | ") && one.args[0] >= 'a' && one.args[0] <= 'z' {
				for _, way := range strings.Split(one.args, " | ") {
					e.words = append(e.words, strings.Fields(way)[0])
				}
			}
			var out bytes.Buffer
			run(ctx, append(strings.Fields(one.name), "--help"), strings.NewReader(""), &out, io.Discard)
			e.help = out.String()
			if _, flags, found := strings.Cut(e.help, "\nFlags:\n"); found {
				for line := range strings.Lines(flags) {
					if m := flagLine.FindStringSubmatch(line); m != nil {
						e.flags = append(e.flags, m[1])
						if m[2] != "" {
							e.valued = append(e.valued, m[1])
						}
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
	fmt.Fprint(w, ".TH POSTERN 1 \"\" Postern\n.SH NAME\npostern \\- a spam-filtering SMTP proxy\n.SH SYNOPSIS\n.B postern\n.I COMMAND\n[flags]\n.SH COMMANDS\n")
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
			list = append(list, e.words...)
			list = append(list, e.flags...)
		}
	}
	return list
}

// withVerbs are the commands that have verbs, as a pattern of the shells.
func withVerbs(all []manualEntry) string {
	var list []string
	for _, e := range all {
		if name, _, isVerb := strings.Cut(e.name, " "); isVerb && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, "|")
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

// caseLines are the arms of a shell's case: the words typed so far, what may follow, and which flags a value follows.
func caseLines(w io.Writer, all []manualEntry) {
	for _, e := range all {
		if list := words(all, e.name); len(list) > 0 {
			fmt.Fprintf(w, "    %q) list=%q valued=%q ;;\n", e.name, strings.Join(list, " "), " "+strings.Join(e.valued, " ")+" ")
		}
	}
}

func bashCompletion(w io.Writer, all []manualEntry) {
	fmt.Fprintf(w, `# bash completion for postern
_postern() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} list="" valued="" command="${COMP_WORDS[1]}"
  COMPREPLY=()
  compopt -o filenames 2>/dev/null
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W %q -- "$cur"))
    return
  fi
  [ "$COMP_CWORD" -gt 2 ] && [[ ${COMP_WORDS[2]} != -* ]] && case "$command" in %s) command="$command ${COMP_WORDS[2]}" ;; esac
  case "$command" in
`, strings.Join(topLevel(all), " "), withVerbs(all))
	caseLines(w, all)
	fmt.Fprint(w, `  esac
  [[ $valued == *" $prev "* ]] || COMPREPLY=($(compgen -W "$list" -- "$cur"))
  [ ${#COMPREPLY[@]} -gt 0 ] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
complete -F _postern postern
`)
}

// zshCompletion works where zsh loads it by itself, as the function _postern, and where it is read by source.
func zshCompletion(w io.Writer, all []manualEntry) {
	fmt.Fprintf(w, `#compdef postern
_postern() {
  local list="" valued="" name="$words[2]"
  if (( CURRENT == 2 )); then
    compadd -- %s
    return
  fi
  if (( CURRENT > 3 )) && [[ $words[3] != -* ]]; then
    case $name in %s) name="$name $words[3]" ;; esac
  fi
  case $name in
`, strings.Join(topLevel(all), " "), withVerbs(all))
	caseLines(w, all)
	fmt.Fprint(w, `  esac
  if [[ $valued == *" $words[CURRENT-1] "* ]]; then
    _files
    return
  fi
  compadd -- ${=list}
  [[ $PREFIX == -* ]] || _files
}
if [ "$funcstack[1]" = _postern ]; then
  _postern "$@"
else
  compdef _postern postern
fi
`)
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
		for _, word := range e.words {
			fmt.Fprintf(w, "complete -c postern -n '%s' -a %s\n", within, word)
		}
		for _, f := range e.flags {
			value := ""
			if slices.Contains(e.valued, f) {
				value = " -r" // a file or another word follows
			}
			fmt.Fprintf(w, "complete -c postern -n '%s' -o %s%s\n", within, strings.TrimPrefix(f, "-"), value)
		}
	}
}
