package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"time"

	"postern/cmd/postern/samples"
)

// A demoClient speaks SMTP as the sender of a sample. It takes the sender's address by XCLIENT.
type demoClient struct {
	conn net.Conn
	text *textproto.Reader
	last string // the last reply, in one line
	code int
}

// demoLimit bounds one sample's session.
const demoLimit = time.Minute

// sendSample sends one sample and gives the reply that ended it: to the final dot, or to the last recipient that was
// refused.
func sendSample(ctx context.Context, addr string, s samples.Sample) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(demoLimit)); err != nil {
		return "", err
	}
	c := &demoClient{conn: conn, text: textproto.NewReader(bufio.NewReader(conn))}
	if err := c.arrive(s); err != nil {
		return "", err
	}
	if s.Dialogue() {
		return c.recite(s.Data)
	}
	return c.send(s)
}

// arrive reads the greeting and becomes the sample's client.
func (c *demoClient) arrive(s samples.Sample) error {
	if err := c.read(); err != nil {
		return err
	}
	address := s.IP.String()
	if s.IP.Is6() {
		address = "IPV6:" + address
	}
	for _, line := range []string{"EHLO demo.localhost", "XCLIENT ADDR=" + address} {
		if err := c.say(line); err != nil {
			return err
		}
		if c.code >= 400 {
			return fmt.Errorf("%s: %s", line, c.last)
		}
	}
	return nil
}

func (c *demoClient) send(s samples.Sample) (string, error) {
	for _, line := range []string{"EHLO " + s.Helo, "MAIL FROM:<" + s.From + "> SIZE=" + fmt.Sprint(len(s.Data))} {
		if err := c.say(line); err != nil {
			return "", err
		}
		if c.code >= 400 {
			return c.quit(c.last)
		}
	}
	accepted := 0
	for _, to := range s.Rcpt {
		if err := c.say("RCPT TO:<" + to + ">"); err != nil {
			return "", err
		}
		if c.code < 400 {
			accepted++
		}
	}
	if accepted == 0 {
		return c.quit(c.last)
	}
	if err := c.say("DATA"); err != nil {
		return "", err
	}
	if c.code != 354 {
		return c.quit(c.last)
	}
	if err := c.write(stuffed(s.Data)); err != nil {
		return "", err
	}
	if err := c.say("."); err != nil {
		return "", err
	}
	return c.quit(c.last)
}

// stuffed doubles the dots that begin lines (RFC 5321 section 4.5.2).
func stuffed(message []byte) []byte {
	message = bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(message, []byte(".")) {
		message = append([]byte("."), message...)
	}
	if !bytes.HasSuffix(message, []byte("\r\n")) {
		message = append(message, "\r\n"...)
	}
	return message
}

// recite says a recorded dialogue line by line, each after the reply to the one before; the message as one.
func (c *demoClient) recite(dialogue []byte) (string, error) {
	inData, final := false, ""
	for line := range strings.SplitSeq(strings.TrimSuffix(string(dialogue), "\r\n"), "\r\n") {
		if inData && line != "." {
			if err := c.write([]byte(line + "\r\n")); err != nil {
				return "", err
			}
			continue
		}
		if err := c.say(line); err != nil {
			return "", err
		}
		if inData {
			final = c.last
		}
		inData = c.code == 354
	}
	return final, nil
}

func (c *demoClient) quit(reply string) (string, error) {
	return reply, c.say("QUIT")
}

func (c *demoClient) say(line string) error {
	if err := c.write([]byte(line + "\r\n")); err != nil {
		return err
	}
	return c.read()
}

func (c *demoClient) write(b []byte) error {
	_, err := c.conn.Write(b)
	return err
}

func (c *demoClient) read() error {
	code, text, err := c.text.ReadResponse(0)
	if err != nil {
		return fmt.Errorf("reading the reply: %w", err)
	}
	c.code = code
	c.last = fmt.Sprintf("%d %s", code, strings.ReplaceAll(text, "\n", " "))
	return nil
}
