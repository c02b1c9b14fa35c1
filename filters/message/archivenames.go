package message

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"unicode"
	"unicode/utf16"
)

// Of archives in the forms that are in this file the names are listed, where they stand plainly, and whether a password is needed.
// Nothing is unpacked.

var (
	errRar      = errors.New("the RAR archive has a header that can't be read")
	errSevenZip = errors.New("the 7z archive has no readable header")
	errCab      = errors.New("the cabinet has no readable directory")
	errISO      = errors.New("the disk image has no readable directory")
)

// rar lists an archive in either of the two forms: a row of headers, each with its size and with the size of the data after it.
func (l *archiveList) rar(b []byte, within string) {
	switch {
	case bytes.HasPrefix(b, []byte("Rar!\x1a\x07\x01\x00")):
		l.rar5(b[8:], within)
	case bytes.HasPrefix(b, []byte("Rar!\x1a\x07\x00")):
		l.rar4(b[7:], within)
	default:
		l.err = errRar
	}
}

// rar4 reads the headers of versions 1.5 to 4: checksum (2 octets), type (1), flags (2), size (2).
func (l *archiveList) rar4(b []byte, within string) {
	const (
		archiveHeader, fileHeader, endHeader  = 0x73, 0x74, 0x7b
		headersEncrypted, fileEncrypted       = 0x80, 0x04
		hasData, largeFile, unicodeName, base = 0x8000, 0x100, 0x200, 32
	)
	for len(b) >= 7 {
		kind, flags, size := b[2], binary.LittleEndian.Uint16(b[3:]), int64(binary.LittleEndian.Uint16(b[5:]))
		if size < 7 || size > int64(len(b)) {
			l.err = errRar
			return
		}
		header := b[:size]
		data := int64(0)
		if (flags&hasData != 0 || kind == fileHeader) && len(header) >= 11 {
			data = int64(binary.LittleEndian.Uint32(header[7:]))
		}
		switch {
		case kind == archiveHeader && flags&headersEncrypted != 0:
			l.encrypted = true
			return
		case kind == endHeader:
			return
		case kind == fileHeader && len(header) >= base:
			l.encrypted = l.encrypted || flags&fileEncrypted != 0
			n := int(binary.LittleEndian.Uint16(header[26:]))
			rest := header[base:]
			if flags&largeFile != 0 && len(rest) >= 8 {
				data += int64(binary.LittleEndian.Uint32(header[base:])) << 32
				rest = rest[8:]
			}
			name := rest[:min(n, len(rest))]
			if flags&unicodeName != 0 {
				name, _, _ = bytes.Cut(name, []byte{0}) // a second form of the name follows
			}
			l.name(within + cleanName(guess(name)))
		}
		if data < 0 || data > int64(len(b))-size {
			return // the rest is not there, or not kept
		}
		b = b[size+data:]
	}
}

// rar5 reads the headers of version 5: checksum (4 octets), then numbers of seven bits an octet: size, type, flags, the size of the
// extra area and that of the data.
func (l *archiveList) rar5(b []byte, within string) {
	const (
		fileHeader, encryptionHeader, endHeader = 2, 4, 5
		hasExtra, hasData                       = 1, 2
	)
	for len(b) > 5 {
		r := numberReader{b: b[4:]}
		size := r.number()
		if r.bad || size == 0 || size > uint64(len(r.b)) {
			l.err = errRar
			return
		}
		header := numberReader{b: r.b[:size]}
		b = r.b[size:]
		kind, flags := header.number(), header.number()
		var extra, data uint64
		if flags&hasExtra != 0 {
			extra = header.number()
		}
		if flags&hasData != 0 {
			data = header.number()
		}
		switch kind {
		case encryptionHeader:
			l.encrypted = true
			return
		case endHeader:
			return
		case fileHeader:
			l.rar5File(header, extra, within)
		}
		if data > uint64(len(b)) {
			return
		}
		b = b[data:]
	}
}

