package filters

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// spfRecord is an SPF record that keeps to the grammar of RFC 7208 section 12 from end to end.
type spfRecord struct {
	Terms    []spfTerm // the mechanisms, in order
	Redirect string    // domain-spec, "" for none
	Exp      string    // domain-spec, "" for none
}

// spfTerm is a mechanism with its qualifier.
type spfTerm struct {
	Qualifier  byte   // '+', '-', '~' or '?'
	Name       string // lower case
	DomainSpec string // unexpanded; "" stands for the domain that is checked
	CIDR       string // "/24//64" as written, for a and mx
	Net        string // for ip4 and ip6
	Written    string // the whole directive as it stands in the record
}

// Limits on what a record may cost before any of it is evaluated.
const (
	maxSPFRecord = 16 << 10
	maxSPFTerms  = 500
)

// selectSPF picks the SPF record of a domain's TXT records (RFC 7208 section 4.5). found is false where there is none.
func selectSPF(txts []string) (record string, found bool, err error) {
	for _, txt := range txts {
		const version = "v=spf1"
		if len(txt) < len(version) || !strings.EqualFold(txt[:len(version)], version) ||
			len(txt) > len(version) && txt[len(version)] != ' ' {
			continue
		}
		if found {
			return "", false, errors.New("the domain has more than one SPF record")
		}
		record, found = txt, true
	}
	return record, found, nil
}

var (
	spfModifier = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*)=(.*)$`)
	spfDualCIDR = regexp.MustCompile(`^(.*?)(/(0|[1-9][0-9]?))?(//(0|[1-9][0-9]{0,2}))?$`)

	// A toplabel has a letter or an inner hyphen (RFC 7208 section 7.1).
	spfTopLabel = regexp.MustCompile(`^([A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])$`)
)

// parseSPF reads a record that selectSPF picked. Any error anywhere in it is one (RFC 7208 section 4.6), whether
// evaluation would get there or not.
func parseSPF(record string) (*spfRecord, error) {
	if len(record) > maxSPFRecord {
		return nil, fmt.Errorf("the record is longer than %d octets", maxSPFRecord)
	}
	for i := range len(record) {
		if record[i] < ' ' || record[i] >= 0x7f {
			return nil, fmt.Errorf("the record has the octet 0x%02x", record[i])
		}
	}
	rec := &spfRecord{}
	seen := map[string]bool{}
	terms := strings.Fields(record[len("v=spf1"):])
	if len(terms) > maxSPFTerms {
		return nil, fmt.Errorf("the record has more than %d terms", maxSPFTerms)
	}
	for _, term := range terms {
		if m := spfModifier.FindStringSubmatch(term); m != nil {
			name := strings.ToLower(m[1])
			if (name == "redirect" || name == "exp") && seen[name] {
				return nil, fmt.Errorf("%s= stands there twice", name)
			}
			seen[name] = true
			if err := rec.modifier(name, m[2]); err != nil {
				return nil, fmt.Errorf("%q: %w", term, err)
			}
			continue
		}
		t, err := parseSPFTerm(term)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", term, err)
		}
		t.Written = term
		rec.Terms = append(rec.Terms, t)
	}
	return rec, nil
}

func (rec *spfRecord) modifier(name, value string) error {
	switch name {
	case "redirect":
		rec.Redirect = value
		return checkDomainSpec(value)
	case "exp":
		rec.Exp = value
		return checkDomainSpec(value)
	}
	_, err := parseMacros(value, false) // unknown modifiers are ignored, but not their syntax
	return err
}

// parseSPFTerm reads one directive (RFC 7208 section 4.6.1).
func parseSPFTerm(term string) (spfTerm, error) {
	t := spfTerm{Qualifier: '+'}
	if strings.IndexByte("+-~?", term[0]) >= 0 {
		t.Qualifier, term = term[0], term[1:]
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	t.Name = strings.ToLower(term[:end])
	arg, hasDomain := strings.CutPrefix(term[end:], ":")
	switch t.Name {
	case "all":
		if term[end:] != "" {
			return t, errors.New("all takes no argument")
		}
		return t, nil
	case "ip4", "ip6":
		t.Net = arg
		return t, checkIPMechanism(t.Name, arg)
	case "a", "mx":
		return parseSPFAddresses(t, arg, hasDomain)
	case "ptr":
		if !hasDomain && arg == "" {
			return t, nil
		}
	case "include", "exists":
	default:
		return t, errors.New("no such mechanism")
	}
	if !hasDomain {
		return t, errors.New("a domain is missing")
	}
	t.DomainSpec = arg
	return t, checkDomainSpec(arg)
}

// parseSPFAddresses reads the argument of a and mx: [":" domain-spec] [dual-cidr-length].
func parseSPFAddresses(t spfTerm, arg string, hasDomain bool) (spfTerm, error) {
	m := spfDualCIDR.FindStringSubmatch(arg)
	t.DomainSpec = m[1]
	t.CIDR = m[2] + m[4]
	if !prefixWithin(m[3], 32) || !prefixWithin(m[5], 128) {
		return t, errors.New("the prefix is too long")
	}
	if !hasDomain {
		if t.DomainSpec != "" {
			return t, errors.New("not a prefix length")
		}
		return t, nil
	}
	return t, checkDomainSpec(t.DomainSpec)
}

func prefixWithin(digits string, limit int) bool {
	n, err := strconv.Atoi(digits)
	return digits == "" || err == nil && n <= limit
}

// checkIPMechanism checks the argument of ip4 and ip6 (RFC 7208 section 5.6).
func checkIPMechanism(name, arg string) error {
	address, length, hasLength := strings.Cut(arg, "/")
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Is4() != (name == "ip4") || ip.Zone() != "" {
		return fmt.Errorf("not an %s network", name)
	}
	if hasLength && (length == "" || len(length) > 1 && length[0] == '0' || !isAllDigits(length) || !prefixWithin(length, ip.BitLen())) {
		return errors.New("not a prefix length")
	}
	return nil
}

// checkDomainSpec checks macro-string domain-end (RFC 7208 section 7.1): the end must be a macro or a top label.
func checkDomainSpec(spec string) error {
	parts, err := parseMacros(spec, false)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return errors.New("the domain is empty")
	}
	if last := parts[len(parts)-1]; !last.literal {
		return nil
	}
	dot := strings.LastIndexByte(strings.TrimSuffix(spec, "."), '.')
	if dot < 0 || !spfTopLabel.MatchString(strings.TrimSuffix(spec, ".")[dot+1:]) {
		return errors.New("the domain does not end in a top-level label or a macro")
	}
	return nil
}
