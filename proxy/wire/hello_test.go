package wire

import (
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestHelloWithoutServer: what comes before the first MAIL is answered without a session, and the session that is then made
// knows the greeting that was accepted last.
func TestHelloWithoutServer(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		hellos string // those that the owner was told of
		helo   string // what the session saw at MAIL; "" where there is to be none
	}{
		"no transaction":  {script: "EHLO a.example\n< 250-mx.test\nNOOP\n< 250\nVRFY x\n< 252\nQUIT\n< 221", hellos: "a.example"},
		"EHLO":            {script: "EHLO a.example\n< 250-mx.test\nMAIL FROM:<x@y.example>\n< 250 2.1.0 Sender ok", hellos: "a.example", helo: "a.example"},
		"HELO":            {script: "HELO a.example\n< 250 mx.test\nMAIL FROM:<x@y.example>\n< 250 2.1.0 Sender ok", hellos: "a.example", helo: "a.example"},
		"up to the space": {script: "EHLO a.example b\n< 250-\nMAIL FROM:<x@y.example>\n< 250", hellos: "a.example", helo: "a.example"},
		"twice":           {script: "HELO a.example\n< 250 \nEHLO b.example\n< 250-\nMAIL FROM:<x@y.example>\n< 250", hellos: "a.example b.example", helo: "b.example"},
		"RSET before it":  {script: "RSET\n< 250 2.0.0 Ok\nEHLO a.example\n< 250-\nRSET\n< 250 2.0.0 Session reset\nMAIL FROM:<x@y.example>\n< 250", hellos: "a.example", helo: "a.example"},
		"refused": {script: "EHLO refused.example\n< 550 5.7.1 not you\nMAIL FROM:<x@y.example>\n< 503\nRSET\n< 250",
			hellos: "refused.example"},
		"refused after another": {script: "EHLO a.example\n< 250-\nEHLO refused.example\n< 550\nMAIL FROM:<x@y.example>\n< 503", hellos: "a.example refused.example"},
		"refused, then not":     {script: "EHLO refused.example\n< 550\nEHLO a.example\n< 250-\nMAIL FROM:<x@y.example>\n< 250", hellos: "refused.example a.example", helo: "a.example"},
		"hung up on":            {script: "EHLO hangup.example\n< 421 4.7.0 go away\n<", hellos: "hangup.example"},
		"a session that can't be had": {script: "EHLO failing.example\n< 250-\nMAIL FROM:<x@y.example>\n< 421 4.3.0 Internal error\n<",
			hellos: "failing.example"},
		"a bad MAIL": {script: "EHLO a.example\n< 250-\nMAIL FROM:<x\n< 501\nMAIL FROM:<x@y.example>\n< 250 2.1.0 Sender ok", hellos: "a.example", helo: "a.example"},
		"again with the server": {script: "EHLO a.example\n< 250-\nMAIL FROM:<x@y.example>\n< 250\nEHLO b.example\n< 250-\nMAIL FROM:<x@y.example>\n< 250",
			hellos: "a.example", helo: "a.example b.example"},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var hellos, seen []string
			s := serve(t, Config{Hello: func(c *Conn, name string) *Reply {
				mu.Lock()
				defer mu.Unlock()
				hellos = append(hellos, name)
				switch name {
				case "refused.example":
					return &Reply{Code: 550, Enhanced: "5.7.1", Text: "not you"}
				case "hangup.example":
					return &Reply{Code: 421, Enhanced: "4.7.0", Text: "go away"}
				}
				return nil
			}}, func(s *site) {
				s.onMail = func(c *smtpConn) error {
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, c.helo)
					return nil
				}
			})
			c := s.dial()
			c.want("220")
			for line := range strings.SplitSeq(tc.script, "\n") {
				want, reply := strings.CutPrefix(line, "<")
				switch {
				case !reply:
					c.send(line + "\r\n")
				case want == "":
					c.wantEnd()
				default:
					c.want(strings.TrimPrefix(want, " "))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(hellos, strings.Fields(tc.hellos)) {
				t.Errorf("the owner heard of %q, want %q", hellos, tc.hellos)
			}
			if !slices.Equal(seen, strings.Fields(tc.helo)) {
				t.Errorf("sessions saw %q, want %q", seen, tc.helo)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if made := s.logins > 0; made != (tc.helo != "") {
				t.Errorf("%d sessions", s.logins)
			}
		})
	}
}

// TestPipelinedFromTheStart: commands that were sent all at once are answered in their order across the hand-over.
func TestPipelinedFromTheStart(t *testing.T) {
	s := serve(t, Config{})
	c := s.dial()
	c.want("220")
	c.send("EHLO a.example\r\nNOOP\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\nRSET\r\nQUIT\r\n")
	for _, want := range []string{"250-mx.test", "250 2.0.0 Ok", "250 2.1.0", "250 2.1.5", "354", "250 ", "250 2.0.0", "221"} {
		c.want(want)
	}
	c.wantEnd()
	if got := s.deliveries(); len(got) != 1 || got[0].body != "x\r\n" {
		t.Errorf("got %+v", got)
	}
}
