package message

import (
	"io"
	"path"
	"strings"
)

// A Part is a node of the MIME tree: the message itself, a part of a multipart, or a message within a message.
type Part struct {
	// ID is the part's place: "1" is the message itself, "1.2" the second part of a multipart message, "1.2.1" the message
	// that the part "1.2" of type message/rfc822 holds.
	ID     string
	Parent *Part // nil for the message itself
	Depth  int   // 1 for the message itself

	Header      Header
	Type        string            // media type in lower case: "text/plain", which also stands for an absent or unreadable one
	Params      map[string]string // parameters of Content-Type, names in lower case, values decoded (RFC 2231)
	Disposition string            // "attachment", "inline", other, in lower case; or empty
	Encoding    string            // Content-Transfer-Encoding in lower case: "base64", "quoted-printable", "7bit" …; or empty
	Charset     string            // as declared, in lower case; or empty
	Name        string            // file name, decoded; or empty

	m                                          *Message
	headerStart, headerEnd, bodyStart, bodyEnd int64
	opaque                                     bool // a multipart or message that is read as one body after all
}

// Raw is the part's body as it stands in the message, still encoded.
func (p *Part) Raw() *io.SectionReader {
	return io.NewSectionReader(p.m.src, p.bodyStart, p.bodyEnd-p.bodyStart)
}

// Content is the part's body with the transfer encoding decoded: bytes that don't belong are left out, a cut-off body gives
// what there is. The charset of a text is left as it is.
func (p *Part) Content() io.Reader {
	return newContentReader(p, nil)
}

// Leaf reports whether the part has a body of its own: neither a multipart nor a message, or one that could not be divided.
func (p *Part) Leaf() bool { return p.opaque || !p.multipart() && !p.message() }

func (p *Part) multipart() bool { return strings.HasPrefix(p.Type, "multipart/") }

// message reports whether the body is a message to be read as parts. One that is encoded, which RFC 2046 section 5.2.1
// forbids, is left as one body.
func (p *Part) message() bool {
	if p.Type != "message/rfc822" && p.Type != "message/global" {
		return false
	}
	return p.Encoding != "base64" && p.Encoding != "quoted-printable"
}

// readFields takes from the header section what MIME says about the body.
func (p *Part) readFields() {
	p.readType()
	p.readEncoding()
	disp, params := "", map[string]string(nil)
	if f, ok := p.Header.First("Content-Disposition"); ok {
		disp, params, _ = ParseMediaType(f.Value())
		p.Disposition = disp
	}
	if words := strings.Fields(p.Params["charset"]); len(words) > 0 {
		// A comment may follow; and "charset=charset=utf-8" is a known slip.
		p.Charset = strings.TrimPrefix(strings.ToLower(cutUTF8(words[0], 64)), "charset=")
	}
	p.readName(cleanName(params["filename"]), cleanName(p.Params["name"]))
}

// readName chooses between the file name of Content-Disposition and that of Content-Type: the former, as clients do, but one
// with an extension before one without, since an extension is what makes a file open.
func (p *Part) readName(filename, name string) {
	p.Name = filename
	ext, other := path.Ext(filename), path.Ext(name)
	if filename == "" || ext == "" && other != "" {
		p.Name = name
	}
	if ext != "" && other != "" && !strings.EqualFold(ext, other) {
		p.m.defects.add("two_names", "part %s is %s and %s", p.ID, filename, name)
	}
}

func (p *Part) readType() {
	p.Type = "text/plain"
	if p.Parent != nil && p.Parent.Type == "multipart/digest" {
		p.Type = "message/rfc822" // RFC 2046 section 5.1.5
	}
	fields := p.Header.All("Content-Type")
	if len(fields) == 0 {
		return
	}
	if len(fields) > 1 {
		p.m.defects.add("bad_content_type", "part %s has %d Content-Type fields", p.ID, len(fields))
	}
	mediaType, params, ok := ParseMediaType(fields[0].Value())
	p.Params = params
	major, minor, _ := strings.Cut(mediaType, "/")
	typed := major != "" && minor != ""
	if typed {
		p.Type = mediaType
	}
	if !ok || !typed {
		p.m.defects.add("bad_content_type", "part %s: %s", p.ID, fields[0].Value())
	}
}

func (p *Part) readEncoding() {
	f, ok := p.Header.First("Content-Transfer-Encoding")
	if !ok {
		return
	}
	v, _, _ := strings.Cut(stripComments(f.Value()), ";")
	p.Encoding = strings.ToLower(strings.Trim(v, " \t\""))
	switch p.Encoding {
	case "7bit", "8bit", "binary":
	case "base64", "quoted-printable":
		if p.multipart() || strings.HasPrefix(p.Type, "message/rfc822") {
			p.m.defects.add("bad_encoding", "part %s of type %s is encoded in %s", p.ID, p.Type, p.Encoding)
		}
	default:
		p.m.defects.add("bad_encoding", "part %s: %s", p.ID, p.Encoding)
	}
}

// cleanName makes a file name one line without surrounding space.
func cleanName(s string) string {
	return strings.TrimSpace(printable(s, 1000))
}
