package filters

import (
	"context"
	"slices"
	"strings"
	"testing"

	"postern/filters/message"
)

// brokenMail lacks a Message-ID, which its header section tells, and has broken base64, which only decoding does.
const brokenMail = "From: a@example.org\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\nSubject: x\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8*gd29ybGQ\r\n"

func TestDefectsOfBodies(t *testing.T) {
	weighed := defaultDefectsConfig()
	weighed.Scores["bad_base64"] = Points(1)
	elsewhere := defaultDefectsConfig()
	elsewhere.Scores["no_date"] = Points(1)
	for _, c := range []struct {
		name  string
		cfg   DefectsConfig
		rules bool
		read  bool // something else decodes the bodies first
		want  []string
	}{
		{name: "nobody asks", cfg: defaultDefectsConfig(), want: []string{"defects.no_message_id"}},
		// Whether another check is quicker must not change the findings.
		{name: "nobody asks, decoded already", cfg: defaultDefectsConfig(), read: true, want: []string{"defects.no_message_id"}},
		{name: "a score for the header only", cfg: elsewhere, want: []string{"defects.no_message_id"}},
		{name: "a score", cfg: weighed, want: []string{"defects.no_message_id", "defects.bad_base64"}},
		{name: "rules", cfg: defaultDefectsConfig(), rules: true, want: []string{"defects.no_message_id", "defects.bad_base64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg, err := message.Read(strings.NewReader(brokenMail), int64(len(brokenMail)))
			if err != nil {
				t.Fatal(err)
			}
			if c.read {
				msg.Text()
			}
			var got []string
			for _, f := range newDefects(c.cfg, c.rules).Run(context.Background(), Input{Message: msg}).Findings {
				got = append(got, f.Symbol)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %v, expected %v", got, c.want)
			}
		})
	}
}
