package filters

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"postern/filters/dns"
	"postern/filters/message"
)

// ARCResult is the state of the chain of a message (RFC 8617 section 4.4).
type ARCResult struct {
	Result string   // "none", "pass", "fail"; "temperror" where a key could not be had for now
	Reason string   // for anything but pass
	Sets   []ARCSet // the first one first; none where the structure is broken

	// OldestPass is, for a chain that passes, the first of the latest sets whose message signatures all verify still:
	// 0 if all of the chain do, -1 where that was not found out (RFC 8617 section 5.2, step 5).
	OldestPass int
}

// Bounds on the verification of one chain.
const (
	maxARCQueries = 60      // keys looked up; a chain of 50 sets by 50 sealers needs 51
	maxARCWork    = 4 << 20 // octets of header that are hashed in search of the oldest pass
)

// CheckARC validates the chain of a message (RFC 8617 section 5.2). The error is a failure to read body, or the cause
// of a temperror.
func CheckARC(ctx context.Context, r dns.Lookuper, header message.Header, body io.Reader, now time.Time) (*ARCResult, error) {
	res := &ARCResult{Result: "none", Reason: "it was never sealed", OldestPass: -1}
	sets, err := collectARC(header)
	switch {
	case err != nil:
		return res.fails(err.Error()), nil
	case len(sets) == 0:
		return res, nil
	}
	res.Sets = sets
	if err := checkARCStates(sets); err != nil {
		return res.fails(err.Error()), nil
	}
	v := &arcVerifier{
		ctx: ctx, r: r, sets: sets, keys: map[string]arcKeys{},
		dkim: dkimVerifier{header: header, opts: DKIMOptions{Now: now}},
	}
	return v.chain(res, body)
}

func (res *ARCResult) fails(why string) *ARCResult {
	res.Result, res.Reason = "fail", why
	return res
}

// arcVerifier holds one message's verification.
type arcVerifier struct {
	ctx  context.Context
	r    dns.Lookuper
	sets []ARCSet
	dkim dkimVerifier
	keys map[string]arcKeys // by the name under which they stand
}

// arcKeys is what the look-up of a key gave.
type arcKeys struct {
	records []string
	err     error
}

// chain verifies the latest message signature and all seals. What costs nothing comes first: a message that was
// changed since the last seal costs no query.
func (v *arcVerifier) chain(res *ARCResult, body io.Reader) (*ARCResult, error) {
	for _, s := range v.sets {
		v.dkim.live = append(v.dkim.live, s.message)
	}
	if err := v.dkim.hashBody(v.ctx, body); err != nil {
		res.Result, res.Reason = "temperror", "the message could not be read"
		return res, fmt.Errorf("reading the body: %w", err)
	}
	last := len(v.sets) - 1
	latest := v.sets[last].message
	if !bytes.Equal(v.dkim.bodies[latest.bodyKind()].final(), latest.bodyHash) {
		return res.fails(fmt.Sprintf("message signature %d: the body was changed", last+1)), nil
	}
	v.dkim.indexFields()
	v.fetch(latest)
	if v.judge(latest); latest.Result != "pass" {
		return res.broken("message signature", last+1, latest)
	}
	if n, seal := v.brokenSeal(); seal != nil {
		return res.broken("seal", n, seal)
	}
	res.Result, res.Reason = "pass", ""
	res.OldestPass = v.oldestPass()
	return res, nil
}

// broken tells which signature does not verify.
func (res *ARCResult) broken(what string, instance int, s *DKIMSignature) (*ARCResult, error) {
	res.Result, res.Reason = "fail", fmt.Sprintf("%s %d of %s: %s", what, instance, s.Domain, s.Reason)
	if s.Result == "temperror" {
		res.Result = "temperror"
		return res, fmt.Errorf("key of %s: %w", s.Domain, s.err)
	}
	return res, nil
}

// fetch looks up the keys of signatures, all at once and none twice.
func (v *arcVerifier) fetch(sigs ...*DKIMSignature) {
	var names []string
	for _, s := range sigs {
		name := s.keyName()
		if _, known := v.keys[name]; !known && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	found := make([]arcKeys, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { found[i].records, found[i].err = v.r.TXT(v.ctx, name) })
	}
	wg.Wait()
	for i, name := range names {
		v.keys[name] = found[i]
	}
}

