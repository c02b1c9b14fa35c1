package proxy

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"postern/filters/store"
	"postern/proxy/wire"
)

// Clients that are known to wait for the banner are not made to wait for it again. A client becomes known by handing in a message, having
// said nothing out of turn and nothing wrong, and stays known for a month after it last did.
const (
	knownFor  = 30 * 24 * time.Hour
	knownAnew = 7 * 24 * time.Hour // how old an entry is when it is written again
	knownKept = 100_000
)

// acquaintances knows clients by address. A store that fails must not hold mail up: it knows nobody.
type acquaintances struct {
	store store.Store
	warn  func(error)
}

func newAcquaintances(spaces store.Spaces, warn func(error)) (*acquaintances, error) {
	space, err := spaces.Space("known", knownKept)
	if err != nil {
		return nil, err
	}
	return &acquaintances{store: space, warn: warn}, nil
}

// knownKey is the address, or for IPv6 its /64; nil where there is none.
func knownKey(ip netip.Addr) []byte {
	bits := 64 // which a client has at least
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return nil
	}
	return p.Addr().AsSlice()
}

// since tells when the client was last noted; ok is false for one that is not known.
func (a *acquaintances) since(ip netip.Addr) (noted time.Time, ok bool) {
	key := knownKey(ip)
	if key == nil {
		return time.Time{}, false
	}
	value, ok, err := a.store.Get(key)
	if err != nil {
		a.warn(err)
	}
	if err != nil || !ok || len(value) != 8 {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(value)), 0), true
}

// note remembers a client that behaved.
func (a *acquaintances) note(ip netip.Addr, now time.Time) {
	key := knownKey(ip)
	if key == nil {
		return
	}
	if noted, ok := a.since(ip); ok && now.Sub(noted) < knownAnew {
		return
	}
	if err := a.store.Put(key, binary.BigEndian.AppendUint64(nil, uint64(now.Unix())), knownFor); err != nil {
		a.warn(err)
	}
}

// isStranger reports whether an address could be anybody's: one of our own networks is not made to wait.
func isStranger(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast()
}

// bannerWait says how long a client is waited for to talk out of turn, while the checks of its address run.
func (s *Server) bannerWait(w *wire.Conn) time.Duration {
	c, ok := w.Value().(*connection)
	if !ok || c.relay || c.client.Trusted || !isStranger(c.peer.Addr()) {
		return 0
	}
	wait := c.rt.Config.Limits.Banner
	if wait <= 0 {
		return 0
	}
	if _, known := s.known.since(c.peer.Addr()); known {
		return 0
	}
	return wait
}

// welcome refuses, in place of the banner, a client that a list with before_banner has.
func (s *Server) welcome(w *wire.Conn) *wire.Reply {
	c, ok := w.Value().(*connection)
	if !ok || c.relay || c.rt.Config.Observe {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.rt.Config.Budget.Filters)
	defer cancel()
	f, refused := c.run.BannerRefusal(ctx)
	if !refused {
		return nil
	}
	v := c.rt.policy.RefuseBanner(f, c.id)
	if v.Reply.Code == 0 {
		return nil
	}
	c.refusedBy = v.By
	return &wire.Reply{Code: v.Reply.Code, Enhanced: v.Reply.Enhanced, Text: oneLine(v.Reply.Text)}
}

// behaved remembers a client that handed in a message and did nothing out of turn or wrong.
func (c *connection) behaved(w *wire.Conn) {
	if c.tally.delivered > 0 && isStranger(c.peer.Addr()) && !w.EarlyTalk() && !w.BadPipelining() && w.Errors() == 0 {
		c.srv.known.note(c.peer.Addr(), time.Now())
	}
}
