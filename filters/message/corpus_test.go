package message

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the .want files of testdata anew")

// corpus gives the sample messages with CRLF line ends, by file name.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, pattern := range []string{"testdata/enmime/*.raw", "testdata/samples/*.eml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(b, []byte("\r\n")) {
				b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
			}
			all[name] = b
		}
	}
	return all
}

func read(t testing.TB, b []byte) *Message {
	t.Helper()
	return readLimited(t, b, DefaultLimits)
}

func readLimited(t testing.TB, b []byte, limits Limits) *Message {
	t.Helper()
	m, err := ReadLimited(bytes.NewReader(b), int64(len(b)), limits)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCorpus(t *testing.T) {
	for name, b := range corpus(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			m := read(t, b)
			checkBytes(t, m, b)
			got := describe(m)
			if m.Err() != nil {
				t.Error(m.Err())
			}
			golden := strings.TrimSuffix(name, filepath.Ext(name)) + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Error(d)
			}
		})
	}
}

// checkBytes checks that fields, empty line and body are the message byte for byte.
func checkBytes(t testing.TB, m *Message, b []byte) {
	t.Helper()
	var joined []byte
	for _, f := range m.Header {
		joined = append(joined, f.Raw...)
	}
	if int64(len(joined)) != m.HeaderSize() {
		t.Errorf("the fields have %d bytes, the header section %d", len(joined), m.HeaderSize())
	}
	body := make([]byte, m.Body().Size())
	if n, err := m.Body().ReadAt(body, 0); n != len(body) {
		t.Fatal(err)
	}
	between := len(b) - len(joined) - len(body)
	if between < 0 || between > 0 && strings.TrimLeft(string(b[len(joined):len(joined)+between]), "\r") != "\n" {
		t.Fatalf("%d bytes between header section and body, want the empty line at most: an LF, with any number of CRs before it", between)
	}
	joined = append(joined, b[len(joined):len(joined)+between]...)
	if joined = append(joined, body...); !bytes.Equal(joined, b) {
		t.Errorf("fields, empty line and body are not the message:\n%q\n%q", joined, b)
	}
}

// describe writes down all that is read of a message.
func describe(m *Message) string {
	var b strings.Builder
	for _, name := range []string{"From", "To", "Cc", "Subject"} {
		for _, f := range m.Header.All(name) {
			fmt.Fprintf(&b, "%s: %s\n", name, f.Decoded())
		}
	}
	for _, f := range m.Header.All("From") {
		addrs, ok := ParseAddresses(f.Value())
		for _, a := range addrs {
			fmt.Fprintf(&b, "sender %q <%s>, well formed: %t\n", a.Name, a.String(), ok)
		}
	}
	for _, p := range m.Parts() {
		fmt.Fprintf(&b, "part %s %s", p.ID, p.Type)
		for _, v := range []struct{ name, value string }{
			{name: "charset", value: p.Charset}, {name: "encoding", value: p.Encoding},
			{name: "disposition", value: p.Disposition}, {name: "name", value: p.Name},
		} {
			if v.value != "" {
				fmt.Fprintf(&b, " %s=%q", v.name, v.value)
			}
		}
		fmt.Fprintf(&b, " size=%d\n", p.Raw().Size())
	}
	for _, a := range m.Attachments() {
		fmt.Fprintf(&b, "attachment %+v\n", a)
	}
	for _, l := range m.Links() {
		fmt.Fprintf(&b, "link %s %s\n  scheme=%s host=%s org=%s path=%s shown=%q\n", l.Source, l.URL, l.Scheme, l.Host, l.OrgDomain, l.Path, l.Shown)
	}
	for _, d := range m.Defects() {
		fmt.Fprintf(&b, "defect %s: %s\n", d.Kind, d.Detail)
	}
	fmt.Fprintf(&b, "--- text\n%s\n--- hidden\n%s\n", m.Text(), m.Hidden())
	return b.String()
}

// The messages of the suite that are kept here are all there: a file that gets lost would not be missed otherwise.
func TestCorpusIsWhole(t *testing.T) {
	counts := map[string]int{}
	for name := range corpus(t) {
		base := filepath.Base(name)
		for _, folder := range []string{"low-quality-", "mail-", "parts-"} {
			if strings.Contains(name, "enmime") && strings.HasPrefix(base, folder) {
				counts[folder]++
			}
		}
	}
	if d := cmp.Diff(map[string]int{"low-quality-": 12, "mail-": 42, "parts-": 30}, counts); d != "" {
		t.Error(d)
	}
}

// The whole suite, where it is at hand beside the sources: nothing panics, bytes are kept, and where a part of text is not empty there is text
// to be seen or hidden.
func TestWholeSuite(t *testing.T) {
	folder := besideSources("shared/suites/mime-enmime")
	if folder == "" {
		t.Skip("the suite is not at hand; 84 of its 110 messages are in testdata")
	}
	n := 0
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || ext != ".raw" && ext != ".golden" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		m := read(t, b)
		checkBytes(t, m, b)
		shown := false
		for _, p := range m.Parts() {
			shown = shown || p.Leaf() && p.Disposition != "attachment" && (p.textKind() == plainText || p.textKind() == htmlText) && p.Raw().Size() > 10
		}
		if shown && strings.TrimSpace(m.Text()+m.Hidden()) == "" && len(m.Links()) == 0 && m.HTML() == "" {
			t.Errorf("%s: no text", path)
		}
		m.Attachments()
		m.Defects()
		return nil
	})
	if err != nil || n != 110 {
		t.Errorf("%d messages, want 110 (%v)", n, err)
	}
}

// besideSources finds a folder beside that of the sources, or gives "".
func besideSources(name string) string {
	for up := ".."; len(up) < 30; up += "/.." {
		if info, err := os.Stat(filepath.Join(up, name)); err == nil && info.IsDir() {
			return filepath.Join(up, name)
		}
	}
	return ""
}
