package upstream

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A target is a parsed address.
type target struct {
	scheme  string // "smtp", "smtps", "lmtp", "lmtp+unix", "maildir"
	network string // "tcp", "unix"; "" for a Maildir
	address string // what is dialled: "host:port" or "/path"; for a Maildir its path
	host    string // for TLS; "" for a path
}

var defaultPorts = map[string]string{"smtp": "25", "smtps": "465", "lmtp": "24"}

func parseAddress(s string) (target, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok {
		return target{}, fmt.Errorf("address %q has no scheme, expected one like smtp://127.0.0.1:25", s)
	}
	switch scheme {
	case "smtp", "smtps", "lmtp":
		return parseHostPort(scheme, rest)
	case "lmtp+unix", "maildir":
		return parsePath(scheme, rest)
	}
	return target{}, fmt.Errorf("unknown scheme %q, expected smtp, smtps, lmtp, lmtp+unix or maildir", scheme)
}

func parseHostPort(scheme, rest string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, fmt.Errorf("address %q: %s, expected %s://host or %s://host:port", scheme+":"+rest, why, scheme, scheme)
	}
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return bad(`no "//" after the scheme`)
	}
	authority = strings.TrimSuffix(authority, "/")
	if i := strings.IndexAny(authority, "/?#@"); i >= 0 {
		return bad(fmt.Sprintf("%q has no meaning here", authority[i]))
	}
	host, port, err := splitHostPort(authority, defaultPorts[scheme])
	if err != nil {
		return bad(err.Error())
	}
	return target{scheme: scheme, network: "tcp", address: net.JoinHostPort(host, port), host: host}, nil
}

// splitHostPort takes "host", "host:port", "[v6]" or "[v6]:port" apart.
func splitHostPort(s, defaultPort string) (host, port string, err error) {
	port = defaultPort
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, after, ok := strings.Cut(inner, "]")
		if _, err := netip.ParseAddr(inner); !ok || err != nil {
			return "", "", fmt.Errorf("%q is not an IP address in brackets", s)
		}
		host, s = inner, after
	} else {
		if strings.Count(s, ":") > 1 {
			return "", "", fmt.Errorf("an IPv6 address needs brackets")
		}
		host, _, _ = strings.Cut(s, ":")
		s = s[len(host):]
		if host == "" || strings.HasPrefix(host, "-") || !isASCII(host) || !isDomain(host) || strings.HasPrefix(host, "[") {
			return "", "", fmt.Errorf("%q is not a host name or an IP address", host)
		}
	}
	if s == "" {
		return host, port, nil
	}
	port, ok := strings.CutPrefix(s, ":")
	if n, err := strconv.ParseUint(port, 10, 16); !ok || err != nil || n == 0 {
		return "", "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return host, port, nil
}

func parsePath(scheme, path string) (target, error) {
	if strings.HasPrefix(path, "//") { // scheme://host/path with no host
		if path = path[2:]; !strings.HasPrefix(path, "/") {
			return target{}, fmt.Errorf("address %q has a host where a path is meant, expected %s:/path", scheme+"://"+path, scheme)
		}
	}
	if path == "" || strings.ContainsRune(path, 0) {
		return target{}, fmt.Errorf("address %q has no path, expected %s:/path", scheme+":"+path, scheme)
	}
	t := target{scheme: scheme, address: path}
	if scheme == "lmtp+unix" {
		t.network = "unix"
	}
	return t, nil
}

// local reports whether the target is on this machine whatever the network does.
func (t target) local() bool {
	if t.network == "unix" || t.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(t.host)
	return err == nil && ip.Unmap().IsLoopback()
}
