package proxy

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificates gives the certificate for a host name, and reads the files again when they change.
type certificates struct {
	mu      sync.Mutex
	files   []Certificate
	loaded  []tls.Certificate
	stamps  []stamp
	checked time.Time
}

// A stamp tells one version of a pair of files from another.
type stamp struct{ cert, key time.Time }

// recheck is how often the files are looked at, at most.
const recheck = 10 * time.Second

func newCertificates(files []Certificate) (*certificates, error) {
	c := &certificates{files: files, loaded: make([]tls.Certificate, len(files)), stamps: make([]stamp, len(files))}
	for i := range files {
		if err := c.load(i); err != nil {
			return nil, err
		}
	}
	c.checked = time.Now()
	return c, nil
}

func (c *certificates) load(i int) error {
	pair, err := tls.LoadX509KeyPair(c.files[i].Cert, c.files[i].Key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.files[i].Cert, err)
	}
	c.loaded[i], c.stamps[i] = pair, stampOf(c.files[i])
	return nil
}

func stampOf(f Certificate) stamp {
	var s stamp
	if info, err := os.Stat(f.Cert); err == nil {
		s.cert = info.ModTime()
	}
	if info, err := os.Stat(f.Key); err == nil {
		s.key = info.ModTime()
	}
	return s
}

// forHello picks the first certificate that the client can use for the name that it asks for, else the first one.
// Files that changed but can't be loaded (half-written, say) leave the old certificate in use.
func (c *certificates) forHello(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > recheck {
		c.checked = time.Now()
		for i := range c.files {
			if stampOf(c.files[i]) != c.stamps[i] {
				_ = c.load(i)
			}
		}
	}
	for i := range c.loaded {
		if hello.SupportsCertificate(&c.loaded[i]) == nil {
			return &c.loaded[i], nil
		}
	}
	return &c.loaded[0], nil
}
