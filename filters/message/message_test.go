package message

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken disk")
	if _, err := Read(failingSource{data: sound, err: broken}, 1000); !errors.Is(err, broken) {
		t.Errorf("%v, want the source's error", err)
	}
	if _, err := Read(strings.NewReader(sound), 1000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want io.ErrUnexpectedEOF: the source is shorter than said", err)
	}
	// The source fails once the structure has been read.
	var fail atomic.Bool
	text := sound + "\r\n" + strings.Repeat("text\r\n", 10)
	src := switchedSource{Reader: strings.NewReader(text), fail: &fail, err: broken}
	m, err := Read(src, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	fail.Store(true)
	if m.Text() != "" || !errors.Is(m.Err(), broken) {
		t.Errorf("%q and %v, want no text and the source's error", m.Text(), m.Err())
	}
}

type switchedSource struct {
	*strings.Reader
	fail *atomic.Bool
	err  error
}

func (s switchedSource) ReadAt(p []byte, off int64) (int, error) {
	if s.fail.Load() {
		return 0, s.err
	}
	return s.Reader.ReadAt(p, off)
}

// A message may be asked from many goroutines, in any order, and always answers the same.
func TestConcurrentReaders(t *testing.T) {
	for name, b := range corpus(t) {
		want := describe(read(t, b))
		m := read(t, b)
		ask := []func(){
			func() { m.Text() }, func() { m.Attachments() }, func() { m.Defects() }, func() { m.Links() },
			func() {
				for _, p := range m.Parts() {
					if _, err := io.Copy(io.Discard, p.Content()); err != nil {
						t.Error(err)
					}
				}
			},
		}
		var wg sync.WaitGroup
		for _, f := range ask {
			wg.Go(f)
		}
		wg.Wait()
		if d := cmp.Diff(want, describe(m)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestZipNames(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	var names []string
	for i := range 1500 {
		name := fmt.Sprintf("folder/file-%d.txt", i)
		names = append(names, name)
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Repeat([]byte{byte(i)}, 30)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	attach := func(data []byte) *Message {
		return read(t, []byte(sound+"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64.StdEncoding.EncodeToString(data)))
	}
	m := attach(b.Bytes())
	a := m.Attachments()[0]
	if d := cmp.Diff(names[:DefaultLimits.Names], a.Inside); d != "" || a.RealType != "application/zip" || a.Size != int64(b.Len()) || a.Encrypted {
		t.Errorf("%s of %d, encrypted %t\n%s", a.RealType, a.Size, a.Encrypted, d)
	}
	// Without its directory, the names at its beginning are given.
	m = attach(b.Bytes()[:10_000])
	a = m.Attachments()[0]
	if len(a.Inside) < 10 || !cmp.Equal(a.Inside, names[:len(a.Inside)]) || !m.attachDefects.has("bad_archive") {
		t.Errorf("%q", a.Inside)
	}
}

func TestRealType(t *testing.T) {
	at := func(n int, s string) string { return strings.Repeat("\x00", n) + s }
	for _, c := range []struct{ content, want string }{
		{content: "", want: ""},
		{content: "MZ\x90\x00", want: "application/x-msdownload"},
		{content: "%PDF-1.7", want: "application/pdf"},
		{content: at(0x8001, "CD001"), want: "application/x-iso9660-image"},
		{content: at(4, "ftypisom"), want: "video/mp4"},
		{content: "{\\rtf1", want: "application/rtf"},
		{content: "\r\n <!DOCTYPE html><p>", want: "text/html"},
		{content: "<?xml version='1.0'?><svg xmlns=x>", want: "image/svg+xml"},
		{content: "\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00", want: "text/html"},
		{content: "Hello <script>", want: "text/html"},
		{content: "BEGIN:VCALENDAR\r\n", want: "text/calendar"},
		{content: "plain text\n", want: "text/plain"},
		{content: "latin-1 \xfc\n", want: "text/plain"},
		{content: "\x01\x02\x03", want: "application/octet-stream"},
	} {
		if got := realType([]byte(c.content)); got != c.want {
			t.Errorf("%.40q: %s, want %s", c.content, got, c.want)
		}
	}
}

func TestEncrypted(t *testing.T) {
	rar4 := "Rar!\x1a\x07\x00" + "\x00\x00\x73%s\x00\x0d\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x74%s\x80\x00\x00"
	for _, c := range []struct {
		reason, content string
		want            bool
	}{
		{reason: "PDF", content: "%PDF-1.7\n1 0 obj\ntrailer <</Encrypt 2 0 R>>", want: true},
		{reason: "open PDF", content: "%PDF-1.7\n1 0 obj\ntrailer <<>>"},
		{reason: "Office", content: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 600) + string(utf16LE("EncryptedPackage")), want: true},
		{reason: "open Office", content: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 600) + string(utf16LE("WordDocument"))},
		{reason: "RAR 4 with encrypted headers", content: fmt.Sprintf(rar4, "\x80", "\x00"), want: true},
		{reason: "RAR 4 with an encrypted file", content: fmt.Sprintf(rar4, "\x00", "\x04"), want: true},
		{reason: "open RAR 4", content: fmt.Sprintf(rar4, "\x00", "\x00")},
		{reason: "RAR 5 with encrypted headers", content: "Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x10\x04\x00\x00\x00\x00\x00", want: true},
		{reason: "open RAR 5", content: "Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x10\x01\x00\x00\x00\x00\x00"},
	} {
		m := read(t, []byte(sound+"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64.StdEncoding.EncodeToString([]byte(c.content))))
		if got := m.Attachments()[0].Encrypted; got != c.want {
			t.Errorf("%s: %t (%s)", c.reason, got, m.Attachments()[0].RealType)
		}
	}
}

// What was read of a message stays as it was when the buffers that it went through serve the next one.
func TestContentOutlivesBuffers(t *testing.T) {
	mail := func(letter string) []byte {
		word := strings.Repeat(letter, 60)
		encoded := base64.StdEncoding.EncodeToString([]byte("<p>" + word + "</p>"))
		return []byte(sound + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
			"--b\r\nContent-Type: text/plain\r\n\r\n" + word + "\r\n" +
			"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + "\r\n" +
			"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<b>=3D" + word + "</b>\r\n" +
			"--b\r\nContent-Type: application/zip; name=" + letter + "\r\n\r\n" + word + "\r\n--b--\r\n")
	}
	type said struct {
		text, html string
		files      []Attachment
	}
	ask := func(m *Message) said { return said{text: m.Text(), html: m.HTML(), files: m.Attachments()} }
	first := read(t, mail("a"))
	got := ask(first)
	want := said{text: strings.Clone(got.text), html: strings.Clone(got.html), files: slices.Clone(got.files)}
	for range 20 {
		ask(read(t, mail("b")))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it was\n%+v\nand is\n%+v", want, got)
	}
	a := strings.Repeat("a", 60)
	if want.text != a+"\n"+a+"\n="+a || want.html != "<p>"+a+"</p><b>="+a+"</b>" || len(want.files) != 1 || want.files[0].Size != 60 {
		t.Errorf("it is %+v", want)
	}
}

// FuzzRead reads whatever comes, and holds what the package promises for every message.
func FuzzRead(f *testing.F) {
	for _, b := range corpus(f) {
		if len(b) < 4000 {
			f.Add(b)
		}
	}
	for _, c := range defectCases {
		f.Add([]byte(c.message))
	}
	f.Add([]byte("\r\r\n0")) // an empty line as broken programs write it
	limits := Limits{Header: 2000, Fields: 50, Depth: 5, Parts: 20, Text: 500, HTML: 2000, Links: 10, Shown: 20, Attachments: 5, Names: 5}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := readLimited(t, b, limits)
		if m.Err() != nil {
			t.Fatal(m.Err())
		}
		for _, d := range m.Defects() {
			if DefectKinds()[d.Kind] == "" {
				t.Fatalf("%s is no kind of defect", d.Kind)
			}
		}
		if !m.defects.has("header_too_big") && !m.defects.has("many_fields") {
			checkBytes(t, m, b)
		}
		checkLimits(t, m)
		for _, f := range m.Header {
			f.Decoded()
		}
	})
}
