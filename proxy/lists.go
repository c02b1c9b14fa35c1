package proxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern/rules"
)

// listsEvery is how often the files of lists are looked at. A change is in force after two looks.
const listsEvery = 5 * time.Second

// keepLists has the lists of the rules in force follow their files.
func (s *Server) keepLists(ctx context.Context) {
	tick := time.NewTicker(listsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.refreshLists()
		case <-ctx.Done():
			return
		}
	}
}

// refreshLists reads the list files that changed, and tells the log of them.
func (s *Server) refreshLists() {
	rt := s.runtime.Load()
	if rt.Rules == nil {
		return
	}
	for _, c := range rt.Rules.RefreshLists() {
		if c.Err != nil {
			s.log.Error("list_not_read", "list", c.Name, "file", c.File, "entries", c.After, "error", c.Err.Error())
			continue
		}
		s.log.Info("list_read", "list", c.Name, "file", c.File, "entries", c.After, "before", c.Before)
	}
}

// maxChanges bounds the names of one key in the line of a reload.
const maxChanges = 20

// ruleChanges gives what a reload changed in the rules, as keys and values of its line in the log.
func ruleChanges(before, after *rules.Set) []any {
	c := rules.Diff(before, after)
	var rescored, lists []string
	for _, r := range c.Rescored {
		rescored = append(rescored, fmt.Sprintf("%s (%s, was %s)", r.ID, r.After, r.Before))
	}
	for _, l := range c.Lists {
		lists = append(lists, fmt.Sprintf("%s (%d, was %d)", l.Name, l.After, l.Before))
	}
	var attrs []any
	for _, kind := range []struct {
		key   string
		names []string
	}{{"rules_added", c.Added}, {"rules_removed", c.Removed}, {"rules_rescored", rescored}, {"rules_changed", c.Changed}, {"lists", lists}} {
		if n := len(kind.names); n > maxChanges {
			kind.names = append(kind.names[:maxChanges:maxChanges], fmt.Sprintf("%d more", n-maxChanges))
		}
		if len(kind.names) > 0 {
			attrs = append(attrs, kind.key, strings.Join(kind.names, ", "))
		}
	}
	return attrs
}
