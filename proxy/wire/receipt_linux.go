package wire

import "golang.org/x/sys/unix"

// receiptOf reads the state of a socket on which the client has ended its side: TCP_CLOSE means that a reset came since.
func receiptOf(fd uintptr) receipt {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	switch {
	case err != nil:
		return received
	case info.State == unix.BPF_TCP_CLOSE:
		return neverReceived
	case info.Unacked > 0 || info.Notsent_bytes > 0:
		return pending
	}
	return received
}
