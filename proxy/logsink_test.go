package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/proxy/peertest"
)

func TestParseLogOutput(t *testing.T) {
	for output, want := range map[string]string{
		"":                           "  ",
		"stderr":                     "  ",
		"journald":                   "unixgram /run/systemd/journal/socket ",
		"syslog":                     "unixgram /dev/log ",
		"syslog+unix:///run/log":     "unixgram /run/log ",
		"syslog://log.example.org":   "udp log.example.org:514 ",
		"syslog://[2001:db8::1]:601": "udp [2001:db8::1]:601 ",
		"/var/log/postern.log":       "  /var/log/postern.log",
		"journald.log":               "  journald.log",
	} {
		if sink, err := parseLogOutput(output); err != nil || sink.network+" "+sink.address+" "+sink.file != want {
			t.Errorf("%q is %+v, %v, expected %q", output, sink, err, want)
		}
	}
	for _, output := range []string{"syslog://", "syslog://host/path", "syslog://user@host", "syslog+unix://run/log", "tcp://host:1", "syslog://host:%zz"} {
		if sink, err := parseLogOutput(output); err == nil {
			t.Errorf("%q is taken for %+v", output, sink)
		}
	}
}

// A logSocket is a local socket of the system's log.
type logSocket struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func listenLog(t *testing.T) *logSocket {
	t.Helper()
	s := &logSocket{t: t, path: filepath.Join(shortTempDir(t), "log")}
	s.listen()
	t.Cleanup(func() { s.conn.Close() })
	return s
}

// shortTempDir is one whose path leaves room for the name of a socket.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (s *logSocket) listen() {
	s.t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.conn = conn
}

func (s *logSocket) close() {
	s.conn.Close()
	os.Remove(s.path)
}

func (s *logSocket) read() string {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, err := s.conn.Read(buf)
	if err != nil {
		s.t.Fatalf("no entry came: %v", err)
	}
	return string(buf[:n])
}

// openSink logs to a sink; what can't be handed over goes to spare.
func openSink(t *testing.T, sink logSink, spare io.Writer) (*slog.Logger, *LogOutput) {
	t.Helper()
	system, err := dialLog(sink)
	if err != nil {
		t.Fatal(err)
	}
	system.spare = spare
	out := &LogOutput{system: system}
	t.Cleanup(func() { out.Close() })
	return slog.New(NewLogHandler(out, "logfmt", slog.LevelDebug)), out
}

// The journal gets the line and, as fields, what one searches by; never a field that a stranger's value makes.
func TestJournalEntries(t *testing.T) {
	socket := listenLog(t)
	log, _ := openSink(t, logSink{network: "unixgram", address: socket.path, encode: appendJournal}, io.Discard)
	log.Warn("message", "v", 1, "action", "reject", "ip", "192.0.2.7", "id", "9FF7F70E.1", "by", "two\nlines", "helo", Foreign("a\nPRIORITY=0"))
	fields := readJournalEntry(t, socket.read())
	line := fields["MESSAGE"]
	if !strings.HasPrefix(line, "time=") || !strings.HasSuffix(line, `helo="a\nPRIORITY=0"`) {
		t.Errorf("MESSAGE is %q", line)
	}
	delete(fields, "MESSAGE")
	want := map[string]string{
		"PRIORITY": "4", "SYSLOG_FACILITY": "2", "SYSLOG_IDENTIFIER": "postern", "POSTERN_EVENT": "message",
		"POSTERN_ACTION": "reject", "POSTERN_IP": "192.0.2.7", "POSTERN_ID": "9FF7F70E.1", "POSTERN_BY": "two\nlines",
	}
	if fmt.Sprint(fields) != fmt.Sprint(want) {
		t.Errorf("the fields are %q, expected %q", fields, want)
	}
}

// readJournalEntry reads the native protocol of the journal.
func readJournalEntry(t *testing.T, entry string) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	for entry != "" {
		end := strings.IndexAny(entry, "=\n")
		if end < 0 {
			t.Fatalf("no end of the name in %q", entry)
		}
		name, value := entry[:end], ""
		if entry[end] == '=' {
			value, entry, _ = strings.Cut(entry[end+1:], "\n")
		} else {
			size := binary.LittleEndian.Uint64([]byte(entry[end+1:]))
			value, entry = entry[end+9:][:size], entry[end+9+int(size)+1:]
		}
		if _, twice := fields[name]; twice {
			t.Errorf("%s comes twice", name)
		}
		fields[name] = value
	}
	return fields
}

func TestLocalSyslogEntries(t *testing.T) {
	socket := listenLog(t)
	log, _ := openSink(t, logSink{network: "unixgram", address: socket.path, encode: appendLocalSyslog}, io.Discard)
	for level, priority := range map[slog.Level]string{slog.LevelDebug: "23", slog.LevelInfo: "22", slog.LevelWarn: "20", slog.LevelError: "19"} {
		log.Log(context.Background(), level, "listening", "address", "127.0.0.1:25")
		want := regexp.MustCompile(`^<` + priority + `>[A-Z][a-z]{2} [ 1-3]\d \d\d:\d\d:\d\d postern\[\d+\]: time=\S+ level=[a-z]+ event=listening address=127\.0\.0\.1:25$`)
		if got := socket.read(); !want.MatchString(got) {
			t.Errorf("%q is not %s", got, want)
		}
	}
}

