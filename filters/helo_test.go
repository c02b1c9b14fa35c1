package filters

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"postern/filters/dns"
)

func TestCheckHelo(t *testing.T) {
	zone := &fakeDNS{
		a:    map[string][]string{"mail.example.org": {"192.0.2.7"}, "xn--bcher-kva.example": {"192.0.2.7"}},
		aaaa: map[string][]string{"six.example.org": {"2001:db8::7"}},
		mx:   map[string][]dns.MX{"example.com": {{Pref: 10, Host: "mail.example.org"}}},
		fail: map[string]bool{"slow.example.org": true},
	}
	tests := []struct {
		helo   string
		client string
		want   []string
		reason string
	}{
		{helo: "mail.example.org", reason: "resolves"},
		{helo: "MAIL.Example.org", reason: "in any case"},
		{helo: "bücher.example", reason: "U-labels"},
		{helo: "six.example.org", reason: "IPv6 only"},
		{helo: "example.com", reason: "an MX will do"},
		{helo: "none.example.org", want: []string{"unresolvable"}, reason: "no such name"},
		{helo: "slow.example.org", want: []string{"temperror"}, reason: "DNS failure is not the client's fault"},
		{helo: "localhost", want: []string{"single_label"}, reason: "single label"},
		{helo: "mx.postern.example", want: []string{"own"}, reason: "our name"},
		{helo: "MX.Postern.Example.", want: []string{"own"}, reason: "our name in other case, with a dot"},
		{helo: "mx.postern.example", client: "127.0.0.1", want: []string{"unresolvable"}, reason: "we may call ourselves so"},
		{helo: "192.0.2.7", want: []string{"bare_address"}, reason: "no brackets"},
		{helo: "198.51.100.1", want: []string{"bare_address", "own"}, reason: "our address, no brackets"},
		{helo: "[192.0.2.7]", want: []string{"literal"}, reason: "its own address"},
		{helo: "[192.0.2.8]", want: []string{"literal", "not_client"}, reason: "another address"},
		{helo: "[198.51.100.1]", want: []string{"literal", "own"}, reason: "our address"},
		{helo: "[IPv6:2001:db8::7]", client: "2001:db8::7", want: []string{"literal"}, reason: "IPv6 literal"},
		{helo: "[2001:db8::7]", client: "2001:db8::7", want: []string{"bad"}, reason: "IPv6 literal without its tag"},
		{helo: "[IPv6:192.0.2.7]", want: []string{"bad"}, reason: "IPv4 in an IPv6 literal"},
		{helo: "[192.0.2.7", want: []string{"bad"}, reason: "no closing bracket"},
		{helo: "a b.example", want: []string{"bad"}, reason: "space"},
		{helo: "-a.example", want: []string{"bad"}, reason: "hyphen in front"},
		{helo: "a..example", want: []string{"bad"}, reason: "empty label"},
		{helo: "a\x00.example", want: []string{"bad"}, reason: "NUL"},
		{helo: "host.1234", want: []string{"bad"}, reason: "no top-level domain is a number"},
		{helo: "win_pc.example.org", want: []string{"unresolvable"}, reason: "underscores are let through to DNS"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			client := netip.MustParseAddr("192.0.2.7")
			if tt.client != "" {
				client = netip.MustParseAddr(tt.client)
			}
			res, err := CheckHelo(context.Background(), zone, tt.helo, client, "mx.postern.example", netip.MustParseAddr("198.51.100.1"))
			if !slices.Equal(res.Problems, tt.want) {
				t.Errorf("%q: %v, want %v", tt.helo, res.Problems, tt.want)
			}
			if (err != nil) != slices.Contains(tt.want, "temperror") {
				t.Errorf("%q: error %v", tt.helo, err)
			}
		})
	}
}

// A client that spoke before the banner is told of, whatever its name is like.
func TestHeloEarlyTalk(t *testing.T) {
	check := newHelo(HeloConfig{Scores: defaultHeloConfig().Scores}, nil)
	in := Input{Client: &Client{IP: netip.MustParseAddr("192.0.2.7")}, Helo: &Helo{Name: "mail.example.org"}}
	if got := check.Run(t.Context(), in).Findings; len(got) != 1 || got[0].Symbol != "helo.ok" {
		t.Errorf("a client that waits: %v", got)
	}
	in.Client.EarlyTalk = true
	if got := check.Run(t.Context(), in).Findings; len(got) != 2 || got[0].Symbol != "helo.early_talk" || got[0].Score != 200 {
		t.Errorf("a client that does not: %v", got)
	}
}
