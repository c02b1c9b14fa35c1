package dns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

const (
	resolvConf = "/etc/resolv.conf"
	dnsPort    = 53
)

// MaxServers is how many servers a [Config] can have.
const MaxServers = 8

// serverAddrs reads the servers of a configuration, or those of /etc/resolv.conf if there are none.
func serverAddrs(list []string) ([]netip.AddrPort, error) {
	if len(list) == 0 {
		return systemServers(resolvConf)
	}
	if len(list) > MaxServers {
		return nil, fmt.Errorf("dns: %d servers, expected at most %d", len(list), MaxServers)
	}
	var addrs []netip.AddrPort
	for _, s := range list {
		a, err := ParseServer(s)
		if err != nil {
			return nil, fmt.Errorf("dns: %w", err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// ParseServer reads a server as [Config] has it: an IP address with or without port; an IPv6 address with port stands in
// brackets.
func ParseServer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(ip, dnsPort), nil
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return ap, nil
	}
	return netip.AddrPort{}, fmt.Errorf(`server %q: expected an IP address, with or without port, such as "127.0.0.1:53"`, s)
}

// systemServers reads the nameserver lines of a resolv.conf file. Without any, as without the file, the server is the one
// on this host, as for the C library.
func systemServers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("dns: %w", err)
	}
	var addrs []netip.AddrPort
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
		for lines.Scan() && len(addrs) < MaxServers {
			fields := strings.Fields(lines.Text())
			if len(fields) < 2 || fields[0] != "nameserver" {
				continue
			}
			if ip, err := netip.ParseAddr(fields[1]); err == nil {
				addrs = append(addrs, netip.AddrPortFrom(ip, dnsPort))
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("dns: %s: %w", path, err)
		}
	}
	if len(addrs) == 0 {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort))
	}
	return addrs, nil
}
