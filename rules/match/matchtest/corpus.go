package matchtest

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// archive is real mail for measuring, where it is at hand, beside the folder of the sources. POSTERN_CORPUS names a folder of messages
// instead.
const archive = "shared/corpora/dev.tar.xz"

// Mail returns texts of mail between two sizes, as read makes them of messages, no two the same, in an order that mixes their origins: made
// ones where no real mail is at hand.
func Mail(tb testing.TB, least, most int, read func([]byte) string) []string {
	tb.Helper()
	seen := map[string]bool{}
	var out []string
	add := func(mail []byte) {
		if t := read(mail); len(t) >= least && len(t) <= most && !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	var err error
	if dir := os.Getenv("POSTERN_CORPUS"); dir != "" {
		err = fromFolder(dir, add)
	} else {
		err = fromArchive(besideSources(), add)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if len(out) == 0 {
		tb.Log("no corpus: texts are made")
		return Texts(800, (least+most)/2, 1)
	}
	sort.Slice(out, func(i, j int) bool { return hash(out[i]) < hash(out[j]) })
	return out
}

// besideSources is where the archive is: tests run in the folder of their package.
func besideSources() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(filepath.Dir(dir), archive)
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
