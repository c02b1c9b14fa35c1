package main

import (
	"fmt"
	"syscall"

	"postern/proxy"
)

// openFilesWarning says that the system does not allow as many open files as the limits may need; "" where it does. Go has raised
// the soft limit to the hard one at the start of the process.
func openFilesWarning(cfg *proxy.Config) string {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return "" // the system does not tell
	}
	return tooFewFiles(cfg, files.Cur)
}

func tooFewFiles(cfg *proxy.Config, allowed uint64) string {
	need := cfg.OpenFiles()
	if uint64(need) <= allowed {
		return ""
	}
	return fmt.Sprintf("limits.connections: %d connections can need %d open files, the system allows this process %d: expected a higher limit (ulimit -n, or LimitNOFILE= of systemd), or at most %d connections",
		cfg.Limits.Connections, need, allowed, cfg.ConnectionsWithin(int64(allowed)))
}
