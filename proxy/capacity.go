package proxy

import "slices"

// What the program takes by itself, and what a connection takes at most apart from its message: buffers of both sides, goroutines,
// the state of the dialogue, checks of the client, TLS; and the garbage of all that until it is collected. TestAttack measures it.
const (
	ownMemory        = 96 << 20
	connectionMemory = 80 << 10
	tlsMemory        = 48 << 10 // on top, for a connection with TLS
	ownFiles         = 100
	connectionFiles  = 3 // the client's, the next hop's, and a spool file for a large message
)

// MemoryBound is what the process takes in memory when as many clients as are allowed do their worst: keep connections open in
// whatever state, and send messages without ending them. The messages that are judged at the moment come on top.
func (c *Config) MemoryBound() int64 {
	const garbage = 2 // the heap may double before it is collected
	l := c.Limits
	each := int64(connectionMemory)
	if slices.ContainsFunc(c.Listen, func(l Listen) bool { return len(l.TLS) > 0 }) {
		each += tlsMemory
	}
	return ownMemory + int64(l.Connections)*each + garbage*min(int64(l.AllMemory), int64(l.Connections)*int64(l.Memory))
}

// OpenFiles is how many files the process may need to have open at once.
func (c *Config) OpenFiles() int { return ownFiles + c.Limits.Connections*connectionFiles }

// ConnectionsWithin is how many connections so many open files are enough for.
func (c *Config) ConnectionsWithin(files int64) int64 {
	return max(0, files-ownFiles) / connectionFiles
}
