package filters

import (
	"net/netip"
	"strings"
	"testing"

	"postern/filters/message"
)

func TestParseReceived(t *testing.T) {
	cases := []struct{ why, value, helo, ip string }{
		{"Postfix", "from mail.a.example (host.a.example [192.0.2.1]) by mx.b.example (Postfix) with ESMTP id 1; Mon", "mail.a.example", "192.0.2.1"},
		{"Postfix, IPv6", "from mail.a.example (unknown [IPv6:2001:db8::1]) by mx.b.example with ESMTPS", "mail.a.example", "2001:db8::1"},
		{"Exim with reverse name", "from host.a.example ([192.0.2.2] helo=mail.a.example) by mx.b.example with esmtp (Exim 4.96)", "mail.a.example", "192.0.2.2"},
		{"Exim with port", "from host.a.example ([192.0.2.2]:51234 helo=mail.a.example) by mx.b.example", "mail.a.example", "192.0.2.2"},
		{"Exim without reverse name", "from [192.0.2.3] (helo=mail.a.example) by mx.b.example with smtp", "mail.a.example", "192.0.2.3"},
		{"Exchange", "from MAIL.a.example (192.0.2.4) by MX.b.example (10.0.0.1) with Microsoft SMTP Server", "MAIL.a.example", "192.0.2.4"},
		{"qmail", "from unknown (HELO mail.a.example) (192.0.2.5) by 0 with SMTP; 1 Jan", "mail.a.example", "192.0.2.5"},
		{"Sendmail", "from mail.a.example (host.a.example [192.0.2.6] (may be forged)) by mx.b.example (8.15/8.15)", "mail.a.example", "192.0.2.6"},
		{"an address literal as HELO is the client's word", "from [198.51.100.9] (host.a.example [192.0.2.7]) by mx.b.example", "[198.51.100.9]", "192.0.2.7"},
		{"an address behind helo= is the client's word", "from host.a.example ([192.0.2.8] helo=[198.51.100.9]) by mx.b.example", "[198.51.100.9]", "192.0.2.8"},
		{"IPv4-mapped", "from a.example (b.example [IPv6:::ffff:192.0.2.9]) by mx", "a.example", "192.0.2.9"},
		{"the word by in a comment ends nothing", "from a.example (seen by us [192.0.2.10]) by mx", "a.example", "192.0.2.10"},
		{"the server's own address is not the client's", "from a.example by mx.b.example ([192.0.2.11]) with SMTP", "", ""},
		{"local submission", "by mx.b.example (Postfix, from userid 0) id 1; Mon", "", ""},
		{"nothing", "", "", ""},
		{"only from", "from", "", ""},
	}
	for _, c := range cases {
		hop, ok := ParseReceived(c.value)
		if c.ip == "" {
			if ok {
				t.Errorf("%s: read %+v from %q", c.why, hop, c.value)
			}
			continue
		}
		if !ok || hop.Helo != c.helo || hop.IP.String() != c.ip {
			t.Errorf("%s: %+v %v, want %s %s", c.why, hop, ok, c.helo, c.ip)
		}
	}
}

func TestBehindRelays(t *testing.T) {
	ours := netip.MustParsePrefix("10.0.0.0/8")
	isRelay := func(ip netip.Addr) bool { return ours.Contains(ip) }
	cases := []struct {
		why, header, ip string
	}{
		{"one relay", "Received: from c.example (c.example [192.0.2.1]) by r1\r\nReceived: from x (x [198.51.100.1]) by c.example\r\n", "192.0.2.1"},
		{"a relay behind a relay", "Received: from r2 (r2 [10.0.0.2]) by r1\r\nReceived: from c.example (c.example [192.0.2.1]) by r2\r\n", "192.0.2.1"},
		{"nobody outside", "Received: from r2 (r2 [10.0.0.2]) by r1\r\n", ""},
		{"the topmost can't be read: what stands below it is the sender's word", "Received: by r1 with local\r\nReceived: from c.example (c.example [192.0.2.1]) by r2\r\n", ""},
		{"no field", "Subject: x\r\n", ""},
		{"more relays than are followed", strings.Repeat("Received: from r (r [10.0.0.2]) by r\r\n", 20) + "Received: from c (c [192.0.2.1]) by r\r\n", ""},
	}
	for _, c := range cases {
		text := c.header + "\r\nbody\r\n"
		msg, err := message.Read(strings.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		hop, ok := BehindRelays(msg.Header, isRelay)
		if ok != (c.ip != "") || ok && hop.IP.String() != c.ip {
			t.Errorf("%s: %+v %v, want %q", c.why, hop, ok, c.ip)
		}
	}
}

func FuzzParseReceived(f *testing.F) {
	f.Add("from mail.a.example (host.a.example [192.0.2.1]) by mx.b.example (Postfix) with ESMTP id 1; Mon")
	f.Add("from host ([192.0.2.2] helo=mail) by mx")
	f.Add("from unknown (HELO mail) (192.0.2.5) by 0 with SMTP")
	f.Fuzz(func(t *testing.T, value string) {
		hop, ok := ParseReceived(value)
		if ok && (!hop.IP.IsValid() || hop.IP.Is4In6() || hop.IP.Zone() != "") {
			t.Errorf("%q: address %v", value, hop.IP)
		}
	})
}
