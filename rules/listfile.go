package rules

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"postern/rules/strict"
)

// A listTable is what all lists say at one moment. It is not changed: when the file of a list changes, another table takes
// its place, and the messages under way keep the one that they began with.
type listTable struct {
	indexes []*index // by their numbers in the predicates
	entries map[*List]int
	scored  bool // an entry has a score of its own
}

// noteScores takes note of those of a list. A list whose scores are gone counts still: to look
// for them costs a little time and nothing else.
func (t *listTable) noteScores(entries []Entry) {
	t.scored = t.scored || slices.ContainsFunc(entries, func(e Entry) bool { return e.Score != nil })
}

// A listFile is a list that stands in a file of its own.
type listFile struct {
	list *List
	path string
	read fileStamp // of the version that was read, be it in force or refused
	next fileStamp // of a version that was seen once: it may still be written
}

// A fileStamp tells one version of a file from another. One that can't be looked at has the zero stamp.
type fileStamp struct {
	size int64
	time time.Time
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{size: info.Size(), time: info.ModTime()}
}

// index makes a list ready to be looked up in, once for each view that is asked for, and gives its number in the table.
func (c *compiler) index(f *File, t *testExpr, ref *listRef) int {
	list := ref.list
	if list == nil {
		if list = c.list(f, ref.name); list == nil {
			return 0 // complained about already
		}
	}
	key := indexKey{list: list, view: t.src.view, exact: t.exact}
	i, ok := c.indexes[key]
	if ok {
		return i
	}
	i = len(c.table.indexes)
	c.indexes[key] = i
	c.set.listDefs = append(c.set.listDefs, key)
	entries := c.listEntries(list)
	c.table.noteScores(entries)
	c.table.indexes = append(c.table.indexes, newIndex(entries, key.view, key.exact))
	return i
}

// listEntries reads the list's file, once.
func (c *compiler) listEntries(l *List) []Entry {
	if l.File == "" {
		for i := range l.Entries {
			l.Entries[i].place(l.Pos.File)
		}
		return l.Entries
	}
	entries, ok := c.entries[l]
	if ok {
		return entries
	}
	file := &listFile{list: l, path: beside(l.Pos.File, l.File)}
	file.read = stampOf(file.path)
	entries, err := c.set.readList(file)
	var problems strict.Problems
	switch {
	case errors.As(err, &problems):
		c.Add(problems)
	case err != nil:
		c.Addf(l.Pos, "the list %s cannot be read: %v", l.Name, err)
	}
	c.entries[l] = entries
	if c.table.entries == nil {
		c.table.entries = map[*List]int{}
	}
	c.table.entries[l] = len(entries)
	c.set.listFiles = append(c.set.listFiles, file)
	return entries
}

func (s *Set) readList(f *listFile) ([]Entry, error) {
	src, err := s.opt.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	entries, problems := parseListFile(f.path, src)
	for i := range entries {
		entries[i].place(f.path)
	}
	return entries, problems.Err()
}

func (e *Entry) place(file string) { e.pos = Pos{File: file, Line: e.Line, Col: e.Column} }

// A ListChange is a list file that changed.
type ListChange struct {
	Name   string // of the list
	File   string
	Before int   // entries
	After  int   // the same as before when Err is set
	Err    error // the new version can't be used, and the old one stays in force
}

// RefreshLists looks whether the files of lists have changed and puts what they say now in force. A version is read when it
// was seen twice, unchanged in between, so that none is read half-written; so it wants to be called every few seconds. One
// that can't be read or has mistakes is told once, and the one before it stays.
func (s *Set) RefreshLists() []ListChange {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	var changes []ListChange
	for _, f := range s.listFiles {
		switch now := stampOf(f.path); {
		case now == f.read:
			f.next = f.read
		case now != f.next:
			f.next = now
		default:
			entries, err := s.readList(f)
			if stampOf(f.path) != now {
				continue // written while it was read; seen again the next time
			}
			f.read = now
			changes = append(changes, s.replaceList(f, entries, err))
		}
	}
	return changes
}

// replaceList puts a table in force that has the new entries of one list.
func (s *Set) replaceList(f *listFile, entries []Entry, err error) ListChange {
	old := s.tables.Load()
	before := old.entries[f.list]
	change := ListChange{Name: f.list.Name, File: f.path, Before: before, After: before, Err: shortCause(err)}
	if err != nil {
		return change
	}
	change.After = len(entries)
	table := &listTable{indexes: slices.Clone(old.indexes), entries: maps.Clone(old.entries), scored: old.scored}
	table.noteScores(entries)
	table.entries[f.list] = len(entries)
	for i, def := range s.listDefs {
		if def.list == f.list {
			table.indexes[i] = newIndex(entries, def.view, def.exact)
		}
	}
	s.tables.Store(table)
	return change
}

// maxListProblems bounds what is told of a list file, of which every line can be wrong.
const maxListProblems = 3

func shortCause(err error) error {
	var problems strict.Problems
	var path *fs.PathError
	switch {
	case errors.As(err, &problems) && len(problems) > maxListProblems:
		return fmt.Errorf("%w (and %d more)", problems[:maxListProblems], len(problems)-maxListProblems)
	case errors.As(err, &path):
		return path.Err
	}
	return err
}

// A ListCount is a list that stands in a file.
type ListCount struct {
	Name    string
	File    string
	Entries int
}

// ListFiles returns the lists that stand in files, with how many entries each has now, in the order of their names.
func (s *Set) ListFiles() []ListCount {
	table := s.tables.Load()
	var lists []ListCount
	for _, f := range s.listFiles {
		lists = append(lists, ListCount{Name: f.list.Name, File: f.path, Entries: table.entries[f.list]})
	}
	slices.SortFunc(lists, func(a, b ListCount) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.File, b.File))
	})
	return lists
}
