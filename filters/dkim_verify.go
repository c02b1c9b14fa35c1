package filters

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"postern/filters/dns"
	"postern/filters/message"
)

// This verifier stands in the place of a library's for these reasons: the one at hand is quadratic in the empty lines
// of a body under simple canonicalization and in the lines of a folded field, which no check before it can prevent
// without refusing honest mail; it fails valid signatures with "b=" inside another tag or with i= in other case; it
// takes keys under 1024 bits, ignores t=s and t=y, and does not say which fields a signature covered. Here the body is
// read once for all signatures, and everything costs what it weighs.

// DKIMOptions are the bounds and choices of CheckDKIM.
type DKIMOptions struct {
	Signatures int // how many are verified, from the top; 0 is 8
	TrustTest  bool
	Now        time.Time

	keys *dkimKeys // nil: no key is kept
}

const defaultDKIMSignatures = 8

// dkimClockSkew is how far in the future a signature may have been made.
const dkimClockSkew = time.Hour

// DKIMResult is what became of the signatures of a message, from the top of its header.
type DKIMResult struct {
	Signatures []*DKIMSignature
	Skipped    int // signatures beyond the limit, not looked at
}

// Passed lists the signatures that verified and are to be trusted.
func (r *DKIMResult) Passed() []*DKIMSignature {
	var passed []*DKIMSignature
	for _, s := range r.Signatures {
		if s.Result == "pass" {
			passed = append(passed, s)
		}
	}
	return passed
}

// Covers gives the domain of a verified signature that covers the header field at index, "" if none does.
func (r *DKIMResult) Covers(index int) string {
	for _, s := range r.Signatures {
		for _, i := range s.Covered {
			if i == index {
				return s.Domain
			}
		}
	}
	return ""
}

// CheckDKIM verifies the signatures of a message (RFC 6376, RFC 8301, RFC 8463). The error is a failure to read body,
// or the cause of temperrors when no signature passed.
func CheckDKIM(ctx context.Context, r dns.Lookuper, header message.Header, body io.Reader, opts DKIMOptions) (*DKIMResult, error) {
	if opts.Signatures == 0 {
		opts.Signatures = defaultDKIMSignatures
	}
	v := &dkimVerifier{header: header, opts: opts, res: &DKIMResult{}}
	v.collect()
	if len(v.live) == 0 {
		return v.res, nil
	}
	keys := v.fetchKeys(ctx, r)
	bodyErr := v.hashBody(ctx, body)
	keys.wg.Wait()
	if bodyErr != nil {
		return v.res, fmt.Errorf("reading the body: %w", bodyErr)
	}
	v.indexFields()
	for i, s := range v.live {
		v.judge(s, keys.records[i], keys.errs[i])
	}
	return v.res, v.failure()
}

// dkimVerifier holds one message's verification.
type dkimVerifier struct {
	header message.Header
	opts   DKIMOptions
	res    *DKIMResult
	live   []*DKIMSignature         // those that could be read
	bodies map[bodyKind]*bodyDigest // hashed once for all signatures that want the same
	fields map[string][]int         // indices by lower-case name, top to bottom
}

type bodyKind struct {
	relaxed bool
	limit   int64
}

func (s *DKIMSignature) bodyKind() bodyKind {
	return bodyKind{relaxed: s.BodyCano == "relaxed", limit: s.BodyLength}
}

// collect reads the signature fields.
func (v *dkimVerifier) collect() {
	for i, f := range v.header {
		if !strings.EqualFold(f.Name, "DKIM-Signature") {
			continue
		}
		if len(v.res.Signatures) == v.opts.Signatures {
			v.res.Skipped++
			continue
		}
		_, value, _ := bytes.Cut(f.Raw, []byte{':'})
		s, err := parseDKIMSignature(string(value))
		s.field = i
		v.res.Signatures = append(v.res.Signatures, s)
		switch {
		case errors.Is(err, errNotSigned), errors.Is(err, errWeakHash):
			s.Result, s.Reason = "permerror", err.Error()
		case err != nil:
			s.Result, s.Reason = "neutral", err.Error()
		default:
			v.live = append(v.live, s)
		}
	}
}

// keyFetch is the look-up of the key records of all signatures, under way.
type keyFetch struct {
	records [][]string
	errs    []error
	wg      sync.WaitGroup
}

func (v *dkimVerifier) fetchKeys(ctx context.Context, r dns.Lookuper) *keyFetch {
	k := &keyFetch{records: make([][]string, len(v.live)), errs: make([]error, len(v.live))}
	for i, s := range v.live {
		k.wg.Go(func() { k.records[i], k.errs[i] = r.TXT(ctx, s.keyName()) })
	}
	return k
}

