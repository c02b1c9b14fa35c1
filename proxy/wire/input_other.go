//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package wire

import "errors"

// Without a way to look at a socket, connections keep a buffer while idle and Alive believes in the client until a read fails.
const canPeek = false

func readFD(uintptr, []byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }

func peekFD(uintptr) (int, bool, error) { return 0, false, errors.ErrUnsupported }
