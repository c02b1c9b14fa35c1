package proxy

import (
	"testing"

	"pgregory.net/rapid"
)

// What isPlainDomain lets past IDNA is what IDNA leaves as it is, or refuses.
func TestPlainDomains(t *testing.T) {
	plain := rapid.StringMatching(`[a-z0-9._-]{0,80}`)
	rapid.Check(t, func(t *rapid.T) {
		name := plain.Draw(t, "name")
		if !isPlainDomain(name) {
			return
		}
		if ascii, err := toASCII(name); err == nil && ascii != name {
			t.Fatalf("%q is taken for plain, and IDNA makes it %q", name, ascii)
		}
	})
	for _, name := range []string{"bücher.example", "xn--bcher-kva.example", "EXAMPLE.org", "a b", "mail.xn--a.org"} {
		if isPlainDomain(name) {
			t.Errorf("%q is taken for plain", name)
		}
	}
}