// hashBody reads the body once, for every kind of hash that a signature wants.
func (v *dkimVerifier) hashBody(ctx context.Context, body io.Reader) error {
	v.bodies = map[bodyKind]*bodyDigest{}
	var sinks []io.Writer
	for _, s := range v.live {
		if v.bodies[s.bodyKind()] == nil {
			d := newBodyDigest(s.BodyCano == "relaxed", s.BodyLength)
			v.bodies[s.bodyKind()] = d
			sinks = append(sinks, d)
		}
	}
	buf := bodyBuffers.Get().(*[bodyPiece]byte)
	defer bodyBuffers.Put(buf)
	_, err := io.CopyBuffer(io.MultiWriter(sinks...), &contextReader{ctx: ctx, r: body}, buf[:])
	return err
}

// bodyPiece is how much of a body is read at a time.
const bodyPiece = 32 << 10

var bodyBuffers = sync.Pool{New: func() any { return new([bodyPiece]byte) }}

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

func (v *dkimVerifier) indexFields() {
	v.fields = map[string][]int{}
	for i, f := range v.header {
		name := strings.ToLower(strings.TrimRight(f.Name, " \t"))
		v.fields[name] = append(v.fields[name], i)
	}
}

// judge decides one signature, given the records of its key or why they could not be had.
func (v *dkimVerifier) judge(s *DKIMSignature, records []string, err error) {
	if err != nil && !dns.IsVoid(err) {
		s.Result, s.Reason, s.err = "temperror", "the look-up of its key failed", err
		return
	}
	keys, err := v.opts.keys.parse(records)
	if err != nil {
		s.Result, s.Reason = "permerror", err.Error()
		return
	}
	digest, covered := v.headerDigest(s)
	body := v.bodies[s.bodyKind()]
	for _, key := range keys {
		v.tryKey(s, key, digest, body)
		if s.Result == "pass" || s.Result == "policy" {
			s.Covered = covered
			return
		}
	}
}

// tryKey sets the result that one key gives.
func (v *dkimVerifier) tryKey(s *DKIMSignature, key *dkimKey, digest []byte, body *bodyDigest) {
	s.KeyBits = key.bits()
	if err := key.suits(s); err != nil {
		s.Result, s.Reason = "permerror", err.Error()
		return
	}
	bodySum := body.final()
	switch {
	case s.BodyLength > body.total:
		s.Result, s.Reason = "permerror", "l= is more than the body has"
	case !bytes.Equal(bodySum, s.bodyHash):
		s.Result, s.Reason = "fail", "the body was changed"
	case !key.verify(digest, s.sig):
		s.Result, s.Reason = "fail", "the header was changed, or the key is another"
	default:
		s.Result, s.Reason = v.acceptance(s)
	}
	if key.testing && !v.opts.TrustTest {
		s.Reason = strings.TrimPrefix(s.Reason+"; its key is being tested (t=y)", "; ")
		s.Result = "neutral" // no different from no signature: RFC 6376 section 3.6.1
	}
}

// acceptance says whether a signature that verifies says enough.
func (v *dkimVerifier) acceptance(s *DKIMSignature) (result, reason string) {
	switch {
	case s.BodyLength >= 0:
		return "policy", "l= leaves the rest of the body open to anyone"
	case !s.Expires.IsZero() && v.opts.Now.After(s.Expires):
		return "policy", "it expired on " + s.Expires.UTC().Format(time.DateOnly)
	case s.Signed.After(v.opts.Now.Add(dkimClockSkew)):
		return "policy", "it was made in the future"
	}
	return "pass", ""
}

// headerDigest hashes the fields that a signature names, each name from the bottom up (RFC 6376 section 5.4.2), and
// the signature itself.
func (v *dkimVerifier) headerDigest(s *DKIMSignature) (digest []byte, covered []int) {
	h := sha256.New()
	relaxed := s.HeaderCano == "relaxed"
	taken := map[string]int{}
	var buf []byte
	for _, name := range s.names {
		instances := v.fields[name]
		if taken[name] == len(instances) {
			continue // signed as absent
		}
		taken[name]++
		i := instances[len(instances)-taken[name]]
		buf = canonicalField(buf[:0], v.header[i].Raw, relaxed)
		h.Write(buf)
		covered = append(covered, i)
	}
	buf = canonicalField(buf[:0], withoutB(v.header[s.field].Raw), relaxed)
	h.Write(bytes.TrimSuffix(buf, crlf))
	return h.Sum(nil), covered
}

// failure joins the causes of temperrors, unless a signature passed anyway.
func (v *dkimVerifier) failure() error {
	var err error
	for _, s := range v.live {
		switch {
		case s.Result == "pass":
			return nil
		case s.err != nil:
			err = errors.Join(err, fmt.Errorf("key of %s: %w", s.Domain, s.err))
		}
	}
	return err
}
