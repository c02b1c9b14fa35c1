package message

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestNameTricks(t *testing.T) {
	for _, c := range []struct {
		name, content string
		want          []string
		reason        string
	}{
		{name: "invoice.pdf.exe", want: []string{"double_extension"}, reason: "a program behind a document's extension"},
		{name: "scan.jpg.HTML ", want: []string{"double_extension"}, reason: "a page behind a picture's, in capitals, with a space at the end"},
		{name: "invoice.pdf", reason: "an honest one"},
		{name: "jquery.min.js", reason: "two points, but no document"},
		{name: "backup.tar.gz", reason: "an archive of an archive"},
		{name: "report.v1.2.exe", reason: "a version is no extension"},
		{name: "letter.pdf.p7s", reason: "a signature of a document"},
		{name: "ann\u202egpj.exe", want: []string{"bidi_name"}, reason: "it reads annexe.jpg"},
		{name: "photo.jpg" + strings.Repeat(" ", 40) + ".scr", want: []string{"double_extension", "padded_name"}, reason: "out of sight"},
		{name: "a\u2800\u2800\u2800\u2800\u2800.exe", want: []string{"padded_name"}, reason: "blanks that are no white space"},
		{name: "my long file name.doc", reason: "words"},
		{name: "photo.png", content: "MZ\x90\x00", want: []string{"type_mismatch"}, reason: "a program"},
		{name: "setup.exe", content: "MZ\x90\x00", reason: "a program that says so"},
		{name: "table.xls", content: "<html><table>", reason: "tables are often exported so"},
		{name: "bill.pdf", content: "<html><script>", want: []string{"type_mismatch"}, reason: "a page"},
		{name: "a.docx", content: "PK\x03\x04", reason: "an archive is what it is"},
		{name: "a.jpg", content: "PK\x03\x04", want: []string{"type_mismatch"}, reason: "an archive"},
		{name: "a.jpg", content: "\x89PNG\r\n\x1a\n", reason: "another picture"},
	} {
		a := Attachment{Name: c.name, Extension: extension(c.name), RealType: realType([]byte(c.content))}
		if got := a.nameTricks(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %q: %v, want %v", c.reason, c.name, c.content, got, c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct{ name, realType, want, reason string }{
		{name: "a.pdf", realType: "application/pdf", want: "pdf", reason: "both say so"},
		{name: "a.pdf", realType: "application/x-msdownload", want: "executable", reason: "the content decides"},
		{name: "a.js", realType: "text/plain", want: "script", reason: "text tells nothing"},
		{name: "a.hta", realType: "text/html", want: "html script", reason: "the name makes a page run"},
		{name: "a.iso", realType: "application/octet-stream", want: "disk_image", reason: "by name"},
		{name: "a.docm", realType: "application/zip", want: "archive macros office", reason: "by name, the content is cut off"},
		{name: "a.doc", realType: "application/vnd.ms-word.macroenabled.12", want: "office macros", reason: "the name hides it"},
		{name: "a.xyz", realType: "application/octet-stream", want: "other", reason: "unknown"},
		{name: "readme", realType: "text/plain", want: "text", reason: "text without an extension"},
		{name: "run.exe.", realType: "", want: "executable", reason: "Windows takes a point at the end away"},
	} {
		a := Attachment{Name: c.name, Extension: extension(c.name), RealType: c.realType}
		if got := strings.Join(a.kinds(), " "); got != c.want {
			t.Errorf("%s: %s of %s: %s, want %s", c.reason, c.name, c.realType, got, c.want)
		}
	}
}

// The names of an OLE file's streams are found wherever they stand, even across the pieces in which the file comes.
func TestOLEStreams(t *testing.T) {
	for _, at := range []int{600, headSize + 5000, headSize + 32<<10 - 7} {
		file := make([]byte, at+64)
		copy(file, oleMark)
		copy(file[at:], macrosStream)
		var s sample
		for piece := range slices.Chunk(file, 4096) {
			if _, err := s.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if !s.macros || s.locked {
			t.Errorf("at %d: macros %v, locked %v", at, s.macros, s.locked)
		}
	}
	var s sample
	if _, err := s.Write(append(bytes.Clone(macrosStream), "in text"...)); err != nil || s.macros {
		t.Errorf("a file of another kind: macros %v, %v", s.macros, err)
	}
}
