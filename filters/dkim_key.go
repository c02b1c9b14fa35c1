package filters

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
)

// dkimKey is a key record (RFC 6376 section 3.6.1, RFC 8463 section 3).
type dkimKey struct {
	algorithm string // "rsa" or "ed25519"
	rsa       *rsa.PublicKey
	ed25519   ed25519.PublicKey
	sha256    bool // its h= allows it
	email     bool // its s= allows it
	testing   bool // t=y
	strict    bool // t=s: i= has exactly the domain of d=
}

// Sizes of RSA keys in bits. RFC 8301 section 3.2 refuses shorter ones; longer ones only cost time.
const (
	minRSABits = 1024
	maxRSABits = 8192
)

var errRevoked = errors.New("the key is revoked")

// parseDKIMKey reads a key record.
func parseDKIMKey(record string) (*dkimKey, error) {
	tags, err := parseTagList(record)
	if err != nil {
		return nil, fmt.Errorf("bad key record: %w", err)
	}
	if v, ok := tags.get("v"); ok && (v != "DKIM1" || tags[0].name != "v") {
		return nil, errors.New("bad key record: not version DKIM1")
	}
	if !tags.has("p") {
		return nil, errors.New("bad key record: no key in it")
	}
	k := &dkimKey{algorithm: "rsa", sha256: true, email: true}
	if tags.has("k") {
		k.algorithm = strings.ToLower(tags.dense("k"))
	}
	if tags.has("h") {
		k.sha256 = hasWord(tags.dense("h"), "sha256")
	}
	if tags.has("s") {
		k.email = hasWord(tags.dense("s"), "email") || hasWord(tags.dense("s"), "*")
	}
	k.testing = hasWord(tags.dense("t"), "y")
	k.strict = hasWord(tags.dense("t"), "s")
	if tags.dense("p") == "" {
		return nil, errRevoked
	}
	return k, k.read(tags.dense("p"))
}

// read decodes p=.
func (k *dkimKey) read(p string) error {
	raw, err := base64.StdEncoding.DecodeString(p)
	if err != nil {
		return errors.New("bad key record: p= is no base64")
	}
	switch k.algorithm {
	case "ed25519":
		if len(raw) != ed25519.PublicKeySize {
			return errors.New("bad key record: no ed25519 key")
		}
		k.ed25519 = raw
		return nil
	case "rsa":
		pub, err := x509.ParsePKIXPublicKey(raw)
		if err != nil { // some publish a bare RSAPublicKey (RFC 6376, erratum 3017)
			if pub, err = x509.ParsePKCS1PublicKey(raw); err != nil {
				return errors.New("bad key record: no RSA key")
			}
		}
		key, ok := pub.(*rsa.PublicKey)
		if !ok {
			return errors.New("bad key record: no RSA key")
		}
		k.rsa = key
		return nil
	}
	return fmt.Errorf("key type %q is unknown", cutText(k.algorithm))
}

// bits is the exact size of the key.
func (k *dkimKey) bits() int {
	if k.rsa != nil {
		return k.rsa.N.BitLen()
	}
	return 8 * len(k.ed25519)
}

// suits reports what speaks against verifying a signature with this key.
func (k *dkimKey) suits(s *DKIMSignature) error {
	switch {
	case !strings.HasPrefix(s.Algorithm, k.algorithm+"-"):
		return fmt.Errorf("the key is for %s", k.algorithm)
	case !k.sha256:
		return errors.New("the key is not for sha256")
	case !k.email:
		return errors.New("the key is not for mail")
	case k.rsa != nil && k.bits() < minRSABits:
		return fmt.Errorf("the key has only %d bits", k.bits())
	case k.bits() > maxRSABits:
		return fmt.Errorf("the key has %d bits, more than %d", k.bits(), maxRSABits)
	case k.strict && s.Identity != "" && s.Identity[strings.LastIndexByte(s.Identity, '@')+1:] != s.Domain:
		return errors.New("the key is not for subdomains, which i= is in")
	}
	return nil
}

// verify reports whether sig is the key's signature over digest.
func (k *dkimKey) verify(digest, sig []byte) bool {
	if k.rsa != nil {
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest, sig) == nil
	}
	return ed25519.Verify(k.ed25519, digest, sig)
}

// maxDKIMKeys bounds the key records that are tried under one selector.
const maxDKIMKeys = 4

// keyName is where a signature's key stands in DNS.
func (s *DKIMSignature) keyName() string { return s.Selector + "._domainkey." + s.Domain }

// dkimKeys keeps key records that were read, by their text: most mail comes from few senders, and reading an RSA key takes half
// as long as verifying with it. A nil *dkimKeys keeps nothing.
type dkimKeys struct{ read *lru.Cache[string, readKey] }

// A readKey is what came of reading a record. It is not changed any more.
type readKey struct {
	key *dkimKey
	err error
}

// Bounds on what is kept: about 2 MB.
const (
	keptDKIMKeys   = 1000
	keptDKIMRecord = 1 << 10 // octets; longer records are read each time
)

func newDKIMKeys() *dkimKeys {
	cache, err := lru.New[string, readKey](keptDKIMKeys)
	if err != nil {
		return nil // a size below 1, which it is not
	}
	return &dkimKeys{read: cache}
}

// one reads a record, or remembers it.
func (c *dkimKeys) one(record string) (*dkimKey, error) {
	if c == nil || len(record) > keptDKIMRecord {
		return parseDKIMKey(record)
	}
	if known, ok := c.read.Get(record); ok {
		return known.key, known.err
	}
	key, err := parseDKIMKey(record)
	c.read.Add(record, readKey{key: key, err: err})
	return key, err
}

// parse gives the keys that a selector's records hold. Records that are no keys are passed over where another
// one is; several keys, about which RFC 6376 section 3.6.2.2 says nothing, are all tried.
func (c *dkimKeys) parse(records []string) ([]*dkimKey, error) {
	var keys []*dkimKey
	err := errors.New("there is no key")
	for _, record := range records[:min(len(records), 10*maxDKIMKeys)] {
		key, bad := c.one(record)
		switch {
		case bad == nil && len(keys) < maxDKIMKeys:
			keys = append(keys, key)
		case bad != nil:
			err = bad
		}
	}
	if len(keys) > 0 {
		return keys, nil
	}
	return nil, err
}
