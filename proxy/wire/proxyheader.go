package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// The PROXY protocol (haproxy.org, proxy-protocol.txt): before anything else a proxy in front sends a header that names the
// client. Version 1 is a line, "PROXY TCP4 192.0.2.7 198.51.100.1 56324 25" CRLF; version 2 is binary: a signature of 12 octets,
// version and command, family, a length, and so much more.
const (
	proxyV1Max  = 107 // with CRLF
	proxyV2Head = 16
	proxyV2Max  = 4096 // of what follows the head: addresses, and notes that are not read
)

var (
	proxyV1Sign = []byte("PROXY ")
	proxyV2Sign = []byte("\r\n\r\n\x00\r\nQUIT\n")

	errNoProxyHeader = errors.New("no PROXY header")
)

// proxyEndpoints is what a header tells; the zero value for a proxy that speaks for itself (a health check).
type proxyEndpoints struct {
	client, server netip.AddrPort
}

// parseProxyHeader reads a header at the start of p. n is its length, 0 if more input is needed.
func parseProxyHeader(p []byte) (e proxyEndpoints, n int, err error) {
	switch {
	case hasCommonPrefix(p, proxyV2Sign):
		if len(p) < proxyV2Head {
			return e, 0, nil
		}
		rest := int(binary.BigEndian.Uint16(p[14:16]))
		if rest > proxyV2Max {
			return e, 0, fmt.Errorf("PROXY header of %d octets, at most %d are read", rest, proxyV2Max)
		}
		if n = proxyV2Head + rest; len(p) < n {
			return e, 0, nil
		}
	case hasCommonPrefix(p, proxyV1Sign):
		i := bytes.IndexByte(p, '\n')
		switch {
		case i >= proxyV1Max || i < 0 && len(p) >= proxyV1Max:
			return e, 0, fmt.Errorf("PROXY header longer than %d octets", proxyV1Max)
		case i < 0:
			return e, 0, nil
		}
		n = i + 1
	default:
		return e, 0, errNoProxyHeader
	}
	h, err := readProxyHeader(p[:n])
	if err != nil {
		return e, 0, fmt.Errorf("bad PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return e, n, nil
	}
	if !h.TransportProtocol.IsIPv4() && !h.TransportProtocol.IsIPv6() || !h.TransportProtocol.IsStream() {
		return e, 0, fmt.Errorf("bad PROXY header: transport %#02x is not TCP", byte(h.TransportProtocol))
	}
	e = proxyEndpoints{client: addrPort(h.SourceAddr), server: addrPort(h.DestinationAddr)}
	if !e.client.IsValid() {
		return e, 0, errors.New("bad PROXY header: no client address")
	}
	return e, n, nil
}

// proxyReaders are used again: the library asks for a buffer of 4 KB, and each connection behind a proxy has a header.
var proxyReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

func readProxyHeader(p []byte) (*proxyproto.Header, error) {
	r := proxyReaders.Get().(*bufio.Reader)
	defer proxyReaders.Put(r)
	r.Reset(bytes.NewReader(p))
	defer r.Reset(nil)
	return proxyproto.Read(r)
}

// hasCommonPrefix reports whether p may be, or begin with, the sign.
func hasCommonPrefix(p, sign []byte) bool {
	n := min(len(p), len(sign))
	return bytes.Equal(p[:n], sign[:n])
}

// takeProxyHeader reads the header that this peer must send.
func (k *link) takeProxyHeader() bool {
	deadline := time.Now().Add(k.cfg.Limits.Handshake)
	for {
		e, n, err := parseProxyHeader(k.in.bytes())
		switch {
		case err != nil:
			k.l.stats.badProxy.Add(1)
			k.cfg.Log.Warn("bad_proxy_header", "peer", k.sock.RemoteAddr().String(), "reason", err.Error())
			k.end("bad PROXY header")
			return false
		case n > 0:
			k.in.take(n)
			if e.client.IsValid() {
				k.setFacts(func(f *facts) { f.client, f.server = e.client, e.server })
			}
			return true
		}
		if err := k.fill(deadline, true); err != nil {
			if k.bytesIn.Load() > 0 || isTimeout(err) {
				// A load balancer's connect-and-close is no news.
				k.l.stats.badProxy.Add(1)
				k.cfg.Log.Warn("bad_proxy_header", "peer", k.sock.RemoteAddr().String(), "reason", fmt.Sprintf("PROXY header cut off: %v", err))
			}
			k.end("no PROXY header")
			return false
		}
	}
}
