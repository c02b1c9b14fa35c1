// Package samples holds the messages that "postern demo" sends through the proxy, the DNS zone in which their senders
// live, and what should come of each.
//
// The messages are whole files as a mail server would receive them: CRLF line ends, real DKIM signatures. One is a
// recorded SMTP dialogue instead. The zone and the keys use domains and addresses that are kept for documentation.
package samples

import (
	"embed"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"postern/rules/strict"
)

//go:embed *.eml *.smtp zone index.yaml
var files embed.FS

// Sample is one message and the way in which it is sent.
type Sample struct {
	File   string     `yaml:"file"`
	Title  string     `yaml:"title"` // a few words for a table
	IP     netip.Addr `yaml:"ip"`    // of the client
	Helo   string     `yaml:"helo"`
	From   string     `yaml:"from"` // reverse-path, empty for a bounce
	Rcpt   []string   `yaml:"rcpt"`
	Expect Expect     `yaml:"expect"`
	Sign   []Sign     `yaml:"sign"`
	Tamper Tamper     `yaml:"tamper"`

	// Data is the message, dots not stuffed; for a dialogue all that the client sends, from HELO to QUIT.
	Data []byte `yaml:"-"`
}

// Expect is what should come of a message.
type Expect struct {
	Action  string   `yaml:"action"`  // accept, tag, quarantine, defer, reject, or refuse for an unknown recipient
	Code    int      `yaml:"code"`    // of the last reply: to the final dot, or to RCPT for refuse
	Symbols []string `yaml:"symbols"` // findings that must be there
}

// Sign is a DKIM signature that the file was given, in the order in which they were added.
type Sign struct {
	Domain   string `yaml:"domain"`
	Selector string `yaml:"selector"`
	Key      string `yaml:"key"`     // rsa or ed25519
	Without  string `yaml:"without"` // the signer saw the body only up to this line, which was added later
}

// Tamper is a change that was made after signing.
type Tamper struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// An index is the file that lists the samples.
type index struct {
	Samples []Sample `yaml:"samples"`
}

// Schema gives the JSON Schema of the index, for editors.
func Schema() map[string]any {
	s := strict.Schema(reflect.TypeFor[index]())
	s["$schema"], s["title"] = strict.SchemaURL, "The sample messages of postern demo"
	return s
}

// Dialogue says whether Data is a recorded dialogue, to be sent line by line, rather than a message.
func (s Sample) Dialogue() bool { return strings.HasSuffix(s.File, ".smtp") }

// All gives the samples in their order.
func All() ([]Sample, error) {
	src, err := files.ReadFile("index.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the index of samples: %w", err)
	}
	doc, err := strict.Parse("index.yaml", src)
	if err != nil {
		return nil, err
	}
	var list index
	if err := doc.Decode(&list).Err(); err != nil {
		return nil, err
	}
	for i := range list.Samples {
		s := &list.Samples[i]
		if s.Data, err = files.ReadFile(s.File); err != nil {
			return nil, fmt.Errorf("read a sample: %w", err)
		}
	}
	return list.Samples, nil
}

// Zone gives the DNS zone of the samples in master file format, for package filters/dns/zone.
func Zone() ([]byte, error) {
	b, err := files.ReadFile("zone")
	if err != nil {
		return nil, fmt.Errorf("read the zone of the samples: %w", err)
	}
	return b, nil
}
