package strict

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Size is a number of bytes: 1024, "100KiB", "50MiB", "2GiB". Only binary units are known, so that none is mistaken.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseSize reads a size as the configuration writes it.
func ParseSize(s string) (Size, error) {
	number, factor := s, int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor || number[0] == '+' {
		return 0, fmt.Errorf("expected a size like 1024, 100KiB or 50MiB, got %s", quoteShort(s))
	}
	return Size(n * factor), nil
}

// String writes the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits[:len(sizeUnits)-1] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseDuration reads a duration: Go's form ("3s", "1h30m"), with days before it ("7d", "1d12h"). It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("expected a duration like 30s, 5m or 7d, got %s", quoteShort(s))
	rest := s
	var days int64
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, bad
		}
		days, rest = int64(n), after
		if rest == "" {
			rest = "0"
		}
	}
	d, err := time.ParseDuration(rest)
	total := d + time.Duration(days)*24*time.Hour
	if err != nil || d < 0 || total < d || strings.ContainsAny(rest, "+-") {
		return 0, bad
	}
	return total, nil
}

// ParsePrefix reads a network: "10.0.0.0/8", or an address alone, which is a /32 or /128.
func ParsePrefix(s string) (netip.Prefix, error) {
	bad := fmt.Errorf("expected a network like 192.0.2.0/24, 2001:db8::/32 or one address, got %s", quoteShort(s))
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, bad
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, bad
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("the network %s has bits beyond its prefix, expected %s", s, p.Masked())
	}
	return p, nil
}

// scalarFor returns what reads a scalar into a value of type t, or nil when t is no scalar. The reader returns what is
// wrong, "" when nothing is.
func scalarFor(t reflect.Type) func(*Node, reflect.Value) string {
	switch t {
	case reflect.TypeFor[Size]():
		return parsed(ParseSize)
	case reflect.TypeFor[time.Duration]():
		return parsed(ParseDuration)
	case reflect.TypeFor[netip.Prefix]():
		return parsed(ParsePrefix)
	case reflect.TypeFor[netip.Addr]():
		return parsed(parseAddr)
	}
	if reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return func(n *Node, v reflect.Value) string {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Text())); err != nil {
				return err.Error()
			}
			return ""
		}
	}
	switch t.Kind() {
	case reflect.String:
		return func(n *Node, v reflect.Value) string { v.SetString(n.Text()); return "" }
	case reflect.Bool:
		return decodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return decodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return decodeUint
	case reflect.Float32, reflect.Float64:
		return decodeFloat
	}
	return nil
}

func scalarName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Size]():
		return "a size like 100KiB"
	case reflect.TypeFor[time.Duration]():
		return "a duration like 30s"
	case reflect.TypeFor[netip.Prefix]():
		return "a network like 192.0.2.0/24"
	case reflect.TypeFor[netip.Addr]():
		return "an IP address"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map:
		return "a value" // an own type that reads itself from text
	}
	return "a whole number"
}

func parsed[T any](parse func(string) (T, error)) func(*Node, reflect.Value) string {
	return func(n *Node, v reflect.Value) string {
		x, err := parse(n.Text())
		if err != nil {
			return err.Error()
		}
		v.Set(reflect.ValueOf(x))
		return ""
	}
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("expected an IP address, got %s", quoteShort(s))
	}
	return a.Unmap(), nil
}

func decodeBool(n *Node, v reflect.Value) string {
	if n.Quoted() || n.Text() != "true" && n.Text() != "false" {
		return "expected true or false, got " + n.quoted()
	}
	v.SetBool(n.Text() == "true")
	return ""
}

func decodeInt(n *Node, v reflect.Value) string {
	lo, hi := int64(math.MinInt64)>>(64-v.Type().Bits()), int64(math.MaxInt64)>>(64-v.Type().Bits())
	i, err := strconv.ParseInt(n.Text(), 10, 64)
	if n.Quoted() || err != nil && !isRange(err) {
		return "expected a whole number, got " + n.quoted()
	}
	if err != nil || i < lo || i > hi {
		return fmt.Sprintf("expected a whole number from %d to %d, got %s", lo, hi, n.Text())
	}
	v.SetInt(i)
	return ""
}

func decodeUint(n *Node, v reflect.Value) string {
	hi := uint64(math.MaxUint64) >> (64 - v.Type().Bits())
	i, err := strconv.ParseUint(n.Text(), 10, 64)
	if _, signed := strconv.ParseInt(n.Text(), 10, 64); n.Quoted() || err != nil && !isRange(err) && signed != nil {
		return "expected a whole number, got " + n.quoted()
	}
	if err != nil || i > hi {
		return fmt.Sprintf("expected a whole number from 0 to %d, got %s", hi, n.Text())
	}
	v.SetUint(i)
	return ""
}

func decodeFloat(n *Node, v reflect.Value) string {
	f, err := strconv.ParseFloat(n.Text(), v.Type().Bits())
	// Hexadecimal, Inf and NaN are numbers to strconv and surprises to people.
	if n.Quoted() || err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(n.Text(), "xX_") {
		return "expected a number, got " + n.quoted()
	}
	v.SetFloat(f)
	return ""
}

func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}

// quoted shows the scalar as it was written, so that a number in quotes is seen to be a string.
func (n *Node) quoted() string {
	if n.Quoted() {
		return "the string " + quoteShort(n.Text())
	}
	return quoteShort(n.Text())
}

// quoteShort quotes s and cuts what is too long for a message.
func quoteShort(s string) string {
	const limit = 60
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}
