package message

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"strings"
)

// Archives are listed, and archives in them, so that a program does not hide in a box within a box. Of each file the first octets
// are looked at, which tell a program whatever it is called; nothing is unpacked whole but archives and Office documents. What is
// spent on it is bounded for a message, not for an archive, so that many small ones cost no more than a large one.
const (
	maxArchive     = 4 << 20 // octets of an attachment that are kept to be listed
	maxUnpacked    = 4 << 20 // octets that come out of the archives of a message
	maxOpened      = 200     // files in archives that are looked at
	maxNesting     = 3       // archives within each other that are listed
	maxBzip2       = 2       // files of bzip2 that are unpacked, as each takes megabytes
	entryHead      = 512     // octets of each file that are looked at
	maxArchivePath = 1000    // octets of a name
)

// An archiveBudget is what may yet be spent on the archives of a message.
type archiveBudget struct {
	unpacked, opened, bzip2 int
	inflate                 io.ReadCloser
}

func newArchiveBudget() *archiveBudget {
	return &archiveBudget{unpacked: maxUnpacked, opened: maxOpened, bzip2: maxBzip2}
}

// An archiveList is what is found in an attachment and the archives in it.
type archiveList struct {
	budget    *archiveBudget
	names     []string // of those in inner archives, after that of the archive and a slash
	max       int
	kinds     []string // that contents tell: words of [AttachmentKinds]
	encrypted bool     // something can't be looked into without a password
	cut       bool     // something was left out
	err       error    // why a list could not be read
}

// listed reports whether files of a type are listed.
func listed(mediaType string) bool {
	switch mediaType {
	case "application/zip", "application/x-tar", "application/gzip", "application/x-bzip2", "application/vnd.rar", "application/x-7z-compressed",
		"application/vnd.ms-cab-compressed", "application/x-iso9660-image":
		return true
	}
	return false
}

// list goes through an archive; name is that of the file, and within is what stands before the names in it.
func (l *archiveList) list(b []byte, mediaType, name, within string, depth int) {
	switch mediaType {
	case "application/x-tar":
		l.tar(b, within, depth)
	case "application/gzip":
		l.gzip(b, name, within, depth)
	case "application/x-bzip2":
		l.bzip2(b, name, within, depth)
	case "application/vnd.rar":
		l.rar(b, within)
	case "application/x-7z-compressed":
		l.sevenZip(b, within)
	case "application/vnd.ms-cab-compressed":
		l.cab(b, within)
	case "application/x-iso9660-image":
		l.iso(b, within, depth)
	}
}

// zip goes through a ZIP archive that is in b as a whole.
func (l *archiveList) zip(b []byte, dir *zipDirectory, within string, depth int) {
	for _, e := range dir.entries {
		if e.encrypted() {
			l.name(within + e.name)
			continue
		}
		l.entry(e.name, within, depth, func() io.Reader { return l.budget.zipEntry(b, e) })
	}
}

// zipEntry reads what a file in an archive holds; nil if it can't.
func (g *archiveBudget) zipEntry(b []byte, e zipEntry) io.Reader {
	if e.data < 0 || e.data > int64(len(b)) {
		return nil
	}
	data := b[e.data:]
	if e.size > 0 {
		data = data[:min(int64(len(data)), e.size)]
	}
	switch e.method {
	case zipStored:
		return bytes.NewReader(data)
	case zipDeflated:
		src := bytes.NewReader(data)
		if g.inflate == nil {
			g.inflate = flate.NewReader(src)
		} else if err := g.inflate.(flate.Resetter).Reset(src, nil); err != nil {
			return nil
		}
		return g.inflate
	}
	return nil
}