// judge decides a message signature whose key was looked up.
func (v *arcVerifier) judge(s *DKIMSignature) {
	keys := v.keys[s.keyName()]
	v.dkim.judge(s, keys.records, keys.err)
}

// brokenSeal verifies the seals from the last to the first and gives the one that does not hold, with its number.
func (v *arcVerifier) brokenSeal() (int, *DKIMSignature) {
	seals := make([]*DKIMSignature, len(v.sets))
	for i, s := range v.sets {
		seals[i] = s.seal
	}
	v.fetch(seals...)
	digests := v.sealDigests()
	for i := len(seals) - 1; i >= 0; i-- {
		if v.judgeSeal(seals[i], digests[i]); seals[i].Result != "pass" {
			return i + 1, seals[i]
		}
	}
	return 0, nil
}

// sealDigests hashes what each seal signs: the sets up to its own, each as results, message signature and seal, the
// seal itself without the value of b= (RFC 8617 section 5.1.1). The state of the hash is shared, so all of them
// together cost one run over the chain.
func (v *arcVerifier) sealDigests() [][]byte {
	digests := make([][]byte, len(v.sets))
	sum := sha256.New()
	var buf []byte
	add := func(h hash.Hash, raw []byte, end bool) {
		buf = canonicalField(buf[:0], raw, true)
		if end {
			buf = bytes.TrimSuffix(buf, crlf)
		}
		h.Write(buf)
	}
	for i, s := range v.sets {
		add(sum, v.dkim.header[s.results].Raw, false)
		add(sum, v.dkim.header[s.message.field].Raw, false)
		raw := v.dkim.header[s.seal.field].Raw
		own := cloneHash(sum)
		add(own, withoutB(raw), true)
		digests[i] = own.Sum(nil)
		add(sum, raw, false)
	}
	return digests
}

// cloneHash copies the state of a hash of the standard library, which all can do.
func cloneHash(h hash.Hash) hash.Hash {
	c, err := h.(hash.Cloner).Clone()
	if err != nil {
		panic(fmt.Sprintf("a hash that cannot be cloned: %v", err))
	}
	return c
}

// judgeSeal decides one seal.
func (v *arcVerifier) judgeSeal(s *DKIMSignature, digest []byte) {
	found := v.keys[s.keyName()]
	if found.err != nil && !dns.IsVoid(found.err) {
		s.Result, s.Reason, s.err = "temperror", "the look-up of its key failed", found.err
		return
	}
	keys, err := v.dkim.opts.keys.parse(found.records)
	if err != nil {
		s.Result, s.Reason = "permerror", err.Error()
		return
	}
	for _, key := range keys {
		s.KeyBits = key.bits()
		err = key.suits(s)
		if err == nil && key.testing {
			err = errors.New("its key is being tested (t=y)")
		}
		if err == nil && !key.verify(digest, s.sig) {
			err = errors.New("the chain was changed, or the key is another")
		}
		if err == nil {
			s.Result, s.Reason = "pass", ""
			return
		}
		s.Result, s.Reason = "fail", err.Error()
	}
}

// oldestPass goes back along the chain as far as message signatures still verify, within its bounds on queries and work.
func (v *arcVerifier) oldestPass() int {
	size := 0
	for _, f := range v.dkim.header {
		size += len(f.Raw)
	}
	if size*len(v.sets) > maxARCWork {
		return -1
	}
	var older []*DKIMSignature
	names := map[string]bool{}
	for i := len(v.sets) - 2; i >= 0; i-- {
		s := v.sets[i].message
		if _, known := v.keys[s.keyName()]; !known {
			names[s.keyName()] = true
		}
		older = append(older, s)
	}
	if len(v.keys)+len(names) > maxARCQueries {
		return -1
	}
	v.fetch(older...)
	for i, s := range older {
		switch v.judge(s); s.Result {
		case "pass":
		case "temperror":
			return -1
		default:
			return len(v.sets) - i
		}
	}
	return 0
}