// rar5File reads the header of a file from its flags on, and the records of its extra area, which is at its end.
func (l *archiveList) rar5File(r numberReader, extra uint64, within string) {
	const hasTime, hasChecksum, encryptionRecord = 2, 4, 1
	all := r.b
	flags := r.number()
	r.number() // size
	r.number() // attributes
	if flags&hasTime != 0 {
		r.skip(4)
	}
	if flags&hasChecksum != 0 {
		r.skip(4)
	}
	r.number() // compression
	r.number() // system
	n := r.number()
	if r.bad || n > uint64(len(r.b)) {
		l.err = errRar
		return
	}
	l.name(within + cleanName(guess(r.b[:n])))
	if extra > uint64(len(all)) {
		return
	}
	records := numberReader{b: all[uint64(len(all))-extra:]}
	for len(records.b) > 0 && !records.bad {
		size := records.number()
		if size == 0 || size > uint64(len(records.b)) {
			return
		}
		record := numberReader{b: records.b[:size]}
		l.encrypted = l.encrypted || record.number() == encryptionRecord
		records.b = records.b[size:]
	}
}

// A numberReader reads numbers of seven bits an octet, the lowest first.
type numberReader struct {
	b   []byte
	bad bool
}

func (r *numberReader) number() uint64 {
	n, used := binary.Uvarint(r.b)
	if used <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[used:]
	return n
}

func (r *numberReader) skip(n int) { r.b = r.b[min(n, len(r.b)):] }

// sevenZip lists an archive of 7-Zip. Its header is at the end; where it is compressed, as it is for most, the names can't be told. The
// method that stands in it, in either form, tells of a password.
func (l *archiveList) sevenZip(b []byte, within string) {
	const (
		signature                 = 32
		plainHeader, packedHeader = 1, 23
	)
	if len(b) < signature {
		l.err = errSevenZip
		return
	}
	offset, size := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
	rest := uint64(len(b) - signature)
	if offset > rest || size > rest-offset || size == 0 {
		if size > 0 {
			l.err = errSevenZip
		}
		return
	}
	header := b[signature+offset:][:size]
	if bytes.Contains(header, []byte("\x06\xf1\x07\x01")) { // AES-256 with SHA-256
		l.encrypted = true
	}
	switch header[0] {
	case plainHeader:
		for _, name := range sevenZipNames(header, l.max) {
			l.name(within + cleanName(name))
		}
	case packedHeader:
	default:
		l.err = errSevenZip
	}
}

// sevenZipNames finds the names in a plain header: the property 17, its size, an octet of zero, and the names in UTF-16, each ended by
// a zero. What stands before it is not read: it can only be by chance that something else looks so.
func sevenZipNames(header []byte, most int) []string {
	const property, maxTries = 17, 8
	tries := 0
	for i := 0; i < len(header) && tries < maxTries; i++ {
		if header[i] != property {
			continue
		}
		size, used := sevenZipNumber(header[i+1:])
		start := i + 1 + used
		if used == 0 || size < 3 || size%2 == 0 || size > uint64(len(header)-start) || header[start] != 0 {
			continue
		}
		tries++
		if names, ok := nullEnded(header[start+1:start+int(size)], most); ok {
			return names
		}
	}
	return nil
}

// sevenZipNumber reads a number whose first octet tells by its leading ones how many octets follow; used is 0 for a bad one.
func sevenZipNumber(b []byte) (n uint64, used int) {
	if len(b) == 0 {
		return 0, 0
	}
	first, mask := b[0], byte(0x80)
	for i := range 8 {
		if first&mask == 0 {
			return n | uint64(first&(mask-1))<<(8*i), i + 1
		}
		if i+1 >= len(b) {
			return 0, 0
		}
		n |= uint64(b[i+1]) << (8 * i)
		mask >>= 1
	}
	return n, 9
}

// nullEnded reads names in UTF-16, not more than most and one; ok is false for what is none.
func nullEnded(b []byte, most int) (names []string, ok bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			if len(units) == 0 {
				return nil, false
			}
			names = append(names, string(utf16.Decode(units)))
			if units = units[:0]; len(names) > most {
				return names, true
			}
			continue
		}
		if u < ' ' || len(units) > maxArchivePath {
			return nil, false
		}
		units = append(units, u)
	}
	return names, len(units) == 0 && len(names) > 0
}

