package upstream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
)

// BenchmarkDeliver is whole transactions against a server in the same process, on one connection.
func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, keywords := range [][]string{nil, {"PIPELINING"}} {
			b.Run(fmt.Sprintf("%dKB/%s", size>>10, strings.Join(keywords, "")), func(b *testing.B) {
				s := &server{keywords: keywords, hooks: map[string]hook{"body": discardBody}}
				s.start(b)
				c := mustOpen(b, newUpstream(b, Config{Address: "smtp://" + s.addr()}), Client{})
				message := bytes.Repeat(someLines, size/len(someLines)+1)[:size/75*75]
				ctx := context.Background()
				b.SetBytes(int64(len(message)))
				b.ReportAllocs()
				for b.Loop() {
					mail, rcpt, err := c.MailRcpt(ctx, Mail{From: bob}, Rcpt{To: alice})
					if err != nil || mail.Code != 250 || rcpt.Code != 250 {
						b.Fatal(mail, rcpt, err)
					}
					result, err := c.Data(ctx, Body{Message: bytes.NewReader(message)})
					if err != nil || result.Reply.Code != 250 {
						b.Fatal(result, err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// discardBody takes a message without keeping it.
func discardBody(p *peer, _ string) bool {
	for {
		line, err := p.r.ReadSlice('\n')
		if err != nil {
			return false
		}
		if len(line) == 3 && line[0] == '.' {
			p.say("250 2.0.0 Ok\r\n")
			return true
		}
	}
}

// BenchmarkOpen is a connection for each message, with and without the pool.
func BenchmarkOpen(b *testing.B) {
	for name, pool := range map[string]Pool{"pool": {}, "fresh": {Size: -1}} {
		b.Run(name, func(b *testing.B) {
			s := &server{hooks: map[string]hook{"body": discardBody}}
			s.start(b)
			u := newUpstream(b, Config{Address: "smtp://" + s.addr(), Pool: pool})
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				c := mustOpen(b, u, Client{})
				if result, err := deliver(ctx, c, text("Hello\r\n"), alice); err != nil || result.Reply.Code != 250 {
					b.Fatal(result, err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkStuffer is the work on each octet of a message.
func BenchmarkStuffer(b *testing.B) {
	for name, message := range map[string][]byte{"text": someLines, "dots": bytes.Repeat([]byte(".\r\n"), 10000)} {
		b.Run(name, func(b *testing.B) {
			w := bufio.NewWriterSize(io.Discard, blockSize)
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				s := stuffer{w: w, bol: true}
				if _, err := s.Write(message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
