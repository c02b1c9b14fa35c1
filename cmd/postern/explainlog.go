package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"postern/filters"
	"postern/filters/message"
	"postern/proxy"
	"postern/rules"
)

// A logEntry is what a line of the log says about a message.
type logEntry struct {
	ID       string       `json:"id"`
	Time     string       `json:"time"`
	Action   string       `json:"action"`
	Would    string       `json:"would,omitempty"`
	By       string       `json:"by"`
	Score    json.Number  `json:"score"`
	Limit    json.Number  `json:"limit"`
	Findings []logFinding `json:"findings"`
	Shadow   []logFinding `json:"shadow"`
	Changes  []shadowJSON `json:"shadow_changes,omitempty"` // what they would have changed, by the configuration of today

	keys map[string]string
}

// A logFinding is a finding as the log names it, beside the rule of that name as it is today.
type logFinding struct {
	Symbol      string      `json:"symbol"`
	Score       json.Number `json:"score"`
	File        string      `json:"file,omitempty"`
	Line        int         `json:"line,omitempty"`
	Description string      `json:"description,omitempty"`
	Changed     string      `json:"changed,omitempty"` // how the rule differs from what the log says
}

// fromLog explains the message of an id.
func (x *explainer) fromLog(ctx context.Context, c *call, id string, env proxy.Envelope) int {
	keys, err := findInLog(ctx, x.flags.log, id, c.stdin)
	if err != nil {
		return c.fail(err)
	}
	entry := newLogEntry(keys)
	x.compare(entry)
	x.weighShadows(entry)
	if !x.flags.json {
		x.printEntry(entry)
	}
	msg, found, err := x.quarantined(id, keys, &env)
	switch {
	case err != nil:
		return c.fail(err)
	case found:
		x.told++
		err = x.message(ctx, "quarantine "+id, msg, env, entry)
	case x.flags.json:
		err = json.NewEncoder(x.out).Encode(struct {
			Log *logEntry `json:"log"`
		}{Log: entry})
	default:
		fmt.Fprintln(x.out, "\nThe message itself is not at hand, so what matched in it can't be told.")
	}
	if err != nil {
		return c.fail(err)
	}
	return exitFine
}

// quarantined reads the message of an id where it is in the quarantine still.
func (x *explainer) quarantined(id string, keys map[string]string, env *proxy.Envelope) (*message.Message, bool, error) {
	q, err := x.rt.Quarantine()
	if err != nil {
		return nil, false, nil // none that can be listed
	}
	if _, err := q.Find(id); err != nil {
		return nil, false, nil
	}
	raw, stored, err := q.Original(id)
	if err != nil {
		return nil, false, err
	}
	if env.From == nil {
		env.From = stored.From
	}
	if len(env.Rcpts) == 0 {
		env.Rcpts = stored.Rcpts
	}
	if ip, err := netip.ParseAddr(keys["ip"]); err == nil && !env.IP.IsValid() {
		env.IP = ip
		if env.Helo == "" {
			env.Helo = keys["helo"]
		}
	}
	msg, err := message.Read(bytes.NewReader(raw), int64(len(raw)))
	return msg, err == nil, err
}

func newLogEntry(keys map[string]string) *logEntry {
	return &logEntry{
		ID: keys["id"], Time: keys["time"], Action: keys["action"], Would: keys["would"], By: keys["by"],
		Score: logNumber(keys["score"]), Limit: logNumber(keys["limit"]),
		Findings: parseFindings(keys["rules"]), Shadow: parseFindings(keys["shadow"]), keys: keys,
	}
}

// logNumber is a number of the log; what is none is 0.
func logNumber(s string) json.Number {
	if _, err := strconv.ParseFloat(s, 64); err != nil || strings.ContainsAny(s, "xXpP_nN") {
		return "0"
	}
	return json.Number(s)
}

// parseFindings reads "symbol:score,symbol:score".
func parseFindings(s string) []logFinding {
	list := []logFinding{}
	for part := range strings.SplitSeq(s, ",") {
		if i := strings.LastIndexByte(part, ':'); i > 0 {
			list = append(list, logFinding{Symbol: part[:i], Score: logNumber(part[i+1:])})
		}
	}
	return list
}

