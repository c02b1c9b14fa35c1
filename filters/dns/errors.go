package dns

import (
	"errors"
	"strconv"
)

// Kind says why there is no answer.
type Kind uint8

// The kinds. NotExist and NoData are answers (the "void look-ups" of RFC 7208, section 4.6.4); the others mean that nobody
// knows.
const (
	NotExist   Kind = iota + 1 // NXDOMAIN: there is no such name; also a name that cannot stand in DNS
	NoData                     // the name exists without a record of this type
	Temporary                  // time-out, SERVFAIL, refused, malformed, a CNAME loop, too large
	NoNetwork                  // the resolver is [Offline]
	OverBudget                 // the budget of [WithBudget] is used up
)

// String gives the kind as the logs write it.
func (k Kind) String() string {
	switch k {
	case NotExist:
		return "no such name"
	case NoData:
		return "no such record"
	case Temporary:
		return "temporary failure"
	case NoNetwork:
		return "offline"
	case OverBudget:
		return "look-up budget used up"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Error is what every look-up that yields no record returns.
type Error struct {
	Name string // as it was asked
	Type string // "TXT", "A"
	Kind Kind
	Err  error // the cause; nil where the kind says it all
}

// Error quotes the name, which a stranger may have chosen.
func (e *Error) Error() string {
	s := "dns: " + e.Type + " " + strconv.Quote(e.Name) + ": " + e.Kind.String()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause, such as context.Canceled or [ErrClosed].
func (e *Error) Unwrap() error { return e.Err }

// ErrClosed is the cause of the failure of look-ups after [Resolver.Close].
var ErrClosed = errors.New("the resolver is closed")

// KindOf gives the kind of err: 0 for nil, Temporary for an error that is no [*Error].
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Temporary
}

// IsNotExist reports whether err says that the name does not exist.
func IsNotExist(err error) bool { return KindOf(err) == NotExist }

// IsNoData reports whether err says that the name has no record of the type.
func IsNoData(err error) bool { return KindOf(err) == NoData }

// IsVoid reports whether err says that there is no such record, for whichever of the two reasons.
func IsVoid(err error) bool { return IsNotExist(err) || IsNoData(err) }

// IsOffline reports whether err says that nobody was asked, because the resolver is [Offline].
func IsOffline(err error) bool { return KindOf(err) == NoNetwork }

// IsTemporary reports whether err leaves open whether there is such a record: any error but the void ones.
func IsTemporary(err error) bool { return err != nil && !IsVoid(err) }
