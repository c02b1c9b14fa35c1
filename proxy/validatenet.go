package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"postern/proxy/upstream"
)

// listeners wants addresses that can be bound, all at once, and certificates that can be used.
func (v *validator) listeners() {
	if len(v.Listen) == 0 {
		v.bad(at("listen"), "nothing to listen on: expected an address, such as `listen: [{address: \":25\"}]`")
	}
	for i, l := range v.Listen {
		here := at("listen", i, "address")
		if v.address(here, l.Address) {
			v.bindsApart(here, v.Listen[:i], l.Address)
		}
		v.oneOf(at("listen", i, "bare_newline"), l.BareNewline, "reject", "normalise")
		if l.ImplicitTLS && len(l.TLS) == 0 {
			v.bad(at("listen", i, "implicit_tls"), "implicit_tls needs a certificate, expected tls: {cert: FILE, key: FILE}")
		}
		for j, c := range l.TLS {
			v.certificate(at("listen", i, "tls"), j, c)
		}
	}
}

func (v *validator) address(path []any, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if address == "" {
		v.bad(path, "address is missing, expected host:port or :port, such as \":25\"")
		return false
	}
	if err != nil {
		v.bad(path, "%q is not an address, expected host:port or :port, and brackets around IPv6, such as \":25\" or \"[2001:db8::1]:25\"", address)
		return false
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		v.bad(path, "%q is not a port, expected a number up to 65535", port)
		return false
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !IsHostname(host) {
		v.bad(path, "%q is not an address of this machine, expected an IP address, a host name or nothing before the port", host)
		return false
	}
	return true
}

// bindsApart wants an address that none of the listeners before it has taken.
func (v *validator) bindsApart(path []any, before []Listen, address string) {
	host, port, _ := net.SplitHostPort(address)
	for _, other := range before {
		theirs, theirPort, err := net.SplitHostPort(other.Address)
		switch {
		case err != nil || port != theirPort || port == "0":
		case address == other.Address:
			v.bad(path, "%s stands twice in listen, expected each address once", address)
			return
		case overlap(host, theirs) || overlap(theirs, host):
			v.bad(path, "%s can't be bound beside %s, expected one of them", address, other.Address)
			return
		}
	}
}

// overlap reports whether binding one host takes the other: a wildcard takes all of its family.
func overlap(one, other string) bool {
	theirs := hostAddrs(other)
	if isWildcard(one) {
		return isWildcard(other) || slices.ContainsFunc(theirs, func(a netip.Addr) bool { return ofFamily(one, a) })
	}
	own := hostAddrs(one)
	return slices.ContainsFunc(theirs, func(a netip.Addr) bool { return slices.Contains(own, a) })
}

func isWildcard(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// ofFamily reports whether a wildcard takes connections to an address: 0.0.0.0 only those of IPv4, the others all.
func ofFamily(wildcard string, a netip.Addr) bool { return wildcard != "0.0.0.0" || a.Is4() }

func (v *validator) certificate(path []any, index int, c Certificate) {
	if v.given(append(slices.Clone(path), index)...) {
		path = append(slices.Clone(path), index)
	}
	if c.Cert == "" || c.Key == "" {
		v.bad(path, "tls needs both files, expected {cert: FILE, key: FILE}")
		return
	}
	for _, file := range []string{c.Cert, c.Key} {
		if _, err := os.ReadFile(file); err != nil {
			v.bad(path, "cannot read %s: %v, expected a PEM file", file, cause(err))
			return
		}
	}
	if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
		v.bad(path, "certificate %s and key %s can't be used: %s, expected PEM files that belong together", c.Cert, c.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
}

func (v *validator) upstreams(path []any, list []Upstream) {
	for i, u := range list {
		here := append(slices.Clone(path), i)
		v.share(here, u)
		known := v.oneOf(append(slices.Clone(here), "client_info"), u.ClientInfo, clientInfos...)
		if !v.reachable(append(slices.Clone(here), "address"), Upstream{Address: u.Address}) || !known {
			continue
		}
		mode := append(slices.Clone(here), "tls")
		if !v.oneOf(mode, u.TLS, tlsModes...) {
			continue
		}
		if _, err := v.nextHop(u); err != nil {
			v.bad(mode, "%v", err)
		}
	}
}

// maxSocketFolder bounds the folder of a Unix socket: its whole path has at most 104 octets on some systems, and the
// socket is made in a folder beside its place first.
const maxSocketFolder = 80

// fitsSocket reports whether a Unix socket can have the path.
func fitsSocket(path string) bool {
	return len(filepath.Dir(path)) <= maxSocketFolder && len(path) <= 100
}

// control wants a place where a socket can be made.
func (v *validator) control() {
	if !v.given("control") || v.Control == "" {
		return
	}
	folder := filepath.Dir(v.Control)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		v.bad(at("control"), "the folder of the control socket, %s, is not there, expected a path in a folder that is", folder)
	} else if !fitsSocket(v.Control) {
		v.bad(at("control"), "%s is too long for the path of a socket, expected at most %d characters for the folder and 100 in all", v.Control, maxSocketFolder)
	}
}

// The bounds of how upstreams share the mail.
const (
	maxPriority = 1000
	maxWeight   = 1000
)

func (v *validator) share(path []any, u Upstream) {
	if u.Priority < 0 || u.Priority > maxPriority {
		v.bad(append(slices.Clone(path), "priority"), "priority: %d, expected a number from 0 (tried first) to %d", u.Priority, maxPriority)
	}
	if u.Weight < 1 || u.Weight > maxWeight {
		v.bad(append(slices.Clone(path), "weight"), "weight: %d, expected a number from 1 to %d", u.Weight, maxWeight)
	}
}

// health wants pauses that a probe fits into.
func (v *validator) health() {
	positive(v, v.Health.Interval, "health", "interval")
	positive(v, v.Health.Timeout, "health", "timeout")
	positive(v, int64(v.Health.Fails), "health", "fails")
	positive(v, v.Health.Retry, "health", "retry")
	if v.Health.Interval > 0 && v.Health.Retry > v.Health.Interval {
		v.bad(at("health", "retry"), "retry: %v is longer than interval: %v, expected at most that", v.Health.Retry, v.Health.Interval)
	}
}

// The words of an upstream. The first of tlsModes, nothing, lets the address decide.
var (
	clientInfos = []string{"auto", "xclient", "xforward", "proxy", "proxy-v2", "none"}
	tlsModes    = []string{"", "opportunistic", "required", "none"}
)

// reachable wants an address that an upstream can have and that does not lead back to us.
func (v *validator) reachable(path []any, u Upstream) bool {
	next, err := v.nextHop(u)
	switch {
	case u.Address == "":
		v.bad(path, "address is missing, expected the mail server behind Postern, such as smtp://127.0.0.1:25")
	case err != nil:
		v.bad(path, "%v", err)
	default:
		l, loops := v.loops(next)
		if loops {
			v.bad(path, "%s is Postern's own listener %s, expected the mail server behind it", u.Address, l)
		}
		return !loops
	}
	return false
}

// nextHop makes an upstream, to see whether it can be made. A bad host name of ours is told elsewhere.
func (v *validator) nextHop(u Upstream) (upstream.Upstream, error) {
	cfg := v.upstreamConfig(u)
	if !IsHostname(cfg.Hostname) {
		cfg.Hostname = ""
	}
	return upstream.New(cfg)
}

// loops reports whether an upstream is one of our own listeners, and which.
func (v *validator) loops(next upstream.Upstream) (string, bool) {
	network, address := next.Addr()
	host, port, err := net.SplitHostPort(address)
	if network != "tcp" || err != nil {
		return "", false
	}
	for _, l := range v.Listen {
		ours, ourPort, err := net.SplitHostPort(l.Address)
		if err == nil && port == ourPort && port != "0" && reaches(host, ours) {
			return l.Address, true
		}
	}
	return "", false
}

// reaches reports whether a connection to host can reach a listener bound to bound.
func reaches(host, bound string) bool {
	own := hostAddrs(bound)
	return slices.ContainsFunc(hostAddrs(host), func(a netip.Addr) bool {
		if isWildcard(bound) {
			return isLocal(a) && ofFamily(bound, a)
		}
		return slices.Contains(own, a)
	})
}

// hostAddrs knows literals and "localhost"; the address of another name is for the resolver, not for a check of the
// configuration. Who connects to the unspecified address reaches the loopback one.
func hostAddrs(host string) []netip.Addr {
	loopback4, loopback6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{loopback4, loopback6}
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return nil
	case ip == netip.IPv4Unspecified():
		return []netip.Addr{ip, loopback4}
	case ip == netip.IPv6Unspecified():
		return []netip.Addr{ip, loopback6}
	}
	return []netip.Addr{ip.Unmap()}
}

// isLocal reports whether an address is one of this machine's.
func isLocal(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(n net.Addr) bool {
		prefix, err := netip.ParsePrefix(n.String())
		return err == nil && prefix.Addr().Unmap() == a
	})
}