// compare puts the rules of today beside what the log says.
func (x *explainer) compare(entry *logEntry) {
	now := map[string]*rules.Rule{}
	if x.rt.Rules != nil {
		for _, r := range x.rt.Rules.Rules() {
			now[r.ID] = r
		}
	}
	for i := range entry.Findings {
		entry.Findings[i].compare(now, rules.Enforce)
	}
	for i := range entry.Shadow {
		entry.Shadow[i].compare(now, rules.Shadow)
	}
}

// weighShadows finds out what the shadow rules would have changed, by the thresholds and actions of today. Where something
// else than the sum decided, the log does not say enough to tell.
func (x *explainer) weighShadows(entry *logEntry) {
	if len(entry.Shadow) == 0 || entry.By != "score" {
		return
	}
	actions := map[string]filters.Action{}
	if x.rt.Rules != nil {
		for _, r := range x.rt.Rules.Rules() {
			actions[r.ID] = filters.ActionNamed(r.Action)
		}
	}
	var c filters.Case
	add := func(list []logFinding, shadow bool) {
		for _, f := range list {
			points, _ := f.Score.Float64()
			finding := filters.Finding{Symbol: f.Symbol, Score: filters.Points(points), Shadow: shadow}
			if shadow {
				finding.Force = actions[f.Symbol]
			}
			c.Findings = append(c.Findings, finding)
		}
	}
	add(entry.Findings, false)
	add(entry.Shadow, true)
	if from, err := filters.ParsePath(entry.keys["mail_from"]); err == nil {
		c.Mail = &filters.Mail{From: from}
	}
	for to := range strings.SplitSeq(entry.keys["rcpt_to"], ",") {
		if path, err := filters.ParsePath(to); err == nil {
			c.Rcpts = append(c.Rcpts, filters.Rcpt{To: path})
		}
	}
	for _, s := range x.rt.Shadows(c) {
		entry.Changes = append(entry.Changes, newShadowJSON(s))
	}
}

func (f *logFinding) compare(now map[string]*rules.Rule, mode rules.Mode) {
	r := now[f.Symbol]
	if r == nil {
		if f.Symbol == strings.ToUpper(f.Symbol) {
			f.Changed = "there is no rule of this name any more"
		}
		return
	}
	f.File, f.Line, f.Description = r.Pos.File, r.Pos.Line, r.Description
	var changes []string
	if score := rules.FormatScore(r.Score); score != f.Score.String() {
		changes = append(changes, "its score is "+score+" now (or a list entry gave another)")
	}
	if r.Mode != mode {
		changes = append(changes, "its mode is "+r.Mode.String()+" now")
	}
	f.Changed = strings.Join(changes, ", ")
}

func (x *explainer) printEntry(e *logEntry) {
	m := x.marks
	fmt.Fprintf(x.out, "%s%s: %s%s\n", m.strong, printable(e.ID), printable(e.Action), m.off)
	for _, line := range []struct{ what, key string }{
		{what: "time", key: "time"}, {what: "client", key: "ip"}, {what: "helo", key: "helo"}, {what: "from", key: "mail_from"},
		{what: "to", key: "rcpt_to"}, {what: "author", key: "from"}, {what: "message-id", key: "message_id"},
		{what: "errors", key: "errors"}, {what: "undecided", key: "unknown"},
	} {
		if v := e.keys[line.key]; v != "" {
			fmt.Fprintf(x.out, "  %-10s %s\n", line.what, escaped(v))
		}
	}
	fmt.Fprintf(x.out, "  spf=%s dkim=%s dmarc=%s\n\n", orNone(e.keys["spf"]), orNone(e.keys["dkim"]), orNone(e.keys["dmarc"]))
	for _, f := range e.Findings {
		x.printLogFinding(f)
	}
	fmt.Fprintf(x.out, "%8s\n%s%8s  sum%s\n\n", "------", m.strong, e.Score, m.off)
	fmt.Fprintf(x.out, "The log says: %s, by %s, at a limit of %s.\n", printable(e.Action), printable(e.By), e.Limit)
	if e.Would != "" {
		fmt.Fprintf(x.out, "It was only observed; the verdict was %s.\n", printable(e.Would))
	}
	for i, f := range e.Shadow {
		if i == 0 {
			fmt.Fprintln(x.out, "\nRules in shadow mode, which did not count:")
		}
		x.printLogFinding(f)
		if i < len(e.Changes) {
			fmt.Fprintf(x.out, "%10s%s\n", "", e.change(e.Changes[i]))
		}
	}
	if last := len(e.Changes) - 1; last > 0 {
		fmt.Fprintf(x.out, "%8s  all together: %s\n", "", e.change(e.Changes[last]))
	}
}

