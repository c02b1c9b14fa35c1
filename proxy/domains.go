package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"postern/rules/strict"
)

// Domains is the recipient domains that are accepted: a list, a file with one a line, or the word upstream, which
// leaves the decision to the upstream.
type Domains struct {
	List     []string
	File     string
	Upstream bool

	set map[string]bool
}

// UnmarshalStrict reads the three forms of the key.
func (d *Domains) UnmarshalStrict(n *strict.Node) strict.Problems {
	switch n.Kind() {
	case strict.Sequence:
		problems := n.Decode(&d.List)
		d.add(d.List)
		return problems
	case strict.Mapping:
		var form struct {
			File string `yaml:"file"`
		}
		problems := n.Decode(&form)
		d.File = form.File
		return problems
	}
	var problems strict.Problems
	switch d.Upstream = n.Text() == "upstream"; {
	case n.Kind() == strict.Null:
		problems.Addf(n.Pos(), "no domains, expected [example.org], {file: FILE} or the word upstream")
	case !d.Upstream:
		problems.Addf(n.Pos(), "%q is no list of domains, expected [example.org], {file: FILE} or the word upstream", n.Text())
	}
	return problems
}

func (d *Domains) add(names []string) {
	if d.set == nil {
		d.set = make(map[string]bool, len(names))
	}
	for _, name := range names {
		d.set[canonicalDomain(name)] = true
	}
}

// canonicalDomain is the form in which domains are compared: lower case, A-labels, no final dot.
func canonicalDomain(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if isPlainDomain(name) {
		return name
	}
	if ascii, err := toASCII(name); err == nil {
		return ascii
	}
	return name
}

// isPlainDomain reports whether a name in lower case has nothing in it that IDNA (RFC 5891) would change. Nearly all are so.
func isPlainDomain(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return !strings.Contains(name, "xn--")
}

// read adds the domains of a file: one a line, # begins a comment.
func (d *Domains) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w, expected a file with one domain a line", path, cause(err))
	}
	defer f.Close()
	var names []string
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		name, _, _ := strings.Cut(lines.Text(), "#")
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if !isDomainName(name) {
			return fmt.Errorf("%s:%d: %q is not a domain, expected one domain a line", path, n, name)
		}
		names = append(names, name)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, cause(err))
	}
	if len(names) == 0 {
		return fmt.Errorf("%s holds no domain, expected one a line", path)
	}
	d.add(names)
	return nil
}

func (d *Domains) empty() bool {
	return len(d.List) == 0 && d.File == "" && !d.Upstream
}

// Accepts reports whether mail for the domain may come in. Without any domain configured the upstream is a maildir,
// which cannot relay, so that every domain is as good.
func (d *Domains) Accepts(domain string) bool {
	return d.Upstream || d.empty() || d.set[canonicalDomain(domain)]
}

// Guards reports whether it is ours to keep mail from being sent on: not where the upstream decides, nor where it can't relay.
func (d *Domains) Guards() bool { return !d.Upstream && !d.empty() }

// Names lists the configured domains in order.
func (d *Domains) Names() []string {
	names := make([]string, 0, len(d.set))
	for name := range d.set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// cause is the reason of a file error without operation and path, which our messages name themselves.
func cause(err error) error {
	var bad *fs.PathError
	if errors.As(err, &bad) {
		return bad.Err
	}
	return err
}
