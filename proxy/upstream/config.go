package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// The values of Config.ClientInfo.
const (
	ClientAuto     = "auto"     // XCLIENT if offered, else XFORWARD if offered, else none
	ClientXClient  = "xclient"  // a connection of its own for each client connection; the next hop takes the client's place for ours
	ClientXForward = "xforward" // for the next hop's log only
	ClientProxy    = "proxy"    // PROXY header version 1; a connection of its own for each client connection
	ClientProxyV2  = "proxy-v2" // the same, binary
	ClientNone     = "none"
)

// The values of Config.TLS.
const (
	// TLSAuto (the default) is TLSOpportunistic, but where the next hop's address is a loopback one or a Unix socket it is TLSNone:
	// there TLS would protect nothing and cost a handshake for each connection. For smtps:// it is TLSRequired.
	TLSAuto          = ""
	TLSOpportunistic = "opportunistic" // STARTTLS where offered, unverified; in plain text if it fails (RFC 7435)
	TLSRequired      = "required"      // verified TLS or nothing
	TLSNone          = "none"
)

// Config describes a next hop. Zero values stand for the defaults.
type Config struct {
	Address    string      // see the package comment
	ClientInfo string      // ClientAuto (default) and so on
	Hostname   string      // our name at EHLO, and in the names of files in a Maildir; default "localhost"
	TLS        string      // TLSAuto (default) and so on
	TLSConfig  *tls.Config // e.g. RootCAs; ServerName defaults to the host of the address
	Timeouts   Timeouts
	Pool       Pool

	// Dial replaces the network, for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Timeouts are the limits of waiting for the next hop. Zero values stand for the defaults.
type Timeouts struct {
	Connect time.Duration // for the connection, and again for the TLS handshake; 30 s
	Command time.Duration // for the greeting and the reply to each command; 60 s
	Data    time.Duration // for the reply to DATA, and for each block of the message to be taken; 3 min
	Reply   time.Duration // for the replies after the final dot; 9 min
}

// Pool bounds the idle connections that are kept, where the way of telling the client's identity lets several clients
// share a connection. Zero values stand for the defaults.
type Pool struct {
	Size     int           // connections; 16; negative for none
	Idle     time.Duration // how long a connection may be idle; 60 s
	Refusals int           // refusals on a connection after which it is not used again; 5
}

// New makes an Upstream from its configuration. It touches neither the network nor the disk.
func New(cfg Config) (Upstream, error) {
	t, err := parseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	if cfg.ClientInfo == "" {
		cfg.ClientInfo = ClientAuto
	}
	infos := []string{ClientAuto, ClientXClient, ClientXForward, ClientProxy, ClientProxyV2, ClientNone}
	if !slices.Contains(infos, cfg.ClientInfo) {
		return nil, fmt.Errorf("unknown client_info %q, expected one of %s", cfg.ClientInfo, strings.Join(infos, ", "))
	}
	if cfg.TLS, err = tlsMode(cfg.TLS, t); err != nil {
		return nil, err
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost"
	}
	if !isASCII(cfg.Hostname) || !isDomain(cfg.Hostname) {
		return nil, fmt.Errorf("bad host name %q, expected one like mx.example.org", cfg.Hostname)
	}
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	cfg.Pool = cfg.Pool.withDefaults()
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if t.scheme == "maildir" {
		return newMaildirHop(cfg, t.address), nil
	}
	return &hop{
		cfg:    cfg,
		target: t,
		tls:    clientTLS(cfg, t),
		idle:   pool{limits: cfg.Pool},
		lines:  map[*line]struct{}{},
	}, nil
}

// tlsMode resolves TLSAuto, and refuses what makes no sense with the address.
func tlsMode(mode string, t target) (string, error) {
	modes := []string{TLSOpportunistic, TLSRequired, TLSNone}
	if mode != TLSAuto && !slices.Contains(modes, mode) {
		return "", fmt.Errorf("unknown tls %q, expected one of %s", mode, strings.Join(modes, ", "))
	}
	switch {
	case t.scheme == "smtps":
		if mode != TLSAuto && mode != TLSRequired {
			return "", fmt.Errorf("tls %q does not go with smtps://, which is always verified; expected %q or nothing", mode, TLSRequired)
		}
		return TLSRequired, nil
	case t.network != "tcp":
		if mode != TLSAuto && mode != TLSNone {
			return "", fmt.Errorf("tls %q does not go with %s:, which stays on this machine; expected %q or nothing", mode, t.scheme, TLSNone)
		}
		return TLSNone, nil
	case mode != TLSAuto:
		return mode, nil
	case t.local():
		return TLSNone, nil
	}
	return TLSOpportunistic, nil
}

// clientTLS gives the TLS settings, nil for no TLS. cfg.TLS is resolved.
func clientTLS(cfg Config, t target) *tls.Config {
	if cfg.TLS == TLSNone {
		return nil
	}
	c := &tls.Config{}
	if cfg.TLSConfig != nil {
		c = cfg.TLSConfig.Clone()
	}
	if c.ServerName == "" {
		c.ServerName = t.host
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	if cfg.TLS == TLSOpportunistic {
		c.InsecureSkipVerify = true // RFC 7435: who would fall back to plain text gains nothing from verifying
	}
	return c
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	def(&t.Connect, 30*time.Second)
	def(&t.Command, time.Minute)
	def(&t.Data, 3*time.Minute)
	def(&t.Reply, 9*time.Minute)
	return t
}

func (p Pool) withDefaults() Pool {
	if p.Size == 0 {
		p.Size = 16
	}
	if p.Idle <= 0 {
		p.Idle = time.Minute
	}
	if p.Refusals <= 0 {
		p.Refusals = 5
	}
	return p
}