// change words what a shadow rule would have changed.
func (e *logEntry) change(s shadowJSON) string {
	was := cmp.Or(e.Would, e.Action)
	verdict := s.Action + " in place of " + printable(was)
	if s.Action == was {
		verdict = "still " + s.Action
	}
	return fmt.Sprintf("the sum would be %s: %s, by the thresholds of today", s.Sum, verdict)
}

func (x *explainer) printLogFinding(f logFinding) {
	m := x.marks
	fmt.Fprintf(x.out, "%s%8s  %s%s", m.strong, f.Score, printable(f.Symbol), m.off)
	if f.File != "" {
		fmt.Fprintf(x.out, "  %s%s:%d%s", m.dim, f.File, f.Line, m.off)
	}
	fmt.Fprintln(x.out)
	if f.Description != "" {
		fmt.Fprintf(x.out, "%10s%s\n", "", f.Description)
	}
	if f.Changed != "" {
		fmt.Fprintf(x.out, "%10s%schanged since: %s%s\n", "", m.bad, f.Changed, m.off)
	}
}

// maxLogLine bounds a line of a log; a longer one is passed over.
const maxLogLine = 1 << 20

// findInLog gives the keys of the message line of an id.
func findInLog(ctx context.Context, path, id string, stdin io.Reader) (map[string]string, error) {
	r, closeLog, err := openLog(path, stdin)
	if err != nil {
		return nil, err
	}
	defer closeLog()
	lines := bufio.NewReaderSize(r, 64<<10)
	needle := []byte(id)
	for n := 0; ; n++ {
		line, err := readLine(lines)
		if n%1024 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if bytes.Contains(line, needle) {
			if keys := parseLogLine(line); keys["event"] == "message" && keys["id"] == id {
				return keys, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("no message %q in %s", id, path)
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	}
}

// openLog opens a log, which may be compressed.
func openLog(path string, stdin io.Reader) (io.Reader, func(), error) {
	f, done := stdin, func() {}
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, nil, walkError(path, err)
		}
		f, done = file, func() { file.Close() }
	}
	r := bufio.NewReader(f)
	if magic, err := r.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return r, done, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return z, done, nil
}

// readLine reads a line; of one that is too long it gives nothing.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		piece, err := r.ReadSlice('\n')
		if long = long || len(line)+len(piece) > maxLogLine; !long {
			line = append(line, piece...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if long {
				line = nil
			}
			return bytes.TrimSpace(line), err
		}
	}
}

// parseLogLine reads a line of logfmt or JSON; of anything else it gives no keys.
func parseLogLine(line []byte) map[string]string {
	keys := map[string]string{}
	if len(line) > 0 && line[0] == '{' {
		var object map[string]any
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.UseNumber()
		if dec.Decode(&object) != nil {
			return nil
		}
		for k, v := range object {
			switch v := v.(type) {
			case string:
				keys[k] = v
			case json.Number:
				keys[k] = v.String()
			}
		}
		return keys
	}
	rest := string(line)
	for rest != "" {
		key, value, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		if strings.HasPrefix(value, `"`) {
			text, end, ok := unquoteStart(value)
			if !ok {
				return nil
			}
			rest, value = strings.TrimLeft(value[end:], " "), text
		} else {
			value, rest, _ = strings.Cut(value, " ")
		}
		// A syslog daemon puts its own words before the first key.
		keys[key[strings.LastIndexByte(key, ' ')+1:]] = value
	}
	return keys
}

// unquoteStart reads the quoted string that s begins with, as JSON quotes or, in logs of earlier versions, Go.
func unquoteStart(s string) (text string, end int64, ok bool) {
	dec := json.NewDecoder(strings.NewReader(s))
	if dec.Decode(&text) == nil {
		return text, dec.InputOffset(), true
	}
	prefix, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", 0, false
	}
	text, err = strconv.Unquote(prefix)
	return text, int64(len(prefix)), err == nil
}
