package message

import (
	"strconv"
	"strings"
)

type colourKind uint8

const (
	colourUnset colourKind = iota
	colourKnown
	colourUnknown // an image, or what can't be read: it hides nothing
	colourClear   // transparent
)

// A colour is one of CSS.
type colour struct {
	kind    colourKind
	r, g, b uint8
}

var (
	white = colour{kind: colourKnown, r: 255, g: 255, b: 255}
	black = colour{kind: colourKnown}
)

func (c colour) over(below colour) colour {
	if c.kind == colourUnset {
		return below
	}
	return c
}

// sameColour is how near two colours are, in each channel, that an eye can't tell apart.
const sameColour = 8

// same reports whether text of colour c can't be seen on bg.
func (c colour) same(bg colour) bool {
	if c.kind == colourClear {
		return true
	}
	if c.kind != colourKnown || bg.kind != colourKnown {
		return false
	}
	return near(c.r, bg.r) && near(c.g, bg.g) && near(c.b, bg.b)
}

func near(a, b uint8) bool { return max(a, b)-min(a, b) <= sameColour }

var colourNames = map[string]colour{
	"white": white, "black": black,
	"red": {kind: colourKnown, r: 255}, "lime": {kind: colourKnown, g: 255}, "blue": {kind: colourKnown, b: 255},
	"yellow": {kind: colourKnown, r: 255, g: 255}, "aqua": {kind: colourKnown, g: 255, b: 255},
	"cyan": {kind: colourKnown, g: 255, b: 255}, "fuchsia": {kind: colourKnown, r: 255, b: 255},
	"magenta": {kind: colourKnown, r: 255, b: 255}, "silver": {kind: colourKnown, r: 192, g: 192, b: 192},
	"gray": {kind: colourKnown, r: 128, g: 128, b: 128}, "grey": {kind: colourKnown, r: 128, g: 128, b: 128},
	"maroon": {kind: colourKnown, r: 128}, "olive": {kind: colourKnown, r: 128, g: 128},
	"green": {kind: colourKnown, g: 128}, "purple": {kind: colourKnown, r: 128, b: 128},
	"teal": {kind: colourKnown, g: 128, b: 128}, "navy": {kind: colourKnown, b: 128},
	"orange": {kind: colourKnown, r: 255, g: 165}, "whitesmoke": {kind: colourKnown, r: 245, g: 245, b: 245},
	"lightgray": {kind: colourKnown, r: 211, g: 211, b: 211}, "lightgrey": {kind: colourKnown, r: 211, g: 211, b: 211},
	"ivory": {kind: colourKnown, r: 255, g: 255, b: 240}, "snow": {kind: colourKnown, r: 255, g: 250, b: 250},
	"ghostwhite": {kind: colourKnown, r: 248, g: 248, b: 255}, "floralwhite": {kind: colourKnown, r: 255, g: 250, b: 240},
	"mintcream": {kind: colourKnown, r: 245, g: 255, b: 250}, "azure": {kind: colourKnown, r: 240, g: 255, b: 255},
}

// parseColour reads a colour as in CSS or in an HTML attribute.
func parseColour(s string) colour {
	s = strings.ToLower(strings.TrimSpace(s))
	unknown := colour{kind: colourUnknown}
	if c, ok := colourNames[s]; ok {
		return c
	}
	switch {
	case s == "" || s == "inherit" || s == "currentcolor":
		return colour{}
	case s == "transparent":
		return colour{kind: colourClear}
	case strings.HasPrefix(s, "rgb"):
		return parseRGB(s)
	}
	hex := strings.TrimPrefix(s, "#")
	if len(hex) == 3 || len(hex) == 4 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	if len(hex) != 6 && len(hex) != 8 {
		return unknown
	}
	n, err := strconv.ParseUint(hex[:6], 16, 32)
	if err != nil {
		return unknown
	}
	return colour{kind: colourKnown, r: uint8(n >> 16), g: uint8(n >> 8), b: uint8(n)}
}

// parseRGB reads "rgb(1, 2, 3)" and "rgba(1, 2, 3, 0.5)".
func parseRGB(s string) colour {
	_, inner, _ := strings.Cut(s, "(")
	words := strings.FieldsFunc(inner, func(r rune) bool { return r == ',' || r == ' ' || r == '/' || r == ')' })
	if len(words) < 3 {
		return colour{kind: colourUnknown}
	}
	var v [3]uint8
	for i := range v {
		n, unit, ok := leadingNumber(words[i])
		if !ok {
			return colour{kind: colourUnknown}
		}
		if unit == "%" {
			n *= 2.55
		}
		v[i] = uint8(max(0, min(255, n)))
	}
	if len(words) > 3 {
		if alpha, _, ok := leadingNumber(words[3]); ok && alpha == 0 {
			return colour{kind: colourClear}
		}
	}
	return colour{kind: colourKnown, r: v[0], g: v[1], b: v[2]}
}

// parseBackground reads the colour out of a background property: unknown if there is an image.
func parseBackground(s string) colour {
	if strings.Contains(s, "url(") || strings.Contains(s, "gradient") {
		return colour{kind: colourUnknown}
	}
	if strings.HasPrefix(s, "rgb") {
		return parseColour(s)
	}
	for word := range strings.FieldsSeq(s) {
		if c := parseColour(word); c.kind == colourKnown {
			return c
		}
	}
	return colour{}
}
