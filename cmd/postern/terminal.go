package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
)

// printable makes text that a stranger wrote safe for a terminal: control characters become "·".
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, s)
}

// A progress counts on a terminal's last line, and is silent where it is not a terminal.
type progress struct {
	w     io.Writer
	n     int
	shown time.Time
	last  string
	noun  string // what is counted
}

// progressEvery is how often the line is drawn anew.
const progressEvery = 200 * time.Millisecond

func newProgress(w io.Writer) *progress {
	if !isTerminal(w) {
		w = nil
	}
	return &progress{w: w, shown: time.Now(), noun: "messages"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) step() { p.at(p.n + 1) }

// at tells that n are done.
func (p *progress) at(n int) {
	p.n = n
	if p.w == nil || time.Since(p.shown) < progressEvery {
		return
	}
	p.shown = time.Now()
	p.last = fmt.Sprintf("%d %s", p.n, p.noun)
	fmt.Fprintf(p.w, "\r%s", p.last)
}

func (p *progress) end() {
	if p.w != nil && p.last != "" {
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", len(p.last)))
	}
}
