package filters

import (
	"net/url"
	"slices"
	"strings"
)

// dmarcPolicy is what a domain's owner asks for mail that is not authenticated as theirs: "none", "quarantine" or
// "reject"; "" where they say nothing.
type dmarcPolicy string

// The policies of RFC 9989 section 4.7.
const (
	dmarcNone       dmarcPolicy = "none"
	dmarcQuarantine dmarcPolicy = "quarantine"
	dmarcReject     dmarcPolicy = "reject"
)

// weight orders policies by how much they ask for.
func (p dmarcPolicy) weight() int {
	return slices.Index([]dmarcPolicy{dmarcNone, dmarcQuarantine, dmarcReject}, p)
}

// dmarcRecord is a policy record (RFC 9989 section 4.7). pct, rf and ri of RFC 7489 are gone and ignored, as every
// unknown tag is.
type dmarcRecord struct {
	p, sp, np dmarcPolicy
	unsure    bool // p is missing or unknown, or sp or np is unknown
	psd       byte // 'y', 'n' or 'u'
	testing   bool // t=y
	strictSPF bool // aspf=s
	strictKey bool // adkim=s
	reports   bool // rua= has at least one URI that can be one
}

// usable says whether the record's policy may be applied. A record in whose policy something is missing or unknown is
// taken for p=none where its owner asks for reports, and for no record where not (RFC 9989 section 4.10.1).
func (r *dmarcRecord) usable() (*dmarcRecord, bool) {
	if !r.unsure {
		return r, true
	}
	lenient := *r
	lenient.p, lenient.sp, lenient.np = dmarcNone, "", ""
	return &lenient, r.reports
}

// selectDMARC picks the record of a name: where there is more than one, there is none (RFC 9989 section 4.10).
func selectDMARC(txts []string) *dmarcRecord {
	var found *dmarcRecord
	for _, txt := range txts {
		rec := parseDMARC(txt)
		if rec == nil {
			continue
		}
		if found != nil {
			return nil
		}
		found = rec
	}
	return found
}

// parseDMARC reads a record, nil if it is none: the version must come first and be exact. What is broken behind it is
// passed over; of a tag that stands there twice the first one counts.
func parseDMARC(txt string) *dmarcRecord {
	version, rest, _ := strings.Cut(txt, ";")
	name, value, ok := strings.Cut(version, "=")
	if !ok || !strings.EqualFold(trimWSP(name), "v") || trimWSP(value) != "DMARC1" {
		return nil
	}
	r := &dmarcRecord{psd: 'u', unsure: true}
	seen := map[string]bool{"v": true}
	for spec := range strings.SplitSeq(rest, ";") {
		name, value, ok := strings.Cut(spec, "=")
		name = strings.ToLower(trimWSP(name))
		if !ok || seen[name] || len(seen) > maxTags {
			continue
		}
		seen[name] = true
		r.tag(name, trimWSP(value))
	}
	return r
}

func (r *dmarcRecord) tag(name, value string) {
	lower := strings.ToLower(value)
	policy := dmarcPolicy(lower)
	known := policy == dmarcNone || policy == dmarcQuarantine || policy == dmarcReject
	switch name {
	case "p":
		if known {
			r.p = policy
		}
	case "sp":
		r.sp = policy
	case "np":
		r.np = policy
	case "psd":
		if lower == "y" || lower == "n" {
			r.psd = lower[0]
		}
	case "t":
		r.testing = lower == "y"
	case "adkim":
		r.strictKey = lower == "s"
	case "aspf":
		r.strictSPF = lower == "s"
	case "rua":
		r.reports = hasReportURI(value)
	}
	r.unsure = r.p == "" || !knownOrAbsent(r.sp) || !knownOrAbsent(r.np)
}

func knownOrAbsent(p dmarcPolicy) bool {
	return p == "" || p == dmarcNone || p == dmarcQuarantine || p == dmarcReject
}

// hasReportURI reports whether a list has a URI that reports could go to.
func hasReportURI(list string) bool {
	for uri := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(trimWSP(uri))
		if err == nil && u.Scheme != "" && (u.Host != "" || strings.Contains(u.Opaque, "@")) {
			return true
		}
	}
	return false
}

// policyFor picks the policy for a domain: p for the record's own domain, below it np for names that don't exist, sp
// for the others, and p where those are absent.
func (r *dmarcRecord) policyFor(below, exists bool) dmarcPolicy {
	switch {
	case below && !exists && r.np != "":
		return r.np
	case below && r.sp != "":
		return r.sp
	}
	return r.p
}

// applied is the policy under the test flag: one level milder.
func (r *dmarcRecord) applied(p dmarcPolicy) dmarcPolicy {
	switch {
	case !r.testing:
		return p
	case p == dmarcReject:
		return dmarcQuarantine
	}
	return dmarcNone
}

func trimWSP(s string) string { return strings.Trim(s, " \t") }
