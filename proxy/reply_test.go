package proxy

import (
	"errors"
	"testing"

	"github.com/emersion/go-smtp"
)

// A reply that nobody gave must not become the 250 that go-smtp says where there is no error.
func TestNoReplyIsNoSuccess(t *testing.T) {
	var told *smtp.SMTPError
	if err := (reply{}).err(); !errors.As(err, &told) || told.Code != 451 {
		t.Errorf("got %v, want a 451", err)
	}
}
