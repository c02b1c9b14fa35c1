package wire

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// XCLIENT is Postfix's way for a trusted proxy to speak for a client (postfix.org/XCLIENT_README.html): "XCLIENT NAME=… ADDR=…". The reply is a
// new banner, and the dialogue starts again. Values are xtext (RFC 3461 section 4) of UTF-8; [UNAVAILABLE] and [TEMPUNAVAIL] say that there is none.
const xclientKeyword = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"

// maxXClientValue bounds one decoded attribute, as in Postfix.
const maxXClientValue = 255

// parseXClient reads the arguments. Addresses that are not told stay as they are in base.
func parseXClient(arg string, client, server netip.AddrPort) (XClient, error) {
	x := XClient{Used: true, Client: client, Server: server}
	if arg == "" {
		return x, fmt.Errorf("expected NAME=value pairs")
	}
	seen := make(map[string]bool)
	for _, a := range strings.Fields(arg) {
		name, raw, ok := strings.Cut(a, "=")
		name = strings.ToUpper(name)
		if !ok || seen[name] {
			return x, fmt.Errorf("expected each attribute once, as NAME=value")
		}
		seen[name] = true
		value, err := xtext(raw)
		if err != nil {
			return x, fmt.Errorf("%s: %w", name, err)
		}
		if err := x.set(name, value); err != nil {
			return x, err
		}
	}
	return x, nil
}

func (x *XClient) set(name, value string) (err error) {
	none := strings.EqualFold(value, "[UNAVAILABLE]") || strings.EqualFold(value, "[TEMPUNAVAIL]")
	if none {
		value = ""
	}
	switch name {
	case "NAME":
		x.Name = value
	case "HELO":
		x.Helo = value
	case "LOGIN":
		x.Login = value
	case "PROTO":
		if x.Proto = strings.ToUpper(value); x.Proto != "" && x.Proto != "SMTP" && x.Proto != "ESMTP" {
			err = fmt.Errorf("PROTO: expected SMTP or ESMTP")
		}
	case "ADDR":
		x.Client, err = withAddr(x.Client, value)
	case "DESTADDR":
		x.Server, err = withAddr(x.Server, value)
	case "PORT":
		x.Client, err = withPort(x.Client, value)
	case "DESTPORT":
		x.Server, err = withPort(x.Server, value)
	default:
		err = fmt.Errorf("unknown attribute %q", name)
	}
	return err
}

// withAddr replaces the address: "192.0.2.7" or "IPV6:2001:db8::7". A client whose address nobody knows cannot be judged: it stays the peer's.
func withAddr(old netip.AddrPort, value string) (netip.AddrPort, error) {
	if value == "" {
		return old, nil
	}
	s := value
	v6 := hasPrefixFold(s, "IPV6:")
	if v6 {
		s = s[len("IPV6:"):]
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || v6 != a.Is6() {
		return old, fmt.Errorf("address: expected 192.0.2.7 or IPV6:2001:db8::7")
	}
	return netip.AddrPortFrom(a.Unmap(), old.Port()), nil
}

func withPort(old netip.AddrPort, value string) (netip.AddrPort, error) {
	if value == "" {
		return netip.AddrPortFrom(old.Addr(), 0), nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return old, fmt.Errorf("port: expected 0 to 65535")
	}
	return netip.AddrPortFrom(old.Addr(), uint16(n)), nil
}

// xtext decodes "+3D" to "=". What comes out is printable.
func xtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if len(s)-i < 3 {
				return "", fmt.Errorf("cut off +XX")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("expected +XX with two hexadecimal digits")
			}
			c = byte(n)
			i += 2
		}
		if c < ' ' || c == 0x7f {
			return "", fmt.Errorf("control character")
		}
		b.WriteByte(c)
	}
	if b.Len() > maxXClientValue {
		return "", fmt.Errorf("longer than %d octets", maxXClientValue)
	}
	return b.String(), nil
}

// onXClient takes a trusted peer's word for who the client is. It may give it once.
func (k *link) onXClient(arg string) {
	if !contains(k.cfg.XClientFrom, addrPort(k.sock.RemoteAddr()).Addr()) {
		k.answer(Reply{Code: 502, Enhanced: "5.5.1", Text: "XCLIENT is not offered"})
		return
	}
	f := k.facts()
	switch {
	case f.xclient.Used:
		k.answer(*sequence("XCLIENT was used already"))
		return
	case k.mail:
		k.answer(*sequence("XCLIENT is not for the middle of a transaction"))
		return
	}
	x, err := parseXClient(arg, f.client, f.server)
	if err != nil {
		k.answer(*syntax("XCLIENT: " + err.Error()))
		return
	}
	k.setFacts(func(f *facts) { f.xclient, f.client, f.server = x, x.Client, x.Server })
	if why := k.count(x.Client.Addr()); why != "" {
		k.bye(Reply{Code: 421, Enhanced: "4.7.0", Text: k.cfg.Hostname + " " + why}, "too many connections")
		return
	}
	k.send([]byte("220 " + k.cfg.Hostname + " ESMTP Postern\r\n"))
	k.begin()
}
