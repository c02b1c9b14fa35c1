package filters

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// scriptedClamd answers each connection with what answer gives for the octets of its stream; "" closes without a word.
func scriptedClamd(t *testing.T, answer func(stream []byte) string) ClamdAddress {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clamd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serveClamd(conn, answer)
			conn.Close()
		}
	}()
	return ClamdAddress("unix:" + path)
}

func serveClamd(conn net.Conn, answer func([]byte) string) {
	command := make([]byte, len("zINSTREAM\x00"))
	if _, err := io.ReadFull(conn, command[:6]); err != nil {
		return
	}
	if string(command[:6]) == "zPING\x00" {
		io.WriteString(conn, answer(nil))
		return
	}
	if _, err := io.ReadFull(conn, command[6:]); err != nil || string(command) != "zINSTREAM\x00" {
		return
	}
	var stream []byte
	for {
		var length [4]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 {
			break
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(conn, chunk); err != nil {
			return
		}
		stream = append(stream, chunk...)
	}
	io.WriteString(conn, answer(stream))
}

// TestClamdStream sends what is to be scanned octet for octet, whatever its length is beside that of a chunk.
func TestClamdStream(t *testing.T) {
	for _, n := range []int{0, 1, clamdChunk - 5, clamdChunk - 4, clamdChunk - 3, clamdChunk - 1, clamdChunk, clamdChunk + 1, 3 * clamdChunk, 100_003} {
		want := bytes.Repeat([]byte{0, 1, 2, '\n', 0xff, 'x', 'y'}, n/7+1)[:n]
		var got []byte
		address := scriptedClamd(t, func(stream []byte) string { got = stream; return "stream: OK\x00" })
		res, err := address.clamd().Scan(context.Background(), iotest.HalfReader(bytes.NewReader(want)))
		if err != nil || res != (clamdResult{}) {
			t.Errorf("%d octets: %+v, %v", n, res, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d octets: %d came", n, len(got))
		}
	}
}

// TestClamdAnswers reads what the daemon says, and takes nothing for a clean bill that isn't one.
func TestClamdAnswers(t *testing.T) {
	for _, tt := range []struct {
		answer string
		want   clamdResult
		wrong  string
	}{
		{answer: "stream: OK\x00"},
		{answer: "stream: Win.Test.EICAR_HDB-1 FOUND\x00", want: clamdResult{Signature: "Win.Test.EICAR_HDB-1"}},
		{answer: "INSTREAM size limit exceeded. ERROR\x00", want: clamdResult{TooLarge: true}},
		{answer: "stream: Can't allocate memory ERROR\x00", wrong: "Can't allocate memory"},
		{answer: "stream:  FOUND\x00", wrong: "clamd answers"},
		{answer: "", wrong: "it ends after 0 octets"},
		{answer: "stream: O", wrong: "it ends after 9 octets"},
		{answer: "stream: OK", wrong: "it ends after 10 octets"},
		{answer: strings.Repeat("x", 5000) + "\x00", wrong: "it ends after 1024 octets"},
		{answer: "220 mail.example ESMTP\r\n\x00", wrong: "clamd answers"},
		{answer: "\x00", wrong: "clamd answers"},
	} {
		address := scriptedClamd(t, func([]byte) string { return tt.answer })
		got, err := address.clamd().Scan(context.Background(), strings.NewReader("x"))
		if got != tt.want || (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%.40q: %+v, %v; want %+v, %q", tt.answer, got, err, tt.want, tt.wrong)
		}
	}
}

// TestClamdFails: a daemon that is not there, that stalls, or a source that breaks is an error in time.
func TestClamdFails(t *testing.T) {
	gone := ClamdAddress("unix:" + filepath.Join(t.TempDir(), "none"))
	if _, err := gone.clamd().Scan(context.Background(), strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "connecting to clamd") {
		t.Errorf("none there: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nobody accepts: all that is sent goes into buffers, and no answer comes
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := ClamdAddress(l.Addr().String()).clamd().Scan(ctx, io.LimitReader(zeroes{}, 64<<20)); err == nil || ctx.Err() == nil {
		t.Errorf("one that stalls: %v", err)
	}
	address := scriptedClamd(t, func([]byte) string { return "stream: OK\x00" })
	broken := errors.New("the disk is gone")
	if _, err := address.clamd().Scan(context.Background(), iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a source that breaks: %v", err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestClamAV makes findings of what the daemon says: malware is decided before what would accept the message, signatures with
// points only weigh.
func TestClamAV(t *testing.T) {
	cfg := defaultClamAVConfig()
	cfg.Signatures = MalwareSignature{"Heuristics.*": 4, "Heuristics.Phishing.*": 2.5, "PUA.Exact": 1}
	for _, tt := range []struct{ answer, symbol, detail, reply, wrong string }{
		{answer: "stream: OK\x00", symbol: "clamav.clean"},
		{answer: "stream: Eicar-Test FOUND\x00", symbol: "clamav.malware", detail: "Eicar-Test", reply: "the message carries malware (Eicar-Test)"},
		{answer: "stream: Bad\r\nname FOUND\x00", symbol: "clamav.malware", detail: "Bad??name", reply: "the message carries malware (Bad??name)"},
		{answer: "stream: Heuristics.Encrypted.Zip FOUND\x00", symbol: "clamav.suspicion", detail: "Heuristics.Encrypted.Zip"},
		{answer: "stream: PUA.ExactNot FOUND\x00", symbol: "clamav.malware", detail: "PUA.ExactNot", reply: "the message carries malware (PUA.ExactNot)"},
		{answer: "INSTREAM size limit exceeded. ERROR\x00", symbol: "clamav.too_large", detail: "150 octets: more than clamd takes (StreamMaxLength)"},
		{answer: "x\x00", wrong: "clamd answers"},
	} {
		cfg.Address = scriptedClamd(t, func([]byte) string { return tt.answer })
		report := newClamAV(cfg, slog.New(slog.DiscardHandler)).Run(context.Background(), Input{Message: parseMessage(t, plainMessage)})
		if tt.wrong != "" {
			if report.Err == nil || !strings.Contains(report.Err.Error(), tt.wrong) {
				t.Errorf("%q: %v, want %q", tt.answer, report.Err, tt.wrong)
			}
			continue
		}
		if report.Err != nil || len(report.Findings) != 1 {
			t.Errorf("%q: %+v", tt.answer, report)
			continue
		}
		f := report.Findings[0]
		if f.Symbol != tt.symbol || f.Detail != tt.detail || f.Reply != tt.reply || f.Malware != (tt.reply != "") {
			t.Errorf("%q: %+v", tt.answer, f)
		}
		if f.Malware && f.Force != Reject {
			t.Errorf("%q asks for %v", tt.answer, f.Force)
		}
	}
	if p, ok := cfg.Signatures.points("Heuristics.Phishing.Email"); p != 250 || !ok {
		t.Errorf("the longest name counts: %v, want 2.5", p)
	}
	cfg.MaxSize = 10
	cfg.Address = "unix:/nowhere"
	report := newClamAV(cfg, slog.New(slog.DiscardHandler)).Run(context.Background(), Input{Message: parseMessage(t, plainMessage)})
	if len(report.Findings) != 1 || report.Findings[0].Symbol != "clamav.too_large" {
		t.Errorf("above max_size: %+v", report)
	}
}

// TestClamAVPing tells once of a daemon that is not there, and again when it was there meanwhile.
func TestClamAVPing(t *testing.T) {
	answer := "PONG\x00"
	cfg := defaultClamAVConfig()
	cfg.Address = scriptedClamd(t, func([]byte) string { return answer })
	var log strings.Builder
	c := newClamAV(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	test := func(want int, when string) {
		t.Helper()
		c.SelfTest(context.Background(), time.Now())
		if n := strings.Count(log.String(), "clamd_failed"); n != want {
			t.Errorf("%s: told %d times, want %d: %s", when, n, want, log.String())
		}
	}
	test(0, "it is there")
	answer = "UNKNOWN COMMAND\x00"
	test(1, "it fails")
	test(1, "it fails still")
	answer = "PONG\x00"
	test(1, "it is back")
	answer = ""
	test(2, "it is gone again")
}
