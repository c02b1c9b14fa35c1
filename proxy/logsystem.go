package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// The system's log takes an entry a datagram. systemd's journal takes fields, which journalctl can search by
// (systemd.io/JOURNAL_NATIVE_PROTOCOL); a syslog daemon takes a line with a priority in front, on its local socket in
// the traditional form (RFC 3164 section 4.1, without the host name, as the C library writes it) and over the
// network in that of RFC 5424.

// encodeEntry appends the datagram of a record to b. The line comes without its end.
type encodeEntry func(b []byte, e logEntry, line []byte) []byte

// A systemLog hands entries to the system's log. A log that stands still must not hold up mail, and nothing must be
// lost without a word: what can't be handed over is written to standard error.
type systemLog struct {
	sink   logSink
	spare  io.Writer // standard error
	conn   net.Conn
	buf    []byte
	broken time.Time // when it last failed; zero while it works
}

// How long one entry may take, and how long a log that failed is left alone.
const (
	systemLogPatience = time.Second
	systemLogPause    = time.Second
)

func dialLog(sink logSink) (*systemLog, error) {
	l := &systemLog{sink: sink, spare: os.Stderr}
	if err := l.redial(); err != nil {
		return nil, err
	}
	return l, nil
}

// redial opens the socket anew; when that fails the old one stays in use.
func (l *systemLog) redial() error {
	conn, err := net.DialTimeout(l.sink.network, l.sink.address, systemLogPatience)
	if err != nil {
		return fmt.Errorf("cannot open the log at %s: %w", l.sink.address, cause(err))
	}
	if l.conn != nil {
		_ = l.conn.Close() // nothing is kept back in it
	}
	l.conn, l.broken = conn, time.Time{}
	return nil
}

// send hands a line over, or writes it to standard error.
func (l *systemLog) send(e logEntry, line []byte) error {
	l.buf = l.sink.encode(l.buf[:0], e, bytes.TrimSuffix(line, []byte("\n")))
	was := l.broken
	err := l.try()
	if err == nil {
		return nil
	}
	if was.IsZero() {
		fmt.Fprintf(l.spare, "postern: the log at %s takes nothing (%v); what it does not take is written here\n", l.sink.address, err)
	}
	if _, spareErr := l.spare.Write(line); spareErr != nil {
		return fmt.Errorf("cannot log: %w", spareErr)
	}
	return nil
}

// try sends the datagram; the daemon may have been restarted, which takes a new socket.
func (l *systemLog) try() error {
	if !l.broken.IsZero() {
		if time.Since(l.broken) < systemLogPause {
			return errLogRests
		}
		if err := l.redial(); err != nil {
			l.broken = time.Now()
			return err
		}
	}
	err := l.write()
	if err != nil && l.redial() == nil {
		err = l.write()
	}
	if err != nil {
		l.broken = time.Now()
		return fmt.Errorf("cannot write: %w", cause(err))
	}
	return nil
}

var errLogRests = fmt.Errorf("it failed less than %s ago", systemLogPause)

func (l *systemLog) write() error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(systemLogPatience)); err != nil {
		return err
	}
	_, err := l.conn.Write(l.buf)
	return err
}

func (l *systemLog) close() error { return l.conn.Close() }

// Severities and the facility "mail" of syslog (RFC 5424 section 6.2.1).
const (
	syslogError   = 3
	syslogWarning = 4
	syslogInfo    = 6
	syslogDebug   = 7
	syslogMail    = 2
)

func severity(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return syslogError
	case l >= slog.LevelWarn:
		return syslogWarning
	case l >= slog.LevelInfo:
		return syslogInfo
	}
	return syslogDebug
}

// logTag is our name in the system's log.
const logTag = "postern"

// syslogHost is the machine's name as RFC 5424 has it: printable ASCII, or "-" for none.
func syslogHost() string {
	name, err := os.Hostname()
	if err != nil || name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "-"
	}
	return name
}

func appendPriority(b []byte, l slog.Level) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(syslogMail*8+severity(l)), 10)
	return append(b, '>')
}

// appendLocalSyslog writes "<22>Nov 23 18:50:21 postern[7]: line".
func appendLocalSyslog(b []byte, e logEntry, line []byte) []byte {
	b = appendPriority(b, e.level)
	b = e.at.AppendFormat(b, time.Stamp)
	b = append(b, ' ')
	b = append(b, logTag...)
	b = append(b, '[')
	b = strconv.AppendInt(b, int64(os.Getpid()), 10)
	b = append(b, "]: "...)
	return append(b, line...)
}

// networkSyslog writes "<22>1 2026-11-23T18:50:21.855Z mx postern 7 message - line" (RFC 5424 section 6): the event is the
// MSGID, there is no STRUCTURED-DATA.
func networkSyslog(host string) encodeEntry {
	return func(b []byte, e logEntry, line []byte) []byte {
		b = appendPriority(b, e.level)
		b = append(b, "1 "...)
		b = e.at.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
		b = append(b, ' ')
		b = append(b, host...)
		b = append(b, " "+logTag+" "...)
		b = strconv.AppendInt(b, int64(os.Getpid()), 10)
		b = append(b, ' ')
		b = append(b, e.event...)
		b = append(b, " - "...)
		return append(b, line...)
	}
}

// journalKeys are the keys that become fields of the journal's entry, POSTERN_ID and so on. None is a stranger's.
var journalKeys = map[string]string{"id": "POSTERN_ID", "ip": "POSTERN_IP", "action": "POSTERN_ACTION", "would": "POSTERN_WOULD", "by": "POSTERN_BY"}

// appendJournal writes an entry of the journal: the line is the MESSAGE.
func appendJournal(b []byte, e logEntry, line []byte) []byte {
	b = appendJournalField(b, "PRIORITY", strconv.Itoa(severity(e.level)))
	b = appendJournalField(b, "SYSLOG_FACILITY", strconv.Itoa(syslogMail))
	b = appendJournalField(b, "SYSLOG_IDENTIFIER", logTag)
	b = appendJournalField(b, "POSTERN_EVENT", e.event)
	for _, a := range e.keys {
		if name := journalKeys[a.Key]; name != "" {
			b = appendJournalField(b, name, a.Value.String())
		}
	}
	return appendJournalField(b, "MESSAGE", string(line))
}

// appendJournalField writes NAME=value, or, where the value has a line's end in it, the name, the length and the value.
func appendJournalField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	b = append(b, value...)
	return append(b, '\n')
}
