package match_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"postern/filters/message"
	"postern/rules/match/matchtest"
)

// corpusArchive is real mail for measuring, where it is at hand. POSTERN_CORPUS names a folder of messages instead.
const corpusArchive = "../../../shared/corpora/dev.tar.xz"

// mailTexts returns decoded texts of mail between two sizes, no two the same, in an order that mixes their origins: made ones where
// no real mail is at hand.
func mailTexts(tb testing.TB, least, most int) []string {
	tb.Helper()
	seen := map[string]bool{}
	var out []string
	add := func(mail []byte) {
		m, err := message.Read(bytes.NewReader(mail), int64(len(mail)))
		if err != nil {
			return
		}
		if t := m.Text(); len(t) >= least && len(t) <= most && !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	var err error
	if dir := os.Getenv("POSTERN_CORPUS"); dir != "" {
		err = fromFolder(dir, add)
	} else {
		err = fromArchive(corpusArchive, add)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if len(out) == 0 {
		tb.Log("no corpus: texts are made")
		return matchtest.Texts(800, (least+most)/2, 1)
	}
	sort.Slice(out, func(i, j int) bool { return hash(out[i]) < hash(out[j]) })
	return out
}

func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func fromFolder(dir string, add func([]byte)) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		mail, err := os.ReadFile(path)
		add(mail)
		return err
	})
}

func fromArchive(name string, add func([]byte)) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	xz := exec.Command("xz", "-dc")
	xz.Stdin = f
	pipe, err := xz.StdoutPipe()
	if err != nil {
		return err
	}
	if err := xz.Start(); err != nil {
		return err
	}
	archive := tar.NewReader(pipe)
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			return xz.Wait()
		}
		if err != nil {
			return err
		}
		if strings.HasSuffix(entry.Name, ".eml") {
			mail, err := io.ReadAll(archive)
			if err != nil {
				return err
			}
			add(mail)
		}
	}
}
