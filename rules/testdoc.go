package rules

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"postern/rules/strict"
)

// tlsVersions are those that a client can have come with.
var tlsVersions = []string{"1.2", "1.3"}

// testDoc reads a test of a rule:
//
//   - hit: |
//     Subject: text of a message
//   - miss: {file: mail.eml, ip: 192.0.2.7, auth: {dmarc: pass}}
type testDoc struct{ test Test }

// mailDoc is a test whose message stands beside its circumstances.
type mailDoc struct {
	Mail    string            `yaml:"mail"`
	File    string            `yaml:"file"`
	IP      netip.Addr        `yaml:"ip"`
	RDNS    string            `yaml:"rdns"`
	Helo    string            `yaml:"helo"`
	From    *string           `yaml:"from"`
	Rcpt    wordOrWords       `yaml:"rcpt"`
	Auth    map[string]string `yaml:"auth"`
	Symbols symbolCounts      `yaml:"symbols"`
	DNS     DNS               `yaml:"dns"`
	TLS     *string           `yaml:"tls"`
	Time    *strict.Node      `yaml:"time"`
}

// UnmarshalStrict reads {hit: ...} or {miss: ...}.
func (d *testDoc) UnmarshalStrict(n *strict.Node) strict.Problems {
	var p strict.Problems
	pairs := n.Pairs()
	if len(pairs) != 1 || pairs[0].Key.Text() != string(Hit) && pairs[0].Key.Text() != string(Miss) {
		p.Addf(n.Pos(), "expected a test like {hit: MAIL} or {miss: {file: NAME, ip: 192.0.2.7}}, got %s", describe(n))
		return p
	}
	d.test = Test{Want: Want(pairs[0].Key.Text()), Pos: pairs[0].Key.Pos()}
	value := pairs[0].Value
	if value.Kind() == strict.Scalar {
		d.test.Mail = value.Text()
		return nil
	}
	var m mailDoc
	p.Add(value.Decode(&m))
	if m.Mail != "" && m.File != "" {
		p.Addf(value.Pos(), "mail and file in one test, expected one of them")
	}
	t := &d.test
	t.Mail, t.File, t.IP, t.RDNS, t.Helo, t.Rcpts, t.Symbols, t.DNS = m.Mail, m.File, m.IP, m.RDNS, m.Helo, m.Rcpt, m.Symbols, m.DNS
	if m.TLS != nil && !slices.Contains(tlsVersions, *m.TLS) {
		p.Addf(value.Get("tls").Pos(), "%s", strict.Unknown("version of TLS", *m.TLS, tlsVersions))
	} else if m.TLS != nil {
		t.TLS = *m.TLS
	}
	if m.From != nil {
		t.From = *m.From
	}
	for _, name := range names(m.Auth) {
		def, ok := subjects["auth"][name]
		switch pos := value.Get("auth").Get(name).Pos(); {
		case !ok:
			p.Addf(pos, "%s", strict.Unknown("part of auth", name, names(subjects["auth"])))
		case def.word != nil && !slices.Contains(def.word, m.Auth[name]):
			p.Addf(pos, "%s", strict.Unknown("value of auth "+name, m.Auth[name], def.word))
		default:
			if t.Auth == nil {
				t.Auth = map[string]string{}
			}
			t.Auth[name] = m.Auth[name]
		}
	}
	if m.Time != nil {
		at, err := time.Parse(time.RFC3339, m.Time.Text())
		if err != nil {
			p.Addf(m.Time.Pos(), "expected a time like 2024-05-17T22:30:00+02:00, got %s", describe(m.Time))
		}
		t.Time = at
	}
	return p
}

// wordOrWords reads one word or a list of them.
type wordOrWords []string

// UnmarshalStrict reads a scalar or a list of scalars.
func (w *wordOrWords) UnmarshalStrict(n *strict.Node) strict.Problems {
	if n.Kind() == strict.Scalar {
		*w = wordOrWords{n.Text()}
		return nil
	}
	return n.Decode((*[]string)(w))
}

// symbolCounts reads a list of symbols, or a mapping from symbols to how often each was found.
type symbolCounts map[string]int

// UnmarshalStrict reads [spf.fail] or {rate.client: 60}.
func (s *symbolCounts) UnmarshalStrict(n *strict.Node) strict.Problems {
	if n.Kind() == strict.Mapping {
		return n.Decode((*map[string]int)(s))
	}
	var list wordOrWords
	p := list.UnmarshalStrict(n)
	*s = symbolCounts{}
	for _, name := range list {
		(*s)[name]++
	}
	return p
}

// crlf makes the line ends of mail in a rule file what they are on the wire.
func crlf(s string) []byte {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return []byte(strings.ReplaceAll(s, "\n", "\r\n"))
}

// beside returns the path of a file that a rule file names.
func beside(ruleFile, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(ruleFile), name)
}
