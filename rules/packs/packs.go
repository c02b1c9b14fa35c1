// Package packs holds the rule packs that ship with Postern, embedded in the binary.
//
// A pack is one file, about one subject, and can be used alone: [Open] gives with it the file of lists and conditions that
// packs share. The pack [Default] is all of them.
package packs

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/rules"
	"postern/rules/strict"
)

// Default is the name of the pack that holds all others.
const Default = "default"

// shared is the file of what packs have in common. It holds no rules and is no pack.
const shared = "shared"

//go:embed *.yaml
var files embed.FS

// Open gives the files of a pack by its name, with the names by which their rules are told. Packs have files in common.
func Open(name string) ([]rules.Source, error) {
	subjects := Subjects()
	switch {
	case name == Default:
	case slices.Contains(subjects, name):
		subjects = []string{name}
	default:
		return nil, errors.New(strict.Unknown("pack", name, Names()))
	}
	var sources []rules.Source
	for _, stem := range append([]string{shared}, subjects...) {
		src, err := files.ReadFile(stem + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("reading the pack %s: %w", stem, err)
		}
		sources = append(sources, rules.Source{Name: "packs/" + stem + ".yaml", Src: src})
	}
	return sources, nil
}

// Shipped reports whether rules told by a file name are those of a pack, which is nobody's to change.
func Shipped(file string) bool {
	name, ok := strings.CutPrefix(file, "packs/")
	return ok && slices.Contains(stems(), strings.TrimSuffix(name, ".yaml"))
}

// Names lists the packs, [Default] first.
func Names() []string { return append([]string{Default}, Subjects()...) }

// Subjects lists the packs that are about one subject.
func Subjects() []string {
	return slices.DeleteFunc(stems(), func(name string) bool { return name == shared })
}

func stems() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}
