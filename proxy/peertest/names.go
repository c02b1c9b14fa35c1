package peertest

import (
	"testing"

	"postern/filters/dns/zone"
)

// StartNames starts a name server that answers from the text of a zone, and knows no other names. It ends with the test.
func StartNames(t testing.TB, source string) *zone.Server {
	t.Helper()
	z, err := zone.Parse("zone", []byte(source))
	if err != nil {
		t.Fatalf("%v in\n%s", err, source)
	}
	s, err := zone.Serve(z)
	if err != nil {
		t.Fatalf("start a name server: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("end a name server: %v", err)
		}
	})
	return s
}
