package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a reply. RFC 5321 section 4.5.3.1.5 allows 512 octets a line; the number of lines has no limit there.
const (
	maxReplyLine  = 2048
	maxReplyLines = 100
)

// A Reply is what the next hop answered.
type Reply struct {
	Code     int      // 200 … 599; 0 for no reply
	Enhanced string   // enhanced status code (RFC 3463), "5.1.1"; "" for none
	Lines    []string // the text, without codes; valid UTF-8 without controls
	Own      bool     // Postern's own answer: the next hop was not asked, as it could not have obeyed
}

// Positive reports whether the code is 2xx or 3xx.
func (r Reply) Positive() bool { return r.Code >= 200 && r.Code < 400 }

// Temporary reports whether the code is 4xx.
func (r Reply) Temporary() bool { return r.Code >= 400 && r.Code < 500 }

// Permanent reports whether the code is 5xx.
func (r Reply) Permanent() bool { return r.Code >= 500 }

// Text is the text in one line.
func (r Reply) Text() string { return strings.Join(r.Lines, " ") }

// String is the whole reply in one line: "550 5.1.1 User unknown".
func (r Reply) String() string {
	s := strconv.Itoa(r.Code)
	if r.Enhanced != "" {
		s += " " + r.Enhanced
	}
	if t := r.Text(); t != "" {
		s += " " + t
	}
	return s
}

func ownReply(code int, enhanced, text string) Reply {
	return Reply{Code: code, Enhanced: enhanced, Lines: []string{text}, Own: true}
}

// readReply reads one reply, of one or more lines (RFC 5321 section 4.2). It is strict, since a misread reply can
// make a refused message an accepted one: lines end in CRLF and have no other CR or LF, and all have the same code.
func readReply(r *bufio.Reader) (Reply, error) {
	var reply Reply
	for n := 1; ; n++ {
		if n > maxReplyLines {
			return Reply{}, fmt.Errorf("%w: reply of more than %d lines", ErrProtocol, maxReplyLines)
		}
		line, err := readReplyLine(r)
		if err != nil {
			if n > 1 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Reply{}, err
		}
		code, last, text, ok := splitReplyLine(line)
		if !ok {
			return Reply{}, fmt.Errorf("%w: not a reply: %q", ErrProtocol, shorten(line))
		}
		if n > 1 && code != reply.Code {
			return Reply{}, fmt.Errorf("%w: reply begins with %d and goes on with %d", ErrProtocol, reply.Code, code)
		}
		reply.Code = code
		enhanced, text := cutEnhanced(code, text)
		if reply.Enhanced == "" {
			reply.Enhanced = enhanced
		}
		if text != "" || !last {
			reply.Lines = append(reply.Lines, text)
		}
		if last {
			return reply, nil
		}
	}
}

// readReplyLine reads a line up to CRLF, and gives it without. An end of file before the first octet is io.EOF.
func readReplyLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxReplyLine {
			return "", fmt.Errorf("%w: reply line longer than %d octets", ErrProtocol, maxReplyLine)
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if err == io.EOF && len(line) > 0 {
			return "", io.ErrUnexpectedEOF
		}
		if err != bufio.ErrBufferFull {
			return "", err
		}
	}
	s, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok || strings.ContainsAny(s, "\r\x00") {
		return "", fmt.Errorf("%w: bare CR, LF or NUL in a reply: %q", ErrProtocol, shorten(s))
	}
	return s, nil
}

// splitReplyLine takes a line apart: three digits, then "-" where another line follows, a space, or nothing.
func splitReplyLine(s string) (code int, last bool, text string, ok bool) {
	if len(s) < 3 || s[0] < '2' || s[0] > '5' || s[1] < '0' || s[1] > '9' || s[2] < '0' || s[2] > '9' {
		return 0, false, "", false
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	if len(s) == 3 {
		return code, true, "", true
	}
	if s[3] != ' ' && s[3] != '-' {
		return 0, false, "", false
	}
	return code, s[3] == ' ', printable(s[4:]), true
}

// cutEnhanced splits an enhanced status code (RFC 2034) off the text. One of another class than the code is text.
func cutEnhanced(code int, text string) (enhanced, rest string) {
	first, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(first, ".")
	if len(parts) != 3 || parts[0] != strconv.Itoa(code/100) || parts[0] == "3" {
		return "", text
	}
	for _, p := range parts[1:] {
		if len(p) == 0 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", text
		}
	}
	return first, rest
}

// printable makes what a next hop wrote fit to be shown, logged and passed on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

// shorten cuts what goes into an error to a length that can be read.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
