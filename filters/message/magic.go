package message

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A signature is bytes that files of one type have at one place.
type signature struct {
	at        int
	bytes     string
	mediaType string
}

// signatures are tried in order. Types without a registered name have the one that is most in use.
var signatures = []signature{
	{bytes: "PK\x03\x04", mediaType: "application/zip"},
	{bytes: "PK\x05\x06", mediaType: "application/zip"}, // an empty one
	{bytes: "%PDF-", mediaType: "application/pdf"},
	{bytes: "MZ", mediaType: "application/x-msdownload"},
	{bytes: "\x7fELF", mediaType: "application/x-executable"},
	{bytes: "\xcf\xfa\xed\xfe", mediaType: "application/x-mach-binary"},
	{bytes: "\xca\xfe\xba\xbe", mediaType: "application/java-vm"},
	{bytes: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", mediaType: "application/x-ole-storage"},
	{bytes: "{\\rt", mediaType: "application/rtf"},
	{bytes: "Rar!\x1a\x07", mediaType: "application/vnd.rar"},
	{bytes: "7z\xbc\xaf\x27\x1c", mediaType: "application/x-7z-compressed"},
	{bytes: "\x1f\x8b", mediaType: "application/gzip"},
	{bytes: "BZh", mediaType: "application/x-bzip2"},
	{bytes: "\xfd7zXZ\x00", mediaType: "application/x-xz"},
	{bytes: "\x28\xb5\x2f\xfd", mediaType: "application/zstd"},
	{bytes: "MSCF\x00\x00\x00\x00", mediaType: "application/vnd.ms-cab-compressed"},
	{at: 7, bytes: "**ACE**", mediaType: "application/x-ace-compressed"},
	{at: 2, bytes: "-lh", mediaType: "application/x-lzh-compressed"},
	{bytes: "\x60\xea", mediaType: "application/x-arj"},
	{at: 257, bytes: "ustar", mediaType: "application/x-tar"},
	{at: 0x8001, bytes: "CD001", mediaType: "application/x-iso9660-image"},
	{at: 0x8001, bytes: "BEA01", mediaType: "application/x-iso9660-image"}, // UDF (ECMA-167)
	{bytes: "KDMV", mediaType: "application/x-vmdk"},
	{bytes: "vhdxfile", mediaType: "application/x-vhdx"},
	{bytes: "conectix", mediaType: "application/x-vhd"},
	{bytes: "L\x00\x00\x00\x01\x14\x02\x00", mediaType: "application/x-ms-shortcut"},
	{bytes: "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", mediaType: "application/onenote"},
	{bytes: "ITSF", mediaType: "application/vnd.ms-htmlhelp"},
	{bytes: "\x78\x9f\x3e\x22", mediaType: "application/vnd.ms-tnef"},
	{bytes: "\x89PNG\r\n\x1a\n", mediaType: "image/png"},
	{bytes: "GIF8", mediaType: "image/gif"},
	{bytes: "\xff\xd8\xff", mediaType: "image/jpeg"},
	{bytes: "BM", mediaType: "image/bmp"},
	{bytes: "II*\x00", mediaType: "image/tiff"},
	{bytes: "MM\x00*", mediaType: "image/tiff"},
	{bytes: "\x00\x00\x01\x00", mediaType: "image/x-icon"},
	{at: 8, bytes: "WEBP", mediaType: "image/webp"},
	{at: 8, bytes: "WAVE", mediaType: "audio/wav"},
	{at: 8, bytes: "AVI ", mediaType: "video/x-msvideo"},
	{bytes: "OggS", mediaType: "audio/ogg"},
	{bytes: "ID3", mediaType: "audio/mpeg"},
	{at: 4, bytes: "ftypheic", mediaType: "image/heic"},
	{at: 4, bytes: "ftypavif", mediaType: "image/avif"},
	{at: 4, bytes: "ftyp", mediaType: "video/mp4"},
	{bytes: "wOFF", mediaType: "font/woff"},
	{bytes: "wOF2", mediaType: "font/woff2"},
	{bytes: "SQLite format 3\x00", mediaType: "application/vnd.sqlite3"},
	{bytes: "!BDN", mediaType: "application/vnd.ms-outlook"},
}

// realType is the media type that a file's first bytes tell, "application/octet-stream" for unknown binary data and empty for no data.
func realType(head []byte) string {
	if len(head) == 0 {
		return ""
	}
	for _, s := range signatures {
		if len(head) >= s.at+len(s.bytes) && string(head[s.at:s.at+len(s.bytes)]) == s.bytes {
			return s.mediaType
		}
	}
	return textType(head)
}

// textType tells kinds of text apart.
func textType(head []byte) string {
	head = head[:min(len(head), 4096)]
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		head = bytes.ReplaceAll(head[2:], []byte{0}, nil) // UTF-16: good enough to look for tags
	}
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	for _, c := range head {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b {
			return "application/octet-stream"
		}
	}
	start := strings.ToLower(string(bytes.TrimLeft(head, " \t\r\n\f")))
	for _, p := range []struct{ prefix, mediaType string }{
		{prefix: "<!doctype html", mediaType: "text/html"},
		{prefix: "<html", mediaType: "text/html"},
		{prefix: "<svg", mediaType: "image/svg+xml"},
		{prefix: "#!", mediaType: "text/x-shellscript"},
		{prefix: "begin:vcard", mediaType: "text/vcard"},
		{prefix: "begin:vcalendar", mediaType: "text/calendar"},
	} {
		if strings.HasPrefix(start, p.prefix) {
			return p.mediaType
		}
	}
	if strings.HasPrefix(start, "<?xml") || strings.HasPrefix(start, "<!--") || strings.HasPrefix(start, "<!doctype") {
		switch {
		case strings.Contains(start, "<svg"):
			return "image/svg+xml"
		case strings.Contains(start, "<html"):
			return "text/html"
		case strings.HasPrefix(start, "<?xml"):
			return "text/xml"
		}
	}
	for _, tag := range []string{"<html", "<head>", "<body", "<script", "<meta ", "<form", "<iframe", "<a href", "<table", "<div"} {
		if strings.Contains(start, tag) {
			return "text/html"
		}
	}
	if utf8.Valid(head) || bytes.Count(head, []byte("\n")) > len(head)/200 {
		return "text/plain"
	}
	return "application/octet-stream"
}

