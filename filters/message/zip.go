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
	entries   []zipEntry
	encrypted bool
	macros    bool

	head   []byte
	before int64 // octets of the file before the archive in it
}

// A zipEntry is a file in an archive.
type zipEntry struct {
	name   string
	flags  uint16
	method uint16
	size   int64 // of the data as they stand in the archive; 0 if that is not told
	data   int64 // where these begin; negative if that is not known
}

func (e zipEntry) encrypted() bool { return e.flags&1 != 0 }

// Methods of compression.
const (
	zipStored   = 0
	zipDeflated = 8
)

const (
	zipLocalHeader   = 30 // octets before the name
	zipCentralHeader = 46
	zipEndRecord     = 22
)

// readZip reads the central directory in the archive's end, or, where there is none, the local headers in its beginning. Where the data
// of the files are is told as places in head.
func readZip(head, tail []byte, maxNames int) (zipDirectory, error) {
	d := zipDirectory{head: head}
	end := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if end < 0 || len(tail)-end < zipEndRecord {
		d.local(head, maxNames)
		return d, errZip
	}
	size := int64(binary.LittleEndian.Uint32(tail[end+12:]))
	count := int(binary.LittleEndian.Uint16(tail[end+10:]))
	start := int64(end) - size
	d.before = start - int64(binary.LittleEndian.Uint32(tail[end+16:])) // what stands before the archive in its file
	if start < 0 {
		// The directory is longer than what is kept of it: go on from its first header that is there.
		start = int64(max(0, bytes.Index(tail, []byte("PK\x01\x02"))))
	}
	d.central(tail[start:end], maxNames)
	if len(d.names) < min(count, maxNames) {
		d.local(head, maxNames)
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
		d.add(b[zipCentralHeader:zipCentralHeader+name], zipEntry{
			flags: flags, method: binary.LittleEndian.Uint16(b[10:]), size: int64(binary.LittleEndian.Uint32(b[20:])),
			data: d.dataOf(int64(binary.LittleEndian.Uint32(b[42:]))),
		})
		b = b[min(len(b), zipCentralHeader+rest):]
	}
}

// local reads the local headers that are found in b, without going by their sizes, which may stand behind the data.
func (d *zipDirectory) local(b []byte, maxNames int) {
	seen := map[string]bool{}
	for _, n := range d.names {
		seen[n] = true
	}
	whole := len(b)
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
			d.add(b[zipLocalHeader:zipLocalHeader+name], zipEntry{
				flags: binary.LittleEndian.Uint16(b[6:]), method: binary.LittleEndian.Uint16(b[8:]), size: int64(binary.LittleEndian.Uint32(b[18:])),
				data: int64(whole - len(b) + zipLocalHeader + name + int(binary.LittleEndian.Uint16(b[28:]))),
			})
		}
		b = b[zipLocalHeader+name:]
	}
}

// dataOf is where the data begin that follow a local header; -1 if that is not there.
func (d *zipDirectory) dataOf(header int64) int64 {
	header += d.before
	h := sliceAt(d.head, max(header, 0), zipLocalHeader)
	if header < 0 || len(h) < zipLocalHeader || string(h[:4]) != "PK\x03\x04" {
		return -1
	}
	return header + zipLocalHeader + int64(binary.LittleEndian.Uint16(h[26:])) + int64(binary.LittleEndian.Uint16(h[28:]))
}

func (d *zipDirectory) add(name []byte, e zipEntry) {
	d.encrypted = d.encrypted || e.encrypted()
	n := cleanName(guess(name))
	d.macros = d.macros || strings.HasSuffix(n, "vbaProject.bin")
	d.names = append(d.names, n)
	e.name = n
	d.entries = append(d.entries, e)
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
