package filters

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern/filters/message"
)

// maxARCSets is how many sets a chain may have (RFC 8617 section 5.2).
const maxARCSets = 50

// ARCSet is what one handler of the message added: what it found out on arrival (ARC-Authentication-Results), the
// message as it left (ARC-Message-Signature), and its seal over the chain so far (ARC-Seal).
type ARCSet struct {
	Sealer   string // d= of the seal, A-labels, lower case
	Selector string // s= of the seal
	State    string // cv= of the seal: "none", "pass" or "fail", as the handler found the chain before it

	results int // index of ARC-Authentication-Results in the header
	message *DKIMSignature
	seal    *DKIMSignature
}

// An arcField is one of the three fields of a set, read.
type arcField struct {
	instance int
	sig      *DKIMSignature // nil for ARC-Authentication-Results
	state    string         // of a seal
}

// arcReaders read the fields of a set by their lower-case names.
var arcReaders = map[string]func(value string) (arcField, error){
	"arc-authentication-results": readARCResults,
	"arc-message-signature":      readARCSignature,
	"arc-seal":                   readARCSeal,
}

// collectARC gathers the sets of a message, the first one first. The error says what is wrong with the structure of
// the chain (RFC 8617 section 5.2, steps 1 and 3). No sets and no error means that there is no chain.
func collectARC(header message.Header) ([]ARCSet, error) {
	found := map[string]map[int]arcField{}
	fields := 0
	for i, f := range header {
		name := strings.ToLower(strings.TrimRight(f.Name, " \t"))
		read := arcReaders[name]
		if read == nil {
			continue
		}
		if fields++; fields > 3*maxARCSets {
			return nil, fmt.Errorf("there are more than %d sets", maxARCSets)
		}
		_, value, _ := bytes.Cut(f.Raw, []byte{':'})
		field, err := read(string(value))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if found[name] == nil {
			found[name] = map[int]arcField{}
		}
		if _, twice := found[name][field.instance]; twice {
			return nil, fmt.Errorf("%s stands there twice for i=%d", f.Name, field.instance)
		}
		if field.sig == nil {
			field.sig = &DKIMSignature{}
		}
		field.sig.field = i
		found[name][field.instance] = field
	}
	return joinARC(found, fields)
}

// joinARC puts the sets together: 1, 2, 3 and so on, each with all three fields.
func joinARC(found map[string]map[int]arcField, fields int) ([]ARCSet, error) {
	sets := make([]ARCSet, (fields+2)/3)
	for i := range sets {
		results, ok1 := found["arc-authentication-results"][i+1]
		signature, ok2 := found["arc-message-signature"][i+1]
		seal, ok3 := found["arc-seal"][i+1]
		if !ok1 || !ok2 || !ok3 {
			return nil, fmt.Errorf("set %d is not whole", i+1)
		}
		sets[i] = ARCSet{
			Sealer: seal.sig.Domain, Selector: seal.sig.Selector, State: seal.state,
			results: results.sig.field, message: signature.sig, seal: seal.sig,
		}
	}
	return sets, nil
}

// checkARCStates looks at what the sealers said of the chain before them.
func checkARCStates(sets []ARCSet) error {
	if last := len(sets) - 1; sets[last].State == "fail" {
		return fmt.Errorf("it had failed already when %s sealed it", sets[last].Sealer)
	}
	for i, s := range sets {
		if want := map[bool]string{true: "none", false: "pass"}[i == 0]; s.State != want {
			return fmt.Errorf("cv=%s in set %d, where only cv=%s can be", s.State, i+1, want)
		}
	}
	return nil
}

// parseARCTags reads a tag list. Semicolons in a row, which readers of DKIM let pass, are an error here.
func parseARCTags(value string) (tagList, error) {
	if len(value) > maxDKIMField {
		return nil, fmt.Errorf("the field is longer than %d octets", maxDKIMField)
	}
	tags, err := parseTagList(value)
	if err != nil {
		return nil, err
	}
	specs := strings.TrimRight(withoutSpace(value), " ")
	if strings.Contains(specs, ";;") {
		return nil, errors.New("a tag is missing")
	}
	return tags, nil
}

// arcInstance reads i=: 1 to 50, in at most two digits (RFC 8617 section 4.2.1).
func arcInstance(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || len(s) > 2 || !isAllDigits(s) || n < 1 || n > maxARCSets {
		return 0, fmt.Errorf("i= is no number from 1 to %d", maxARCSets)
	}
	return n, nil
}

// readARCResults reads the instance at the front of ARC-Authentication-Results (RFC 8617 section 4.1.1). The results
// behind it are of interest only for sealers that are trusted.
func readARCResults(value string) (arcField, error) {
	front, _, ok := strings.Cut(value, ";")
	name, number, isTag := strings.Cut(front, "=")
	if !ok || !isTag || strings.Trim(name, " \t\r\n") != "i" {
		return arcField{}, errors.New("it does not begin with i=")
	}
	n, err := arcInstance(strings.Trim(number, " \t\r\n"))
	return arcField{instance: n}, err
}

// readARCSignature reads ARC-Message-Signature, which is a DKIM signature without v= and with another i=
// (RFC 8617 section 4.1.2). One that leaves part of the body open (l=) is refused before the body is hashed for it.
func readARCSignature(value string) (arcField, error) {
	tags, err := parseARCTags(value)
	if err != nil {
		return arcField{}, err
	}
	s := &DKIMSignature{BodyLength: -1, B: tags.dense("b"), Algorithm: strings.ToLower(tags.text("a"))}
	for _, name := range []string{"a", "b", "bh", "d", "h", "s", "i"} {
		if !tags.has(name) {
			return arcField{}, fmt.Errorf("tag %s is missing", name)
		}
	}
	n, err := arcInstance(tags.text("i"))
	for _, read := range []func(tagList) error{s.readOwner, s.readMethods, s.readTimes, s.readContents} {
		if err == nil {
			err = read(tags)
		}
	}
	if err == nil && s.BodyLength >= 0 {
		err = errors.New("l= leaves the rest of the body open to anyone")
	}
	return arcField{instance: n, sig: s}, err
}

// readARCSeal reads ARC-Seal (RFC 8617 section 4.1.3). It signs the sets of the chain and nothing else, so it has
// neither h= nor bh=.
func readARCSeal(value string) (arcField, error) {
	tags, err := parseARCTags(value)
	if err != nil {
		return arcField{}, err
	}
	s := &DKIMSignature{BodyLength: -1, B: tags.dense("b"), Algorithm: strings.ToLower(tags.text("a"))}
	for _, name := range []string{"a", "b", "cv", "d", "s", "i"} {
		if !tags.has(name) {
			return arcField{}, fmt.Errorf("tag %s is missing", name)
		}
	}
	if tags.has("h") {
		return arcField{}, errors.New("tag h is not for a seal")
	}
	state := strings.ToLower(tags.text("cv"))
	if state != "none" && state != "pass" && state != "fail" {
		return arcField{}, fmt.Errorf("cv=%q is unknown", cutText(state))
	}
	n, err := arcInstance(tags.text("i"))
	for _, read := range []func(tagList) error{s.readOwner, s.readMethods, s.readTimes} {
		if err == nil {
			err = read(tags)
		}
	}
	if err != nil {
		return arcField{}, err
	}
	if s.sig, err = base64.StdEncoding.DecodeString(s.B); err != nil || len(s.sig) == 0 {
		return arcField{}, errors.New("b= is no base64")
	}
	return arcField{instance: n, sig: s, state: state}, nil
}
