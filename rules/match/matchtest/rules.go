package matchtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Rules returns a file of n rules in the style of the packs that ship: some conditions on the text beside others on the
// subject, the sender's name and domain, links and attachments, as they read and as they look.
func Rules(n int) []byte {
	g := generator{rand.New(rand.NewPCG(10, 11))}
	patterns := Patterns(3 * n)
	next := func() string {
		p := patterns[0]
		patterns = patterns[1:]
		return "'" + strings.ReplaceAll(strings.TrimPrefix(p, "(?i)"), "'", "''") + "'"
	}
	var b strings.Builder
	b.WriteString("lists:\n  shops: [paypal.com, amazon.com, netflix.com, docusign.net]\n  freemail: [gmail.com, outlook.com, yahoo.com]\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - id: MADE_%d\n    score: 0.%d\n    when:\n", i, 1+g.IntN(9))
		switch g.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "      {body: text, view: folded, matches: %s}\n", next())
		case 1:
			fmt.Fprintf(&b, "      all:\n        - {body: text, view: folded, matches: %s}\n        - {body: text, view: folded, matches: %s}\n        - not: {header: From, part: domain, in: shops}\n", next(), next())
		case 2:
			fmt.Fprintf(&b, "      any:\n        - {header: Subject, view: folded, matches: %s}\n        - {body: text, view: folded, contains: [%s %s, %s %s]}\n", next(), g.one(adjectives), g.one(nouns), g.one(verbs), g.one(nouns))
		case 3:
			fmt.Fprintf(&b, "      at_least: 2\n      of:\n        - {body: text, view: folded, matches: %s}\n        - {body: text, view: folded, contains: %s %s}\n        - {header: Reply-To, part: domain, in: freemail}\n", next(), g.one(small), g.one(nouns))
		case 4:
			fmt.Fprintf(&b, "      all:\n        - {body: text, view: skeleton, contains: %s}\n        - not: {body: text, view: folded, contains: %s}\n", g.one(nouns), g.one(nouns))
		case 5:
			fmt.Fprintf(&b, "      all:\n        - {header: From, part: name, view: folded, contains: %s}\n        - not: {header: From, part: domain, in: shops}\n        - {body: text, view: folded, matches: %s}\n", g.one(nouns), next())
		case 6:
			fmt.Fprintf(&b, "      any:\n        - uri: {host: {ends_with: .%s}, path: {contains: %s}}\n        - attachment: {name: {ends_with: .%s}}\n", g.one(endings), g.one(verbs), g.one(endings))
		case 7:
			fmt.Fprintf(&b, "      all:\n        - {header: Subject, matches: %s}\n        - not: {auth: dmarc, equals: pass}\n", next())
		}
	}
	return []byte(b.String())
}
