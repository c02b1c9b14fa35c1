// Package packs holds the rule packs that ship with Postern, embedded in the binary.
package packs

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Open gives a pack by its name, and the file name by which its rules are told.
func Open(name string) (file string, src []byte, err error) {
	file = name + ".yaml"
	src, err = files.ReadFile(file)
	if err != nil {
		return "", nil, fmt.Errorf("there is no pack %q, expected one of %s", name, strings.Join(Names(), ", "))
	}
	return "packs/" + file, src, nil
}

// Shipped reports whether rules told by a file name are those of a pack, which is nobody's to change.
func Shipped(file string) bool {
	name, ok := strings.CutPrefix(file, "packs/")
	return ok && slices.Contains(Names(), strings.TrimSuffix(name, ".yaml"))
}

// Names lists the packs.
func Names() []string {
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
