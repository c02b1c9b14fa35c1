package message

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// A zipDirectory is what the directory of a ZIP archive tells. (PKWARE's APPNOTE.TXT, section 4.3, has the format: files, each
// with a local header; then the central directory with a header for each file; then the end record.)
type zipDirectory struct {
	names     []string
	encrypted bool
	macros    bool
}

const (
	zipLocalHeader   = 30 // octets before the name
	zipCentralHeader = 46
	zipEndRecord     = 22
)

// readZip reads the central directory in the archive's end, or, where there is none, the local headers in its beginning.
func readZip(s *sample, maxNames int) (zipDirectory, error) {
	var d zipDirectory
	end := bytes.LastIndex(s.tail, []byte("PK\x05\x06"))
	if end < 0 || len(s.tail)-end < zipEndRecord {
		d.local(s.head, maxNames)
		return d, errZip
	}
	size := int64(binary.LittleEndian.Uint32(s.tail[end+12:]))
	count := int(binary.LittleEndian.Uint16(s.tail[end+10:]))
	start := int64(end) - size
	if start < 0 {
		// The directory is longer than what is kept of it: go on from its first header that is there.
		start = int64(max(0, bytes.Index(s.tail, []byte("PK\x01\x02"))))
	}
	d.central(s.tail[start:end], maxNames)
	if len(d.names) < min(count, maxNames) {
		d.local(s.head, maxNames)
		return d, errZip
	}
	return d, nil
}

func (d *zipDirectory) central(b []byte, maxNames int) {
	for len(b) >= zipCentralHeader && string(b[:4]) == "PK\x01\x02" && len(d.names) < maxNames {
		flags := binary.LittleEndian.Uint16(b[8:])
		name := int(binary.LittleEndian.Uint16(b[28:]))
		rest := name + int(binary.LittleEndian.Uint16(b[30:])) + int(binary.LittleEndian.Uint16(b[32:]))
		if len(b) < zipCentralHeader+name {
			return
		}
		d.add(b[zipCentralHeader:zipCentralHeader+name], flags)
		b = b[min(len(b), zipCentralHeader+rest):]
	}
}

// local reads the local headers that are found in b, without going by their sizes, which may stand behind the data.
func (d *zipDirectory) local(b []byte, maxNames int) {
	seen := map[string]bool{}
	for _, n := range d.names {
		seen[n] = true
	}
	for len(d.names) < maxNames {
		i := bytes.Index(b, []byte("PK\x03\x04"))
		if i < 0 || len(b)-i < zipLocalHeader {
			return
		}
		b = b[i:]
		name := int(binary.LittleEndian.Uint16(b[26:]))
		if len(b) < zipLocalHeader+name {
			return
		}
		if n := cleanName(guess(b[zipLocalHeader : zipLocalHeader+name])); !seen[n] {
			seen[n] = true
			d.add(b[zipLocalHeader:zipLocalHeader+name], binary.LittleEndian.Uint16(b[6:]))
		}
		b = b[zipLocalHeader+name:]
	}
}

func (d *zipDirectory) add(name []byte, flags uint16) {
	const flagEncrypted = 1
	d.encrypted = d.encrypted || flags&flagEncrypted != 0
	n := cleanName(guess(name))
	d.macros = d.macros || strings.HasSuffix(n, "vbaProject.bin")
	d.names = append(d.names, n)
}

// kind is the media type of the document that the archive is, "application/zip" if it is just an archive.
func (d *zipDirectory) kind() string {
	for _, n := range d.names {
		switch {
		case strings.HasPrefix(n, "word/"):
			return d.office("word", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
		case strings.HasPrefix(n, "xl/"):
			return d.office("excel", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
		case strings.HasPrefix(n, "ppt/"):
			return d.office("powerpoint", "application/vnd.openxmlformats-officedocument.presentationml.presentation")
		case n == "AndroidManifest.xml":
			return "application/vnd.android.package-archive"
		case n == "META-INF/MANIFEST.MF":
			return "application/java-archive"
		case n == "META-INF/manifest.xml":
			return "application/vnd.oasis.opendocument"
		case n == "META-INF/container.xml":
			return "application/epub+zip"
		}
	}
	return "application/zip"
}

// office is the media type of an Office document, which tells whether it may hold macros.
func (d *zipDirectory) office(program, plain string) string {
	if d.macros {
		return "application/vnd.ms-" + program + ".macroenabled.12"
	}
	return plain
}
