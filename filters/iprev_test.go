package filters

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
)

func TestCheckIprev(t *testing.T) {
	zone := &fakeDNS{
		a: map[string][]string{
			"mail.example.org":   {"192.0.2.7"},
			"second.example.org": {"192.0.2.9", "192.0.2.8"},
			"v4only.example.org": {"192.0.2.7"},
		},
		aaaa: map[string][]string{"six.example.org": {"2001:db8::7"}},
		ptr: map[string][]string{
			"192.0.2.7":   {"MAIL.example.org."},
			"192.0.2.8":   {"first.example.org.", "second.example.org."},
			"192.0.2.10":  {"mail.example.org."},
			"192.0.2.11":  {"bad name\x01.example.org."},
			"192.0.2.12":  {"slow.example.org."},
			"192.0.2.13":  {"slow.example.org.", "mail.example.org."},
			"2001:db8::7": {"six.example.org."},
			"2001:db8::8": {"v4only.example.org."},
		},
		fail: map[string]bool{"192.0.2.66": true, "slow.example.org": true},
	}
	tests := []struct {
		ip, result, name, reason string
	}{
		{ip: "192.0.2.7", result: "pass", name: "mail.example.org", reason: "confirmed"},
		{ip: "192.0.2.8", result: "pass", name: "second.example.org", reason: "the second name leads back"},
		{ip: "192.0.2.9", result: "permerror", reason: "no name"},
		{ip: "192.0.2.10", result: "fail", reason: "somebody else's name"},
		{ip: "192.0.2.11", result: "fail", reason: "a name with a control byte is not looked up"},
		{ip: "192.0.2.12", result: "temperror", reason: "the name's address can't be looked up"},
		{ip: "192.0.2.13", result: "temperror", reason: "one name can't be looked up, the other is not ours"},
		{ip: "192.0.2.66", result: "temperror", reason: "the reverse zone is down"},
		{ip: "2001:db8::7", result: "pass", name: "six.example.org", reason: "IPv6"},
		{ip: "2001:db8::8", result: "fail", reason: "an IPv6 client's name has IPv4 addresses only"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			res, err := CheckIprev(context.Background(), zone, netip.MustParseAddr(tt.ip))
			if res.Result != tt.result || res.Name != tt.name {
				t.Errorf("%s: %s %q, want %s %q", tt.ip, res.Result, res.Name, tt.result, tt.name)
			}
			if (err != nil) != (tt.result == "temperror") {
				t.Errorf("%s: %s with error %v", tt.ip, res.Result, err)
			}
		})
	}
}

// TestIprevBoundsNames looks up no more than ten names of an address that has a thousand.
func TestIprevBoundsNames(t *testing.T) {
	zone := &fakeDNS{ptr: map[string][]string{}}
	for i := range 1000 {
		zone.ptr["192.0.2.7"] = append(zone.ptr["192.0.2.7"], fmt.Sprintf("h%d.example.org", i))
	}
	res, err := CheckIprev(context.Background(), zone, netip.MustParseAddr("192.0.2.7"))
	if err != nil || res.Result != "fail" {
		t.Errorf("%s, %v", res.Result, err)
	}
	if n := len(zone.queries); n != 1+maxPTRNames {
		t.Errorf("%d queries, want %d", n, 1+maxPTRNames)
	}
}

func TestIsGenericName(t *testing.T) {
	tests := []struct {
		name, ip string
		want     bool
	}{
		{name: "mail.example.org", ip: "192.0.2.7"},
		{name: "mail-2.example.org", ip: "192.0.2.7"},
		{name: "mx7.mail.example.org", ip: "192.0.2.7"},
		{name: "o1.ptr1234.example.net", ip: "192.0.2.7"},
		{name: "mail.home.example.org", ip: "192.0.2.7"},     // a word, but no number
		{name: "a2-7.smtp-out.example.com", ip: "192.0.2.7"}, // two octets and no word: big senders number so
		{name: "192-0-2-7.pool.example.net", ip: "192.0.2.7", want: true},
		{name: "7.2.0.192.example.net", ip: "192.0.2.7", want: true},
		{name: "host7-2-0-192.example.net", ip: "192.0.2.7", want: true},
		{name: "ip192-000-002-007.example.net", ip: "192.0.2.7", want: true},
		{name: "c0000207.example.net", ip: "192.0.2.7", want: true},
		{name: "192000002007.example.net", ip: "192.0.2.7", want: true},
		{name: "pool-2-7.example.net", ip: "192.0.2.7", want: true},
		{name: "dyn17.example.net", ip: "192.0.2.7", want: true},
		{name: "dsl-133.cust.example.net", ip: "192.0.2.7", want: true},
		{name: "20010db8000000000000000000000007.v6.example.net", ip: "2001:db8::7", want: true},
		{name: "mail.v6.example.net", ip: "2001:db8::7"},
	}
	for _, tt := range tests {
		if got := isGenericName(tt.name, netip.MustParseAddr(tt.ip)); got != tt.want {
			t.Errorf("isGenericName(%s, %s) = %v, want %v", tt.name, tt.ip, got, tt.want)
		}
	}
}
