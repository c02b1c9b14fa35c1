package upstream

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// underWay reports whether the other side's system has yet to confirm that it has all that was written. A TCP segment that
// carries a reply also says how far its sender had received by then, so that after a reply to the whole message nothing is
// under way any more.
func underWay(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if _, tcp := nc.RemoteAddr().(*net.TCPAddr); !ok || !tcp {
		return false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	octets := 0
	if err := rc.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
			octets = n
		}
	}); err != nil {
		return false // closed: what was heard before was heard in time
	}
	return octets > 0
}