// cab lists a cabinet (MS-CAB section 2): the header tells where the list of files is and how many there are.
func (l *archiveList) cab(b []byte, within string) {
	const header, entry, coded = 36, 16, 0x80
	if len(b) < header {
		l.err = errCab
		return
	}
	at, count := int64(binary.LittleEndian.Uint32(b[16:])), int(binary.LittleEndian.Uint16(b[28:]))
	for range count {
		if at+entry >= int64(len(b)) {
			l.err = errCab
			return
		}
		window := b[at+entry : min(int64(len(b)), at+entry+257)]
		end := bytes.IndexByte(window, 0)
		if end < 1 {
			l.err = errCab
			return
		}
		l.name(within + cleanName(guess(window[:end])))
		at += entry + int64(end) + 1
	}
}

// ISO 9660 (ECMA-119): sectors of 2048 octets; volume descriptors from sector 16 on, of which each holds the record of a root directory.
// Joliet adds a descriptor whose names are in UTF-16.
const (
	isoSector      = 2048
	isoDescriptors = 16
	maxDirectories = 50     // of one image
	maxRecords     = 10_000 // of files and directories in it
)

// iso lists a disk image, by the descriptor with the longer names where there are two, and looks at its files.
func (l *archiveList) iso(b []byte, within string, depth int) {
	var root []byte
	wide := false
	for sector := isoDescriptors; sector < isoDescriptors+8; sector++ {
		d := sliceAt(b, int64(sector)*isoSector, isoSector)
		if len(d) < isoSector || string(d[1:6]) != "CD001" || d[0] == 255 {
			break
		}
		switch {
		case d[0] == 1 && root == nil:
			root = d[156:190]
		case d[0] == 2 && bytes.HasPrefix(d[88:], []byte("%/")):
			root, wide = d[156:190], true
		}
	}
	if root == nil {
		l.err = errISO
		return
	}
	walk := isoWalk{list: l, image: b, wide: wide, within: within, depth: depth, seen: map[uint32]bool{}}
	walk.directory(root, "")
}

// An isoWalk goes through the directories of an image, each once.
type isoWalk struct {
	list   *archiveList
	image  []byte
	wide   bool
	within string
	depth  int
	seen   map[uint32]bool
	read   int // records
}

func (w *isoWalk) directory(record []byte, folder string) {
	at, size := isoExtent(record)
	if w.seen[at] || len(w.seen) >= maxDirectories {
		w.list.cut = w.list.cut || !w.seen[at]
		return
	}
	w.seen[at] = true
	b := sliceAt(w.image, int64(at)*isoSector, int64(size))
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 { // the rest of the sector is empty
			b = b[min(len(b), (len(b)-1)%isoSector+1):]
			continue
		}
		if n < 34 || n > len(b) || 33+int(b[32]) > n {
			w.list.err = errISO
			return
		}
		if w.read++; w.read > maxRecords {
			w.list.cut = true
			return
		}
		w.record(b[:n], folder)
		b = b[n:]
	}
}

func (w *isoWalk) record(r []byte, folder string) {
	const directory = 2
	raw := r[33 : 33+int(r[32])]
	if len(raw) == 1 && raw[0] <= 1 {
		return // the directory itself, and that above it
	}
	name := string(raw)
	if w.wide {
		units := make([]uint16, 0, len(raw)/2)
		for ; len(raw) >= 2; raw = raw[2:] {
			units = append(units, binary.BigEndian.Uint16(raw))
		}
		name = string(utf16.Decode(units))
	}
	if version := len(name) - 2; version > 0 && name[version] == ';' && unicode.IsDigit(rune(name[version+1])) {
		name = name[:version]
	}
	name = folder + cleanName(guess([]byte(name)))
	if r[25]&directory != 0 {
		w.directory(r, name+"/")
		return
	}
	at, size := isoExtent(r)
	w.list.entry(name, w.within, w.depth, func() io.Reader {
		return bytes.NewReader(sliceAt(w.image, int64(at)*isoSector, int64(size)))
	})
}

// isoExtent is the first sector of a file or directory, and its size in octets.
func isoExtent(record []byte) (at, size uint32) {
	return binary.LittleEndian.Uint32(record[2:]), binary.LittleEndian.Uint32(record[10:])
}

// sliceAt is what there is of b from an offset on.
func sliceAt(b []byte, from, size int64) []byte {
	from = min(from, int64(len(b)))
	return b[from:min(int64(len(b)), from+size)]
}
