package dns

import (
	"context"
	"errors"
	"os"
	"strings"

	mdns "github.com/miekg/dns"
)

// errSilent is the cause of a failure where a server did not answer in time.
var errSilent = errors.New("no answer")

// Reason is one word for why nobody knows what was looked up, for logs and counts: servfail, refused (the server answered
// so), timeout, cancelled (nobody waited any more), budget, offline, or failed for anything else. It is "" where err is nil
// or says that there is no such record.
func Reason(err error) string {
	switch KindOf(err) {
	case 0, NotExist, NoData:
		return ""
	case NoNetwork:
		return "offline"
	case OverBudget:
		return "budget"
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		switch r.what {
		case mdns.RcodeToString[mdns.RcodeServerFailure], mdns.RcodeToString[mdns.RcodeRefused]:
			return strings.ToLower(r.what)
		}
		return "failed"
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return "failed"
}
