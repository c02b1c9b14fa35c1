package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/proxy/peertest"
)

// manualOf gives one form of the manual, as a file.
func manualOf(t *testing.T, form string) (path, text string) {
	t.Helper()
	code, text, errs := runHere(t, "", "manual", form)
	if code != exitFine {
		t.Fatalf("%s: exit %d: %s", form, code, errs)
	}
	path = filepath.Join(t.TempDir(), form)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, text
}

// Every command and verb stands in the manual page, which mandoc can show.
func TestManualPage(t *testing.T) {
	path, _ := manualOf(t, "man")
	peertest.Need(t, "mandoc")
	shown := runIn(t, t.TempDir(), "mandoc", "-T", "ascii", "-O", "width=200", path)
	shown = regexp.MustCompile(".\b").ReplaceAllString(shown, "")
	for _, cmd := range commandsAndVerbs() {
		for line := range strings.Lines(helpOf(t, cmd.name)) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(shown, line) {
				t.Fatalf("%s: %q is not in\n%s", cmd.name, line, shown)
			}
		}
	}
}

// bash completes commands, verbs and flags.
func TestBashCompletion(t *testing.T) {
	peertest.Need(t, "bash")
	path, _ := manualOf(t, "bash")
	for _, tt := range []struct{ typed, want string }{
		{typed: "ini", want: "init"},
		{typed: "rules ba", want: "backtest"},
		{typed: "serve -con", want: "-config"},
		{typed: "logs report -ht", want: "-html"},
		{typed: "manual zs", want: "zsh"},
		{typed: "quarantine rel", want: "release"},
		{typed: "check -config site", want: "site one.yaml"}, // a file, after a flag that takes one
	} {
		words := append([]string{"postern"}, strings.Fields(tt.typed)...)
		script := `. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _postern; printf '%s\n' "${COMPREPLY[@]}"`
		out := runIn(t, folder(t, map[string]string{"site one.yaml": ""}), "bash", append([]string{"-c", script, path}, words...)...)
		if strings.TrimSpace(out) != tt.want {
			t.Errorf("%s is completed to %q, expected %s", tt.typed, out, tt.want)
		}
	}
}

// zsh completes from its first Tab on, where it loads the file by itself; fish offers what it should.
func TestOtherCompletions(t *testing.T) {
	peertest.Need(t, "zsh", "fish")
	path, text := manualOf(t, "zsh")
	runIn(t, t.TempDir(), "zsh", "-n", path)
	functions := folder(t, map[string]string{"_postern": text})
	// A terminal of its own, in which a line is typed: the completed line shows up when it is run as a comment.
	script := `zmodload zsh/zpty
zpty shell "PS1= PS2= TERM=dumb zsh -f -i"
zpty -w shell 'fpath=($1 $fpath); autoload -Uz compinit; compinit -D; postern() { print -r -- "ran: $*" ; }; unsetopt beep list_beep prompt_cr prompt_sp; print REA''DY'
zpty -r -m shell seen '*READY*'
zpty -w -n shell $2$'\t\n'
zpty -r -m shell seen $'*ran: *\n*'
print -r -- $seen
zpty -d shell`
	script = strings.Replace(script, "($1 ", "("+functions+" ", 1)
	for typed, want := range map[string]string{"postern ini": "ran: init", "postern rules ba": "ran: rules backtest", "postern manual zs": "ran: manual zsh"} {
		if out := runIn(t, t.TempDir(), "zsh", "-f", "-c", script, "zsh", functions, typed); !strings.Contains(out, want) {
			t.Errorf("zsh completes %q to %q, expected %s", typed, out, want)
		}
	}
	path, _ = manualOf(t, "fish")
	runIn(t, t.TempDir(), "fish", "-n", path)
	home := t.TempDir()
	out := runWith(t, home, []string{"HOME=" + home}, "fish", "--no-config", "-c", "source "+path+"; complete -C 'postern sche'; complete -C 'postern init -off'")
	for _, want := range []string{"schema", "-offline"} {
		if !strings.Contains(out, want) {
			t.Errorf("fish does not offer %s: %s", want, out)
		}
	}
}

// Each complaint of the page names tests that exist.
func TestComplaintsPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "complaints.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| .* \| .* \| (.*) \|$`).FindAllStringSubmatch(string(page), -1)
	if len(rows) != 17 { // fifteen, the heading and the line below it
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows[2:] {
		named := regexp.MustCompile("`([a-z/]+)\\.(Test\\w+)`").FindAllStringSubmatch(row[1], -1)
		if len(named) == 0 {
			t.Errorf("no test in %s", row[0])
		}
		for _, n := range named {
			files, err := filepath.Glob(filepath.Join("..", "..", n[1], "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range files {
				src, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				found = found || strings.Contains(string(src), "func "+n[2]+"(")
			}
			if !found {
				t.Errorf("there is no %s in %s", n[2], n[1])
			}
		}
	}
}
