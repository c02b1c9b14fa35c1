//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package wire

import "syscall"

const canPeek = true

// readFD reads from a non-blocking socket. again means that there is nothing to read now.
func readFD(fd uintptr, b []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Read(int(fd), b)
		if err == syscall.EINTR {
			continue
		}
		return verdict(n, err)
	}
}

// peekFD looks whether a non-blocking socket has something to read, and takes nothing.
func peekFD(fd uintptr) (n int, again bool, err error) {
	var b [1]byte
	for {
		n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EINTR {
			continue
		}
		return verdict(n, err)
	}
}

func verdict(n int, err error) (int, bool, error) {
	switch {
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK:
		return 0, true, nil
	case err != nil:
		return 0, false, err
	}
	return max(n, 0), false, nil
}