func TestNetworkSyslogEntries(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sink, err := parseLogOutput("syslog://" + conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	log, _ := openSink(t, sink, io.Discard)
	log.Info("message", "id", "9FF7F70E.1", "helo", Foreign("\n<0>1 forged"))
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^<22>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) \S+ postern \d+ message - time=\S+ level=info event=message id=9FF7F70E\.1 helo="\\n<0>1 forged"$`)
	if !want.Match(buf[:n]) {
		t.Errorf("%q is not %s", buf[:n], want)
	}
}

// While the system's log is gone, lines are on standard error; when it is back, they go there.
func TestSystemLogIsAway(t *testing.T) {
	socket := listenLog(t)
	var spare bytes.Buffer
	log, out := openSink(t, logSink{network: "unixgram", address: socket.path, encode: appendLocalSyslog}, &spare)
	log.Info("one")
	if got := socket.read(); !strings.HasSuffix(got, "event=one") {
		t.Errorf("%q", got)
	}
	socket.close()
	log.Info("two")
	log.Info("three")
	if s := spare.String(); strings.Count(s, "takes nothing") != 1 || !strings.Contains(s, "event=two\n") || !strings.Contains(s, "event=three\n") {
		t.Errorf("on standard error: %q", s)
	}
	socket.listen()
	if err := out.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("four")
	if got := socket.read(); !strings.HasSuffix(got, "event=four") {
		t.Errorf("%q", got)
	}
	if strings.Contains(spare.String(), "four") {
		t.Errorf("on standard error: %q", spare.String())
	}
}

// A daemon that was restarted has a new socket, which is found without a signal, and no line is lost.
func TestSystemLogIsRestarted(t *testing.T) {
	socket := listenLog(t)
	var spare bytes.Buffer
	log, _ := openSink(t, logSink{network: "unixgram", address: socket.path, encode: appendLocalSyslog}, &spare)
	socket.close()
	socket.listen()
	log.Info("five")
	if got := socket.read(); !strings.HasSuffix(got, "event=five") || spare.Len() > 0 {
		t.Errorf("%q, and on standard error %q", got, spare.String())
	}
}

func TestLogSocketMustBeThere(t *testing.T) {
	if _, err := OpenLog("syslog+unix://" + filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a socket that is not there was opened")
	}
}

// hostileLine is what a stranger may send.
const hostileLine = "\n<0>Nov 23 00:00:00 evil: \x00\x1b[31m \xff%s%n \"} ünïcode"

// A real rsyslogd writes the very line that we logged, over its socket and over UDP, with our name, facility and severity.
func TestRsyslog(t *testing.T) {
	server := peertest.StartRsyslog(t)
	for _, c := range []struct{ output, head string }{
		{"syslog+unix://" + server.Socket, "postern/mail/warning/- "},
		{"syslog://" + server.UDP, "postern/mail/warning/probe "},
	} {
		sink, err := parseLogOutput(c.output)
		if err != nil {
			t.Fatal(err)
		}
		log, _ := openSink(t, sink, io.Discard)
		var want bytes.Buffer
		slog.New(NewLogHandler(LogTo(&want), "logfmt", slog.LevelInfo)).Warn("probe", "output", c.output, "helo", Foreign(hostileLine))
		_, want2, _ := strings.Cut(strings.TrimSuffix(want.String(), "\n"), " ")
		// A datagram to a daemon that does not listen on that port yet is lost, so it is sent until one has arrived.
		waitFor(t, c.output, func() bool {
			log.Warn("probe", "output", c.output, "helo", Foreign(hostileLine))
			return slices.ContainsFunc(server.Entries(), func(entry string) bool {
				head, line, _ := strings.Cut(entry, "time=")
				_, line, _ = strings.Cut(line, " ")
				return strings.TrimRight(head, " ") == strings.TrimRight(c.head, " ") && line == want2
			})
		})
	}
	for _, entry := range server.Entries() {
		if !strings.HasPrefix(entry, "postern/mail/warning/") {
			t.Errorf("a stranger has made an entry of its own: %q", entry)
		}
	}
}

// A real systemd-journald finds the entry by its fields.
func TestJournald(t *testing.T) {
	server := peertest.StartJournald(t)
	log, _ := openSink(t, logSink{network: "unixgram", address: server.Socket, encode: appendJournal}, io.Discard)
	log.Info("message", "action", "reject", "id", "9FF7F70E.1", "helo", Foreign(hostileLine))
	var entries []map[string]any
	waitFor(t, "the entry in the journal", func() bool {
		entries = server.Entries("POSTERN_ID", "9FF7F70E.1")
		return len(entries) > 0
	})
	e := entries[0]
	if len(entries) != 1 || e["POSTERN_ACTION"] != "reject" || e["POSTERN_EVENT"] != "message" || e["PRIORITY"] != "6" || e["SYSLOG_IDENTIFIER"] != "postern" {
		t.Errorf("the journal has %v", entries)
	}
	line, _ := e["MESSAGE"].(string)
	pairs, err := readLogfmt(line)
	if err != nil || pairs[len(pairs)-1] != "helo="+strings.ToValidUTF8(hostileLine, "\uFFFD") {
		t.Errorf("the line is %q, %v", line, err)
	}
}
