package message

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A packed is a file for an archive.
type packed struct{ name, content string }

func zipOf(t testing.TB, files ...packed) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		e, err := w.Create(f.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarOf(t testing.TB, files ...packed) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipOf(t testing.TB, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// stored is a file of testdata/archives, unpacked if it ends in .gz.
func stored(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/archives/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return string(b)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// rar4Of and rar5Of write the headers of archives, with no data behind them.
func rar4Of(archiveFlags, fileFlags uint16, names ...string) string {
	block := func(kind byte, flags uint16, rest []byte) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{0, 0, kind}, flags)
		b = binary.LittleEndian.AppendUint16(b, uint16(7+len(rest)))
		return append(b, rest...)
	}
	b := append([]byte("Rar!\x1a\x07\x00"), block(0x73, archiveFlags, make([]byte, 6))...)
	for _, n := range names {
		rest := make([]byte, 25)
		binary.LittleEndian.PutUint16(rest[19:], uint16(len(n)))
		b = append(b, block(0x74, fileFlags, append(rest, n...))...)
	}
	return string(append(b, block(0x7b, 0, nil)...))
}

func rar5Of(locked bool, names ...string) string {
	block := func(body ...byte) []byte {
		return append([]byte{0, 0, 0, 0, byte(len(body))}, body...)
	}
	b := append([]byte("Rar!\x1a\x07\x01\x00"), block(1, 0, 0)...)
	for _, n := range names {
		flags, extra := byte(0), []byte(nil)
		body := append([]byte{0, 5, 0, 0, 0, byte(len(n))}, n...)
		if locked {
			flags, extra = 1, []byte{2, 1, 0}
			body = append([]byte{byte(len(extra))}, body...)
		}
		b = append(b, block(append(append([]byte{2, flags}, body...), extra...)...)...)
	}
	return string(append(b, block(5, 0, 0)...))
}

const program = "MZ\x90\x00 this program"

func TestArchives(t *testing.T) {
	oleMacros := string(oleMark) + strings.Repeat("x", 600) + string(macrosStream)
	encryptedZip := []byte(zipOf(t, packed{name: "secret.doc", content: "x"}))
	binary.LittleEndian.PutUint16(encryptedZip[bytes.Index(encryptedZip, []byte("PK\x01\x02"))+8:], 1)
	deep := zipOf(t, packed{name: "run.exe", content: program})
	for range 5 {
		deep = zipOf(t, packed{name: "next.zip", content: deep})
	}
	for _, c := range []struct {
		why, name, file string
		inside, kinds   []string
		encrypted       bool
		defects         []string
	}{
		{why: "a program under another name", file: zipOf(t, packed{name: "photo.jpg", content: program}), inside: []string{"photo.jpg"}, kinds: []string{"executable", "image"}},
		{why: "a ZIP archive in one", file: zipOf(t, packed{name: "in.zip", content: zipOf(t, packed{name: "a.js", content: "x"})}),
			inside: []string{"in.zip", "in.zip/a.js"}, kinds: []string{"archive", "script"}},
		{why: "under a name that hides it", file: zipOf(t, packed{name: "in.dat", content: zipOf(t, packed{name: "a.js", content: "x"})}),
			inside: []string{"in.dat", "in.dat/a.js"}, kinds: []string{"archive", "script"}},
		{why: "behind something else in the file", file: "MZ stub" + strings.Repeat("x", 100) + zipOf(t, packed{name: "a.js", content: "x"})},
		{why: "nested too deeply", file: deep, inside: []string{"next.zip", "next.zip/next.zip", "next.zip/next.zip/next.zip"}, kinds: []string{"archive"}, defects: []string{"archive_cut"}},
		{why: "one that unpacks to more than is read", file: zipOf(t, packed{name: "a.zip", content: zipOf(t, packed{name: "b", content: strings.Repeat("\x00", 600)}) + strings.Repeat("\x00", maxUnpacked+1000)}),
			inside: []string{"a.zip", "a.zip/b"}, kinds: []string{"archive"}, defects: []string{"archive_cut"}},
		{why: "one that is encrypted, in one that is not", file: zipOf(t, packed{name: "in.zip", content: string(encryptedZip)}),
			inside: []string{"in.zip", "in.zip/secret.doc"}, kinds: []string{"archive", "office"}, encrypted: true},
		{why: "an old document with macros", file: zipOf(t, packed{name: "a.doc", content: oleMacros}), inside: []string{"a.doc"}, kinds: []string{"office", "macros"}},
		{why: "a new document with macros, under a name that says it has none",
			file:   zipOf(t, packed{name: "a.docx", content: zipOf(t, packed{name: "word/document.xml"}, packed{name: "word/vbaProject.bin"})}),
			inside: []string{"a.docx"}, kinds: []string{"archive", "macros", "office"}},
		{why: "a new document without", file: zipOf(t, packed{name: "a.docx", content: zipOf(t, packed{name: "word/document.xml"})}), inside: []string{"a.docx"}, kinds: []string{"archive", "office"}},
		{why: "a tar archive", file: tarOf(t, packed{name: "doc/a.txt", content: "x"}, packed{name: strings.Repeat("long/", 40) + "b.vbs", content: "x"}),
			inside: []string{"doc/a.txt", strings.Repeat("long/", 40) + "b.vbs"}, kinds: []string{"text", "script"}},
		{why: "a compressed tar archive", name: "a.tgz", file: gzipOf(t, "", tarOf(t, packed{name: "a.zip", content: zipOf(t, packed{name: "b.exe", content: program})})),
			inside: []string{"a.zip", "a.zip/b.exe"}, kinds: []string{"archive", "executable"}},
		{why: "a compressed file with its name", name: "x.gz", file: gzipOf(t, "invoice.exe", program), inside: []string{"invoice.exe"}, kinds: []string{"executable"}},
		{why: "and without", name: "invoice.pdf.gz", file: gzipOf(t, "", program), inside: []string{"invoice.pdf"}, kinds: []string{"executable", "pdf"}},
		{why: "one that breaks off", name: "invoice.gz", file: gzipOf(t, "invoice.exe", program)[:35], inside: []string{"invoice.exe"}, kinds: []string{"executable"}},
		{why: "a tar archive that is broken", file: strings.Repeat("x", 257) + "ustar" + strings.Repeat("x", 300), defects: []string{"bad_archive"}},
		{why: "RAR 4", file: rar4Of(0, 0, `dir\a.exe`, "b.txt"), inside: []string{"dir/a.exe", "b.txt"}, kinds: []string{"executable", "text"}},
		{why: "RAR 4, encrypted", file: rar4Of(0, 4, "a.exe"), inside: []string{"a.exe"}, kinds: []string{"executable"}, encrypted: true},
		{why: "RAR 4, names encrypted", file: rar4Of(0x80, 4, "a.exe"), encrypted: true},
		{why: "RAR 5", file: rar5Of(false, "a.exe", "b.txt"), inside: []string{"a.exe", "b.txt"}, kinds: []string{"executable", "text"}},
		{why: "RAR 5, encrypted", file: rar5Of(true, "a.exe"), inside: []string{"a.exe"}, kinds: []string{"executable"}, encrypted: true},
		{why: "RAR 5, names encrypted", file: "Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x03\x04\x00\x00", encrypted: true},
		{why: "RAR that breaks off", file: rar5Of(false, "a.exe", "b.txt")[:24], defects: []string{"bad_archive"}},
		{why: "7z", file: stored(t, "plain.7z"), inside: []string{"sub", "invoice form.exe", "readme.txt", "sub/run.js"}, kinds: []string{"executable", "text", "script"}},
		{why: "7z with a compressed header", file: stored(t, "packed.7z")},
		{why: "7z, encrypted", file: stored(t, "locked.7z"), inside: []string{"sub", "invoice form.exe", "readme.txt", "sub/run.js"}, kinds: []string{"executable", "text", "script"}, encrypted: true},
		{why: "7z, names encrypted", file: stored(t, "lockednames.7z"), encrypted: true},
		{why: "7z that breaks off", file: stored(t, "plain.7z")[:100], defects: []string{"bad_archive"}},
		{why: "a cabinet", file: stored(t, "a.cab"), inside: []string{"invoice form.exe", "readme.txt", "sub/run.js"}, kinds: []string{"executable", "text", "script"}},
		{why: "a disk image with long names", file: stored(t, "joliet.iso.gz"), inside: []string{"invoice form.exe", "readme.txt", "sub/run.js"}, kinds: []string{"executable", "text", "script"}},
		{why: "a disk image", file: stored(t, "plain.iso.gz"), inside: []string{"INVOICE_.EXE", "README.TXT", "SUB/RUN.JS"}, kinds: []string{"executable", "text", "script"}},
		{why: "a disk image in an archive", file: zipOf(t, packed{name: "a.img", content: stored(t, "joliet.iso.gz")}),
			inside: []string{"a.img", "a.img/invoice form.exe", "a.img/readme.txt", "a.img/sub/run.js"}, kinds: []string{"disk_image", "executable", "text", "script"}},
	} {
		t.Run(c.why, func(t *testing.T) {
			name := c.name
			if name == "" {
				name = "x.bin"
			}
			m := read(t, pdfMail("application/octet-stream", name, c.file))
			a := m.Attachments()[0]
			got := a.Inside
			if strings.HasPrefix(c.why, "7z") || strings.HasPrefix(c.why, "a disk") || c.why == "a cabinet" {
				got = slices.Sorted(slices.Values(a.Inside)) // in the order that the packer chose
				c.inside = slices.Sorted(slices.Values(c.inside))
				slices.Sort(a.InsideKind)
				slices.Sort(c.kinds)
			}
			if d := cmp.Diff(c.inside, got); d != "" {
				t.Errorf("names: %s", d)
			}
			if d := cmp.Diff(c.kinds, a.InsideKind); d != "" {
				t.Errorf("kinds: %s", d)
			}
			if a.Encrypted != c.encrypted {
				t.Errorf("encrypted: %v", a.Encrypted)
			}
			var defects []string
			for _, d := range m.attachDefects.seen {
				defects = append(defects, d.Kind)
			}
			if d := cmp.Diff(c.defects, defects); d != "" {
				t.Errorf("defects: %s", d)
			}
		})
	}
}

// What is spent on archives is bounded for the message, however many there are.
func TestArchivesOfOneMessage(t *testing.T) {
	var files []packed
	for range maxOpened + 10 {
		files = append(files, packed{name: "a.txt", content: "x"})
	}
	b := newArchiveBudget()
	for i := range 3 {
		l := archiveList{budget: b, max: 10_000}
		data := []byte(zipOf(t, files...))
		dir, err := readZip(data, data, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		l.zip(data, &dir, "", 1)
		if len(l.names) != len(files) || !l.cut || b.opened != 0 {
			t.Errorf("archive %d: %d names, cut %v, %d files may be opened", i, len(l.names), l.cut, b.opened)
		}
	}
}

// FuzzArchive lists any file as any archive: it does not panic, and keeps to its bounds.
func FuzzArchive(f *testing.F) {
	for _, seed := range []string{
		zipOf(f, packed{name: "in.zip", content: zipOf(f, packed{name: "a.js", content: "x"})}), tarOf(f, packed{name: strings.Repeat("a", 150), content: "x"}),
		gzipOf(f, "x", tarOf(f, packed{name: "a.exe", content: program})), rar4Of(0, 0x300, "a\x00b"), rar5Of(true, "a.exe"), stored(f, "plain.7z"), stored(f, "locked.7z"),
		stored(f, "a.cab"), "BZh91AY&SY", "PK\x03\x04",
	} {
		f.Add([]byte(seed), false)
	}
	f.Add([]byte(stored(f, "joliet.iso.gz")[0x8000:]), true)
	f.Fuzz(func(t *testing.T, file []byte, image bool) {
		if image {
			file = append(make([]byte, 0x8000), file...)
		}
		l := archiveList{budget: newArchiveBudget(), max: 50}
		l.nested(file, "x", "", 1)
		if len(l.names) > l.max || l.budget.unpacked < 0 || l.budget.opened < 0 || l.budget.bzip2 < 0 {
			t.Errorf("%d names, %+v", len(l.names), l.budget)
		}
		known := AttachmentKinds()
		for _, kind := range l.kinds {
			if !slices.Contains(known, kind) {
				t.Errorf("the unknown kind %q", kind)
			}
		}
	})
}