// encrypted reports whether a file needs a password, for the types where that shows without reading much of it.
func encrypted(mediaType string, s *sample) bool {
	switch mediaType {
	case "application/pdf":
		return bytes.Contains(s.tail, []byte("/Encrypt")) || bytes.Contains(s.head, []byte("/Encrypt"))
	case "application/x-ole-storage":
		return s.locked
	case "application/vnd.rar":
		return rarEncrypted(s.head)
	}
	return false
}

func utf16LE(s string) []byte {
	b := make([]byte, 0, 2*len(s))
	for _, c := range []byte(s) {
		b = append(b, c, 0)
	}
	return b
}

// rarEncrypted looks at the flags of the first blocks: those of the archive in version 4, the type of the first block in version 5.
func rarEncrypted(head []byte) bool {
	switch {
	case bytes.HasPrefix(head, []byte("Rar!\x1a\x07\x00")) && len(head) > 7+13+5:
		const headersEncrypted, fileEncrypted = 0x80, 0x04
		return head[10]&headersEncrypted != 0 || head[7+13+2] == 0x74 && head[7+13+3]&fileEncrypted != 0
	case bytes.HasPrefix(head, []byte("Rar!\x1a\x07\x01\x00")) && len(head) > 8+6:
		const encryptionHeader = 4
		return head[8+4+1] == encryptionHeader
	}
	return false
}
