package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
)

// unavailable stands for an attribute that is not known, in XCLIENT and XFORWARD.
const unavailable = "[UNAVAILABLE]"

// maxName bounds the names told to the next hop; xtext can treble it and the line must stay within 2048 octets. A longer one
// is told as not known rather than cut, which would make it another name.
const maxName = 255

// xclient makes the XCLIENT command with every attribute that the next hop offers and that is known here: one that is
// left out would keep the value that it has for our own connection.
func xclient(offered []string, c Client) string {
	b := "XCLIENT"
	for _, name := range offered {
		if value, ok := attribute(name, c); ok {
			b += " " + name + "=" + value
		}
	}
	return b
}

// xforward makes the XFORWARD commands, divided in two as Postfix's own client does, so that each stays short.
func xforward(offered []string, c Client) []string {
	var cmds []string
	for _, group := range [][]string{{"NAME", "ADDR", "PORT"}, {"PROTO", "HELO", "IDENT", "SOURCE"}} {
		b := ""
		for _, name := range group {
			if value, ok := attribute(name, c); ok && slices.Contains(offered, name) {
				b += " " + name + "=" + value
			}
		}
		if b != "" {
			cmds = append(cmds, "XFORWARD"+b)
		}
	}
	return cmds
}

// attribute gives the value of an attribute of XCLIENT or XFORWARD; ok is false for one that Postern does not know. Among
// these are Dovecot's TTL and TIMEOUT, which say nothing about the client and must be numbers.
func attribute(name string, c Client) (value string, ok bool) {
	switch name {
	case "NAME", "REVERSE_NAME":
		return nameOr(c.Name), true
	case "ADDR":
		return addrOr(c.IP), true
	case "PORT":
		return portOr(c.Port), true
	case "PROTO":
		if c.Extended {
			return "ESMTP", true
		}
		return "SMTP", true
	case "HELO":
		return nameOr(c.Helo), true
	case "IDENT", "SESSION":
		return nameOr(c.ID), true
	case "SOURCE":
		return "REMOTE", true
	case "LOGIN":
		return unavailable, true
	case "DESTADDR":
		return addrOr(c.DestIP), true
	case "DESTPORT":
		return portOr(c.DestPort), true
	}
	return "", false
}

func nameOr(s string) string {
	if s == "" || len(s) > maxName {
		return unavailable
	}
	return xtext(s)
}

func addrOr(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return unavailable
	case ip.Is6():
		return "IPV6:" + ip.String()
	}
	return ip.String()
}

func portOr(port int) string {
	if port <= 0 || port > 65535 {
		return unavailable
	}
	return strconv.Itoa(port)
}

// introduce tells the next hop by XCLIENT who the client is. The next hop starts anew, with a greeting, and sees EHLO from
// the client: the name that it gave, if it can stand in a command, since a next hop that checks or logs it reads it there.
func (c *conn) introduce(ctx context.Context) error {
	c.line.told = true
	reply, err := c.line.ask(ctx, "xclient", xclient(c.caps.XClient, c.client))
	if err != nil {
		return err
	}
	if reply.Code != 220 {
		return c.line.fail(ctx, "xclient", false, &Refused{Reply: reply})
	}
	name := c.client.Helo
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		name = c.hop.cfg.Hostname
	}
	return c.hello(ctx, name)
}

// sendProxy writes the PROXY header, the first thing on a connection. Without a client it says that the connection is our
// own: version 2 has LOCAL for that; version 1 has UNKNOWN, which Postfix refuses, so it gets the addresses of the socket.
func sendProxy(nc net.Conn, limit time.Duration, version byte, client *Client) error {
	h := proxyproto.Header{Version: version, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	switch {
	case client != nil && client.IP.IsValid():
		setAddresses(&h, netip.AddrPortFrom(client.IP, uint16(client.Port)), netip.AddrPortFrom(client.DestIP, uint16(client.DestPort)))
	case version == 1:
		src, ok1 := nc.LocalAddr().(*net.TCPAddr)
		dst, ok2 := nc.RemoteAddr().(*net.TCPAddr)
		if ok1 && ok2 {
			setAddresses(&h, src.AddrPort(), dst.AddrPort())
		}
	}
	b, err := h.Format()
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	nc.SetWriteDeadline(time.Now().Add(limit))
	_, err = nc.Write(b)
	return err
}

// setAddresses writes both addresses in one family, as the header has it: an IPv4 address beside an IPv6 one is written as
// IPv4-mapped, an unknown destination as the unspecified address.
func setAddresses(h *proxyproto.Header, from, to netip.AddrPort) {
	src, dst := from.Addr().Unmap().WithZone(""), to.Addr().Unmap().WithZone("")
	h.Command, h.TransportProtocol = proxyproto.PROXY, proxyproto.TCPv4
	v6 := src.Is6() || dst.Is6()
	switch {
	case !dst.IsValid() && v6:
		dst = netip.IPv6Unspecified()
	case !dst.IsValid():
		dst = netip.IPv4Unspecified()
	}
	if v6 {
		h.TransportProtocol = proxyproto.TCPv6
		src, dst = netip.AddrFrom16(src.As16()), netip.AddrFrom16(dst.As16())
	}
	h.SourceAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, from.Port()))
	h.DestinationAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(dst, to.Port()))
}
