package proxy

import (
	"log/slog"
	"strings"
	"testing"
)

func TestRedaction(t *testing.T) {
	for _, c := range []struct{ key, value, local, address string }{
		{"mail_from", "bob@example.org", "*@example.org", "*"},
		{"mail_from", "", "", ""}, // the null reverse-path says something and names nobody
		{"mail_from", `"a@b, c"@example.org`, "*@example.org", "*"},
		{"mail_from", "no-address", "*", "*"},
		{"rcpt_to", `alice@example.org,"o'brien, pat"@example.net`, "*@example.org,*@example.net", "*,*"},
		{"rcpt_to", "alice@example.org,bo…", "*@example.org,*", "*,*"}, // cut short
		{"rcpt_to", `"bob\`, "*", "*"},
		{"from", `"Boss, Big" <boss@corp.example>, b@corp.example`, "*@corp.example, *@corp.example", "*"},
		{"from", "Boss", "*", "*"},
		{"upstream_reply", "550 5.1.1 <bob@example.org>: no such user", "550 5.1.1 <*@example.org>: no such user", "550 5.1.1 <*>: no such user"},
		{"errors", `dkim: i=@example.org; to "bob b"@[192.0.2.1] and x@y`, "dkim: i=*@example.org; to *@[192.0.2.1] and *@y", "dkim: i=*; to * and *"},
		{"last", "RCPT TO:<bob@example.org> NOTIFY=NEVER", "RCPT TO:<*@example.org> NOTIFY=NEVER", "RCPT TO:<*> NOTIFY=NEVER"},
		{"message_id", "<1@example.org>", "<1@example.org>", "<1@example.org>"},
		{"helo", "mx@example.org", "mx@example.org", "mx@example.org"},
	} {
		for redaction, want := range map[Redaction]string{RedactNothing: c.value, RedactLocal: c.local, RedactAddress: c.address} {
			if got := redaction.value(c.key, slog.AnyValue(Foreign(c.value))); got.Any() != Foreign(want) {
				t.Errorf("%s of %s=%s: %v, want %s", redaction, c.key, c.value, got, want)
			}
		}
	}
}

// Whatever an address looks like, its local part is not in the log.
func FuzzRedaction(f *testing.F) {
	f.Add("a b", "")
	f.Add(`x", "`, "@")
	f.Add(`\`, "…")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "jane.roe"
		for _, key := range []string{"mail_from", "rcpt_to", "from"} {
			if got := RedactLocal.value(key, slog.StringValue(before+secret+"@example.org"+after)).String(); strings.Contains(got, secret) && !strings.Contains(before+after, "@") {
				t.Errorf("%s: %q", key, got)
			}
		}
	})
}
