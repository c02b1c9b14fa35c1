package proxy

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// A logSink is what the key log.output names.
type logSink struct {
	file    string // a file, reopened after it was rotated
	network string // of a socket: "unixgram" or "udp"
	address string
	encode  encodeEntry // how an entry stands in one datagram
}

// Where the system's own logs listen.
const (
	journalSocket = "/run/systemd/journal/socket"
	syslogSocket  = "/dev/log"
	syslogPort    = "514"
)

// parseLogOutput reads stderr, journald, syslog, syslog://HOST[:PORT], syslog+unix:///PATH or the path of a file. The sink
// of standard error is the zero value.
func parseLogOutput(output string) (logSink, error) {
	switch output {
	case "", "stderr":
		return logSink{}, nil
	case "journald":
		return logSink{network: "unixgram", address: journalSocket, encode: appendJournal}, nil
	case "syslog":
		return logSink{network: "unixgram", address: syslogSocket, encode: appendLocalSyslog}, nil
	}
	if !strings.Contains(output, "://") {
		return logSink{file: output}, nil
	}
	u, err := url.Parse(output)
	switch {
	case err != nil:
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
	case u.Scheme == "syslog" && u.Hostname() != "" && u.Path == "":
		port := u.Port()
		if port == "" {
			port = syslogPort
		}
		return logSink{network: "udp", address: net.JoinHostPort(u.Hostname(), port), encode: networkSyslog(syslogHost())}, nil
	case u.Scheme == "syslog+unix" && u.Host == "" && filepath.IsAbs(u.Path):
		return logSink{network: "unixgram", address: u.Path, encode: appendLocalSyslog}, nil
	}
	return logSink{}, fmt.Errorf("%q is no place for a log, expected stderr, journald, syslog, syslog://HOST:PORT, syslog+unix:///PATH or a file", output)
}

// LogOutput is where lines go: standard error, a file that can be reopened after it was rotated, or the system's log.
type LogOutput struct {
	path string

	mu     sync.Mutex
	w      io.Writer
	f      *os.File
	system *systemLog // instead of w
}

// OpenLog opens what the key log.output names. A file is created with mode 0640.
func OpenLog(output string) (*LogOutput, error) {
	sink, err := parseLogOutput(output)
	if err != nil {
		return nil, err
	}
	switch {
	case sink.network != "":
		system, err := dialLog(sink)
		if err != nil {
			return nil, err
		}
		return &LogOutput{system: system}, nil
	case sink.file == "":
		return &LogOutput{w: os.Stderr}, nil
	}
	o := &LogOutput{path: sink.file}
	if err := o.Reopen(); err != nil {
		return nil, err
	}
	return o, nil
}

// LogTo writes lines to w; Reopen and Close leave it alone.
func LogTo(w io.Writer) *LogOutput { return &LogOutput{w: w} }

// Reopen opens the file anew under its name, or the socket of the system's log. When that fails the old one stays in use.
func (o *LogOutput) Reopen() error {
	if o.system != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.system.redial()
	}
	if o.path == "" {
		return nil
	}
	f, err := os.OpenFile(o.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot open the log %s: %w", o.path, cause(err))
	}
	o.mu.Lock()
	old := o.f
	o.f, o.w = f, f
	o.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// put writes the line of an entry.
func (o *LogOutput) put(e logEntry, line []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.system != nil {
		return o.system.send(e, line)
	}
	_, err := o.w.Write(line)
	return err
}

// Close closes the file or the socket, if it is one.
func (o *LogOutput) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.system != nil:
		return o.system.close()
	case o.f != nil:
		return o.f.Close()
	}
	return nil
}
