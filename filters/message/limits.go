package message

// Limits bound what is kept of one message, so that a hostile one costs no more than it weighs.
// What lies beyond a limit is left out and leaves a defect.
type Limits struct {
	Header      int64 // octets of header sections kept, those of all parts together
	Fields      int   // header fields kept, those of all parts together
	Depth       int   // nesting of parts
	Parts       int   // parts read
	Text        int   // octets of text kept, of each kind: visible, hidden
	HTML        int   // octets of text and HTML source read, decoded
	Links       int   // links kept
	Shown       int   // octets kept of the text that a link shows
	Attachments int   // attachments kept
	Names       int   // names listed of one archive
}

// DefaultLimits are the limits that [Read] applies.
var DefaultLimits = Limits{
	Header:      1 << 20,
	Fields:      10_000,
	Depth:       50,
	Parts:       1_000,
	Text:        1 << 20,
	HTML:        4 << 20,
	Links:       1_000,
	Shown:       500,
	Attachments: 1_000,
	Names:       1_000,
}
