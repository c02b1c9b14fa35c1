package dns

// Waiters gives how many wait for a look-up that is on the wire.
func Waiters(r *Resolver, name string, qtype uint16) int {
	wire, err := wireName(name)
	if err != nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[question{name: wire, qtype: qtype}]; f != nil {
		return f.waiters
	}
	return 0
}

// Order gives the servers' addresses in the order in which the next question goes to them.
func Order(r *Resolver) []string {
	var out []string
	for _, s := range preferred(r.servers) {
		out = append(out, s.addr.String())
	}
	return out
}

// SystemServers reads a file in the form of /etc/resolv.conf.
var SystemServers = systemServers

// Occupy takes one of the slots for look-ups on the wire, until free is called.
func Occupy(r *Resolver) (free func()) {
	r.slots <- struct{}{}
	return func() { <-r.slots }
}
