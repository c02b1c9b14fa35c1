package samples

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

var update = flag.Bool("update", false, "sign the samples again and write the public keys into the zone")

// signedFields is what the samples' senders sign, as far as a message has it (RFC 6376 section 5.4.1).
var signedFields = []string{
	"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References", "Sender", "MIME-Version", "Content-Type",
	"Content-Transfer-Encoding", "List-Id", "List-Post", "List-Unsubscribe", "List-Unsubscribe-Post",
}

const keysMarker = "$ORIGIN .\n"

// The zone must hold the public half of each key that signs, and nothing else may stand behind the marker.
func TestZoneHoldsTheKeys(t *testing.T) {
	if *update {
		resign(t)
	}
	src := string(mustRead(t, "zone"))
	i := strings.LastIndex(src, keysMarker)
	if i < 0 {
		t.Fatalf("the zone has no line %q", keysMarker)
	}
	i += len(keysMarker)
	want := keyRecords(t)
	if *update {
		if err := os.WriteFile("zone", []byte(src[:i]+want), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("the samples are made anew; run the tests again without -update")
	}
	if got := src[i:]; got != want {
		t.Errorf("the keys of the zone are\n%s, want\n%s(go test -update writes them)", got, want)
	}
}

// keyRecords gives the TXT records of all selectors, sorted.
func keyRecords(t *testing.T) string {
	t.Helper()
	records := map[string]string{}
	for _, s := range load(t) {
		for _, sign := range s.Sign {
			records[sign.Selector+"._domainkey."+sign.Domain+"."] = keyRecord(t, sign.Key)
		}
	}
	names := make([]string, 0, len(records))
	for n := range records {
		names = append(names, n)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s TXT %s\n", n, records[n])
	}
	return b.String()
}

// keyRecord is the data of a key's TXT record, in strings of at most 255 octets (RFC 6376 section 3.6.2.2).
func keyRecord(t *testing.T, name string) string {
	t.Helper()
	var text string
	switch pub := key(t, name).Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		text = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	case ed25519.PublicKey: // RFC 8463 section 4
		text = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(pub)
	default:
		t.Fatalf("key %s is a %T", name, pub)
	}
	var quoted []string
	for len(text) > 200 {
		quoted = append(quoted, `"`+text[:200]+`"`)
		text = text[200:]
	}
	return strings.Join(append(quoted, `"`+text+`"`), " ")
}

func key(t *testing.T, name string) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(mustRead(t, "keys/"+name+".pem"))
	if block == nil {
		t.Fatalf("keys/%s.pem is not PEM", name)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatalf("keys/%s.pem: %v", name, err)
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		t.Fatalf("keys/%s.pem is a %T, which cannot sign", name, k)
	}
	return signer
}

// resign takes the signatures off each sample that has some, undoes what was changed after signing, and does it again.
func resign(t *testing.T) {
	t.Helper()
	for _, s := range load(t) {
		if len(s.Sign) == 0 {
			continue
		}
		msg := unsigned(s.Data)
		if s.Tamper.From != "" {
			msg = replaceOnce(t, s.File, msg, s.Tamper.To, s.Tamper.From)
		}
		for _, sign := range s.Sign {
			msg = append(signature(t, sign, msg), msg...)
		}
		if s.Tamper.From != "" {
			msg = replaceOnce(t, s.File, msg, s.Tamper.From, s.Tamper.To)
		}
		if err := os.WriteFile(s.File, msg, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replaceOnce replaces what must occur once, or not at all when the file is new and was never changed.
func replaceOnce(t *testing.T, file string, msg []byte, from, to string) []byte {
	t.Helper()
	if n := bytes.Count(msg, []byte(from)) + bytes.Count(msg, []byte(to)); n != 1 {
		t.Fatalf("%s: %q or %q occurs %d times, want once", file, from, to, n)
	}
	return bytes.Replace(msg, []byte(from), []byte(to), 1)
}

// unsigned removes the DKIM-Signature fields from the top of a message.
func unsigned(msg []byte) []byte {
	for bytes.HasPrefix(msg, []byte("DKIM-Signature:")) {
		end := bytes.Index(msg, []byte("\r\n"))
		for msg[end+2] == ' ' || msg[end+2] == '\t' {
			end += 2 + bytes.Index(msg[end+2:], []byte("\r\n"))
		}
		msg = msg[end+2:]
	}
	return bytes.Clone(msg)
}

// signature makes the DKIM-Signature field of a message.
func signature(t *testing.T, sign Sign, msg []byte) []byte {
	t.Helper()
	seen := msg
	if sign.Without != "" {
		i := bytes.Index(msg, []byte(sign.Without))
		if i < 0 {
			t.Fatalf("%q is not in the message", sign.Without)
		}
		seen = msg[:i]
	}
	header, _, _ := bytes.Cut(seen, []byte("\r\n\r\n"))
	var fields []string
	for _, f := range signedFields {
		if bytes.Contains(bytes.ToLower(append([]byte("\r\n"), header...)), []byte("\r\n"+strings.ToLower(f)+":")) {
			fields = append(fields, f)
		}
	}
	signer, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: sign.Domain, Selector: sign.Selector, Signer: key(t, sign.Key), HeaderKeys: fields,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Write(seen); err != nil {
		t.Fatal(err)
	}
	if err := signer.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(signer.Signature())
}
