package proxy

import (
	"sync"

	"postern/proxy/wire"
)

// A sign is what is waited for after a 250: that the client shows it has heard it. A command shows that if it came
// after the reply, and so does closing the connection in good order. What the client had sent ahead before the reply
// shows nothing, nor does a connection that was reset or fell silent.
type sign struct {
	keys     []memoryKey
	wire     *wire.Conn
	commands int   // before the reply
	bytes    int64 // received before the reply
	open     bool  // the client had not closed its side before the reply
	once     sync.Once
}

// await is called before a positive reply is given to a message.
func (m *memory) await(w *wire.Conn, keys []memoryKey) *sign {
	open := w.Alive() // it also reads what the client has sent ahead, so that it is counted
	g := &sign{keys: keys, wire: w, commands: w.Commands(), bytes: w.BytesIn(), open: open}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		m.unheard[k] = g
	}
	return g
}

// heard reports whether the sign has been given. Any goroutine may ask.
func (g *sign) heard() bool {
	return g.wire.Commands() > g.commands && g.wire.BytesIn() > g.bytes ||
		g.open && g.wire.Reason() == "client closed"
}

// check forgets what a client has shown that it heard of. When it returns true, all of it is forgotten.
func (m *memory) check(g *sign) bool {
	if !g.heard() {
		return false
	}
	g.once.Do(func() {
		var changes fates
		for _, k := range g.keys {
			changes.forget(k)
		}
		if err := m.fates.Apply(changes); err != nil {
			m.warn(err)
		}
		m.giveUp(g)
	})
	return true
}

// giveUp waits no longer: what the client did not show to have heard of stays in memory for its time.
func (m *memory) giveUp(g *sign) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range g.keys {
		if m.unheard[k] == g {
			delete(m.unheard, k)
		}
	}
}