// name takes down the name of a file.
func (l *archiveList) name(name string) {
	if name = cutUTF8(strings.ReplaceAll(name, `\`, "/"), maxArchivePath); name == "" {
		return
	}
	if len(l.names) >= l.max {
		l.cut = true
		return
	}
	l.names = append(l.names, name)
}

func (l *archiveList) kind(kind string) {
	for _, k := range l.kinds {
		if k == kind {
			return
		}
	}
	l.kinds = append(l.kinds, kind)
}

// entry takes down a file's name, looks at what it is, and goes into it if it is an archive or a document. open gives its content,
// or nil.
func (l *archiveList) entry(name, within string, depth int, open func() io.Reader) {
	l.name(within + name)
	if strings.HasSuffix(name, "/") {
		return
	}
	if l.budget.opened <= 0 {
		l.cut = true
		return
	}
	l.budget.opened--
	r := open()
	if r == nil {
		return
	}
	head := make([]byte, entryHead)
	n, _ := io.ReadFull(r, head) // what breaks off is looked at as far as it goes
	head = head[:n]
	mediaType, byName := realType(head), kindOfExtension[extension(name)]
	byContent := contentKind(mediaType)
	if runs(byContent) && byContent != "script" || byContent == "script" && byName == "" {
		l.kind(byContent)
	}
	ole := mediaType == "application/x-ole-storage"
	if !listed(mediaType) && !ole && (byContent != "" || byName != "disk_image" && byName != "archive") {
		return
	}
	if depth >= maxNesting || l.budget.unpacked <= 0 {
		l.cut = true
		return
	}
	body := l.rest(head, r)
	if ole {
		l.ole(body)
		return
	}
	l.nested(body, name, within+name+"/", depth+1)
}

// rest reads a file to its end, or that of the budget.
func (l *archiveList) rest(head []byte, r io.Reader) []byte {
	var buf bytes.Buffer
	buf.Write(head)
	n, err := buf.ReadFrom(io.LimitReader(r, int64(l.budget.unpacked)))
	l.cut = l.cut || err == nil && int(n) == l.budget.unpacked
	l.budget.unpacked -= int(n)
	return buf.Bytes()
}

// nested goes through an archive in an archive.
func (l *archiveList) nested(b []byte, name, within string, depth int) {
	mediaType := realType(b)
	if kind := contentKind(mediaType); runs(kind) || kind == "archive" {
		l.kind(kind)
	}
	if mediaType != "application/zip" {
		l.list(b, mediaType, name, within, depth)
		return
	}
	dir, _ := readZip(b, b, l.max-len(l.names)) // what can't be listed is no defect of the message's own archive
	l.encrypted = l.encrypted || dir.encrypted
	switch kind := contentKind(dir.kind()); {
	case dir.macros:
		l.kind("macros")
		l.kind("office")
	case kind == "archive":
		l.zip(b, &dir, within, depth)
	case kind != "":
		l.kind(kind)
	}
}

// ole looks for programs in an Office document of the old form.
func (l *archiveList) ole(b []byte) {
	l.kind("office")
	if bytes.Contains(b, macrosStream) {
		l.kind("macros")
	}
	l.encrypted = l.encrypted || bytes.Contains(b, lockedStream)
}

// tar goes through a tape archive (POSIX.1-1988 ustar, as GNU and pax have extended it): a header of 512 octets before each file, whose
// content is filled up to a multiple of 512.
func (l *archiveList) tar(b []byte, within string, depth int) {
	const block = 512
	long := "" // a name in an entry of its own
	for len(b) >= block && b[0] != 0 || long != "" && len(b) >= block {
		header := b[:block]
		size, ok := tarNumber(header[124:136])
		if !ok || string(header[257:262]) != "ustar" {
			l.err = errTar
			return
		}
		content := b[block:]
		content = content[:min(int64(len(content)), size)]
		skip := block + (size+block-1)/block*block
		b = b[min(int64(len(b)), skip):]
		switch header[156] {
		case 'L': // GNU: the name of the next file
			long = string(bytes.TrimRight(content[:min(len(content), maxArchivePath)], "\x00"))
			continue
		case 'x', 'g': // pax: what stands here may hold the name of the next file
			long = paxName(content)
			continue
		}
		name := tarText(header[:100])
		if prefix := tarText(header[345:500]); prefix != "" {
			name = prefix + "/" + name
		}
		if long != "" {
			name, long = long, ""
		}
		name = cleanName(guess([]byte(name)))
		if header[156] == '5' {
			l.name(within + name)
			continue
		}
		l.entry(name, within, depth, func() io.Reader { return bytes.NewReader(content) })
	}
}

var errTar = errors.New("the tar archive has a header that can't be read")

func tarText(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// tarNumber reads an octal number.
func tarNumber(b []byte) (n int64, ok bool) {
	b = bytes.Trim(b, " \x00")
	if len(b) > 11 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0')
	}
	return n, true
}

// paxName is the value of path among records like "30 path=name\n".
func paxName(b []byte) string {
	i := bytes.Index(b, []byte(" path="))
	if i < 0 {
		return ""
	}
	name, _, _ := bytes.Cut(b[i+len(" path="):], []byte("\n"))
	return string(name[:min(len(name), maxArchivePath)])
}

// gzip goes into a compressed file (RFC 1952), which often is a tar archive.
func (l *archiveList) gzip(b []byte, name, within string, depth int) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		l.err = err
		return
	}
	inner := cleanName(guess([]byte(r.Name)))
	if inner == "" {
		inner = unpackedName(name)
	}
	l.single(r, inner, within, depth)
}

func (l *archiveList) bzip2(b []byte, name, within string, depth int) {
	if l.budget.bzip2 <= 0 {
		l.cut = true
		return
	}
	l.budget.bzip2--
	l.single(bzip2.NewReader(bytes.NewReader(b)), unpackedName(name), within, depth)
}

// unpackedName is what a file is called that is compressed under a name.
func unpackedName(name string) string {
	switch ext := extension(name); ext {
	case "tgz", "tbz", "tbz2":
		return strings.TrimSuffix(name, path.Ext(name)) + ".tar"
	case "gz", "bz2", "z":
		return strings.TrimSuffix(name, path.Ext(name))
	}
	return name
}

// single goes into the one file of a compressed file. A tar archive in it is one with its wrapping, and not counted as nested.
func (l *archiveList) single(r io.Reader, name, within string, depth int) {
	head := make([]byte, entryHead)
	n, _ := io.ReadFull(r, head)
	if realType(head[:n]) == "application/x-tar" {
		l.tar(l.rest(head[:n], r), within, depth)
		return
	}
	l.entry(name, within, depth, func() io.Reader { return io.MultiReader(bytes.NewReader(head[:n]), r) })
}
