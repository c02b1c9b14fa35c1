package proxy

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates gives the certificate for a host name, and reads the files again when they change.
type certificates struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	pairs   []certificatePair
	checked time.Time
}

// A certificatePair is a pair of files, as last loaded.
type certificatePair struct {
	files  Certificate
	loaded tls.Certificate
	tried  bool
	seen   certificateText // what was last tried, whether it could be loaded or not
}

// A certificateText is what stands in a pair of files. Their times alone would not tell two versions apart that are written in one go.
type certificateText struct{ cert, key string }

// recheck is how often the files are looked at, at most.
const recheck = time.Second

func newCertificates(files []Certificate, log *slog.Logger, now func() time.Time) (*certificates, error) {
	c := &certificates{log: log, now: now, checked: now()}
	for _, f := range files {
		p := certificatePair{files: f}
		if _, err := p.refresh(); err != nil {
			return nil, err
		}
		c.pairs = append(c.pairs, p)
	}
	return c, nil
}

// refresh loads the files if something else stands there than the last time. What was loaded before stays where that fails.
func (p *certificatePair) refresh() (changed bool, err error) {
	cert, certErr := os.ReadFile(p.files.Cert)
	key, keyErr := os.ReadFile(p.files.Key)
	text := certificateText{cert: string(cert), key: string(key)}
	if p.tried && text == p.seen {
		return false, nil
	}
	p.tried, p.seen = true, text
	pair, err := tls.X509KeyPair(cert, key)
	if err = cmp.Or(certErr, keyErr, err); err != nil {
		return true, fmt.Errorf("certificate %s: %w", p.files.Cert, err)
	}
	p.loaded = pair
	return true, nil
}

// refresh reads what has changed. Files that can't be used (half-written, the key of another certificate, gone) leave the old
// certificate in force; that is told once for each version of them.
func (c *certificates) refresh() {
	now := c.now()
	if since := now.Sub(c.checked); since >= 0 && since < recheck {
		return
	}
	c.checked = now
	for i := range c.pairs {
		file := c.pairs[i].files.Cert
		switch changed, err := c.pairs[i].refresh(); {
		case err != nil:
			c.log.Warn("certificate_failed", "file", file, "error", err.Error(), "note", "the one before it stays in use")
		case changed:
			c.log.Info("certificate_loaded", "file", file)
		}
	}
}

// forHello picks the first certificate that the client can use for the name that it asks for, else the first one.
func (c *certificates) forHello(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	pick := 0
	for i := range c.pairs {
		if hello.SupportsCertificate(&c.pairs[i].loaded) == nil {
			pick = i
			break
		}
	}
	// A copy: the caller reads it while the next handshake may put another one in its place.
	chosen := c.pairs[pick].loaded
	return &chosen, nil
}
