//go:build unix

package wire

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// sink is a session that throws mail away.
type sink struct{}

func (sink) NewSession(*smtp.Conn) (smtp.Session, error) { return sink{}, nil }
func (sink) Reset()                                      {}
func (sink) Logout() error                               { return nil }
func (sink) Mail(string, *smtp.MailOptions) error        { return nil }
func (sink) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (sink) Data(r io.Reader) error                      { _, err := io.Copy(io.Discard, r); return err }

// benchServer serves with the wire, or with go-smtp alone to compare with.
func benchServer(b *testing.B, wire bool) string {
	b.Helper()
	inner := listen(b)
	var l = inner
	if wire {
		wired := NewListener(inner, testConfig(Config{Limits: Limits{PerIP: 1 << 20, Connections: 1 << 20, MessageMax: 1 << 40, DataLine: 1 << 30}}))
		l = wired
	}
	srv := smtp.NewServer(sink{})
	srv.MaxLineLength = 0
	srv.ErrorLog = log.New(io.Discard, "", 0)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	b.Cleanup(func() { _ = srv.Close(); <-done })
	return inner.Addr().String()
}

type benchClient struct {
	net.Conn
	r *bufio.Reader
}

func benchDial(b *testing.B, addr string) *benchClient {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		b.Fatal(err)
	}
	bc := &benchClient{Conn: c, r: bufio.NewReader(c)}
	bc.want(b, "220")
	return bc
}

func (c *benchClient) want(b *testing.B, codes ...string) {
	for _, code := range codes {
		for {
			line, err := c.r.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if line[3] == ' ' {
				if string(line[:3]) != code {
					b.Fatalf("got %q, want %s", line, code)
				}
				break
			}
		}
	}
}

func (c *benchClient) send(b *testing.B, s []byte) {
	if _, err := c.Write(s); err != nil {
		b.Fatal(err)
	}
}

// cpu is the processor time of the process so far; on a machine that does other things it says more than the clock.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkData measures how fast a message's octets pass: one of 10 MB in lines of 76, to a session that throws it away.
func BenchmarkData(b *testing.B) {
	message := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10<<20/78) + ".\r\n")
	for _, wire := range []bool{false, true} {
		b.Run(fmt.Sprintf("wire=%v", wire), func(b *testing.B) {
			c := benchDial(b, benchServer(b, wire))
			defer c.Close()
			c.send(b, []byte("EHLO x\r\n"))
			c.want(b, "250")
			b.SetBytes(int64(len(message)))
			before := cpu(b)
			for b.Loop() {
				c.send(b, []byte("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"))
				c.want(b, "250", "250", "354")
				c.send(b, message)
				c.want(b, "250")
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkTransaction measures one message of 4 KB on a connection of its own, the usual case.
func BenchmarkTransaction(b *testing.B) {
	message := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 4<<10/78) + ".\r\n")
	for _, wire := range []bool{false, true} {
		b.Run(fmt.Sprintf("wire=%v", wire), func(b *testing.B) {
			addr := benchServer(b, wire)
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				c := benchDial(b, addr)
				for _, step := range []struct{ send, want string }{
					{send: "EHLO x\r\n", want: "250"}, {send: "MAIL FROM:<a@b.example>\r\n", want: "250"},
					{send: "RCPT TO:<c@d.example>\r\n", want: "250"}, {send: "DATA\r\n", want: "354"},
				} {
					c.send(b, []byte(step.send))
					c.want(b, step.want)
				}
				c.send(b, message)
				c.want(b, "250")
				c.send(b, []byte("QUIT\r\n"))
				c.want(b, "221")
				_ = c.Close()
			}
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkIdle measures what a connection costs that says nothing, and one that has said EHLO: heap and stacks, of the
// server's end and of the client's bare socket in the same process.
func BenchmarkIdle(b *testing.B) {
	for _, wire := range []bool{false, true} {
		for _, greet := range []bool{false, true} {
			b.Run(fmt.Sprintf("wire=%v/ehlo=%v", wire, greet), func(b *testing.B) {
				addr := benchServer(b, wire)
				const conns = 1000
				used := func() uint64 {
					runtime.GC()
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return m.HeapAlloc + m.StackInuse
				}
				for b.Loop() {
					var held []net.Conn
					before := used()
					for range conns {
						c := benchDial(b, addr)
						if greet {
							c.send(b, []byte("EHLO x\r\n"))
							c.want(b, "250")
						}
						c.r = nil // only the socket is kept
						held = append(held, c.Conn)
					}
					b.ReportMetric(float64(used()-before)/conns, "B/conn")
					for _, c := range held {
						_ = c.Close()
					}
				}
			})
		}
	}
}
