package logs

import (
	"fmt"
	"strings"
	"testing"
)

const traced = `time=2026-11-23T18:00:01Z level=info event=message v=1 action=defer ip=203.0.113.9 id=AAAA.1 code=451 ecode=4.3.0 by=upstream score=1 limit=12 rules=a:1 spf=pass dkim=none dmarc=fail dmarc_policy=reject tls=TLS1.3 rdns=fail size=300 upstream=smtp://u:25 upstream_reply="" ms_total=20 errors="delivery: connection lost" helo="h.example" mail_from="joe@one.example" rcpt_to="ann@here.example,bob@here.example" from="Joe <joe@ONE.example>" message_id="<m1@one.example>"
time=2026-11-23T18:00:02Z level=info event=session v=1 ip=203.0.113.9 id=AAAA reason=quit commands=6 errors=0 ms_total=30 helo="h.example"
time=2026-11-23T18:05:00Z level=info event=message v=1 action=reject ip=198.51.100.7 id=BBBB.1 code=550 ecode=5.7.1 by=score score=13 limit=12 rules=b:13 spf=fail dkim=none dmarc=none tls=none rdns=pass size=99 upstream= upstream_reply="" ms_total=2 errors= helo="x" mail_from="eve@two.example" rcpt_to="bob@here.example" from="eve@two.example" message_id="<m2@two.example>"
time=2026-11-23T18:05:01Z level=info event=session v=1 ip=198.51.100.7 id=BBBB reason="client closed" commands=4 errors=1 ms_total=9 helo="x"
time=2026-11-23T18:20:00Z level=info event=message v=1 action=accept ip=203.0.113.9 id=CCCC.1 code=250 ecode=2.0.0 by=score score=1 limit=12 rules=a:1 redelivery=in_doubt spf=pass dkim=none dmarc=pass tls=none rdns=pass size=300 upstream=smtp://u:25 upstream_reply="250 2.0.0 Ok: queued as Q77" ms_total=20 errors= helo="h.example" mail_from="joe@one.example" rcpt_to="ann@here.example" from="Joe <joe@one.example>" message_id="<m1@one.example>"
time=2026-11-23T18:21:00Z level=info event=session v=1 ip=203.0.113.9 id=DDDD reason="too many errors" commands=20 errors=11 ms_total=90 helo="h.example"
`

func trace(t *testing.T, what string, twice bool) *Story {
	t.Helper()
	tr := NewTracer(what)
	for i := 0; i == 0 || i == 1 && twice && tr.Again(); i++ {
		if n, err := Read(t.Context(), strings.NewReader(traced), Span{}, tr.Add); err != nil || n > 0 {
			t.Fatal(n, err)
		}
	}
	return tr.Story()
}

func ids(s *Story) string {
	var words []string
	for _, m := range s.Messages {
		words = append(words, fmt.Sprintf("%s#%d", m.ID, m.Attempt))
	}
	for _, c := range s.Sessions {
		words = append(words, c.ID)
	}
	return strings.Join(words, " ")
}

// TestTrace finds what is asked for by each of its names, and puts the attempts at one message together.
func TestTrace(t *testing.T) {
	for _, tt := range []struct {
		what, want string
		twice      bool
	}{
		{what: "AAAA.1", want: "AAAA.1#1 CCCC.1#2"},
		{what: "CCCC.1", want: "CCCC.1#1"}, // the attempt before stands above, and is known only the second time
		{what: "CCCC.1", want: "AAAA.1#1 CCCC.1#2", twice: true},
		{what: "BBBB", want: "BBBB.1#1"},
		{what: "<m1@one.example>", want: "AAAA.1#1 CCCC.1#2"},
		{what: "m2@two.example", want: "BBBB.1#1"},
		{what: "JOE@one.example", want: "AAAA.1#1 CCCC.1#2"},
		{what: "bob@here.example", want: "AAAA.1#1 BBBB.1#1"},
		{what: "203.0.113.9", want: "AAAA.1#1 CCCC.1#2 DDDD"},
		{what: "203.0.113.90", want: ""},
		{what: "here.example", want: ""},
	} {
		if got := ids(trace(t, tt.what, tt.twice)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
}

// TestTraceInWords tells the story from the connection to the queue of the server behind.
func TestTraceInWords(t *testing.T) {
	var b strings.Builder
	if err := trace(t, "203.0.113.9", false).WriteText(&b, func(s string) string { return s }); err != nil {
		t.Fatal(err)
	}
	const want = `2026-11-23 18:00:01  AAAA.1
  203.0.113.9 connected without a confirmed name (fail) and called itself h.example, over TLS1.3
  from <joe@one.example> to ann@here.example,bob@here.example
  written by Joe <joe@ONE.example>, Message-ID <m1@one.example>, 300 octets
  SPF pass, DKIM none, DMARC fail (the domain asks for: reject)
  1 points: a:1
  told to come again later by the server behind (451 4.3.0)
  smtp://u:25 answered: nothing
  failed on the way: delivery: connection lost
  the connection ended after 30 ms: quit
2026-11-23 18:20:00  CCCC.1  came again, attempt 2
  203.0.113.9 connected and called itself h.example
  from <joe@one.example> to ann@here.example
  written by Joe <joe@one.example>, Message-ID <m1@one.example>, 300 octets
  SPF pass, DKIM none, DMARC pass
  1 points: a:1
  accepted as 1 is below all thresholds (250 2.0.0)
  handed on again although it may have arrived before: the answer of an earlier attempt was lost
  smtp://u:25 answered: 250 2.0.0 Ok: queued as Q77

Connections without such a message:
2026-11-23 18:21:00  DDDD
  203.0.113.9 connected and called itself h.example; 20 commands, 11 of them errors
  the connection ended after 90 ms: too many errors
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
