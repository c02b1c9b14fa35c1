package main

import (
	"embed"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

// behind holds what postern init prints for each kind of server behind, and how to begin to enforce. docs/behind.md and
// docs/quickstart.md show the same.
//
//go:embed behind/*.md
var behind embed.FS

// behindText gives one of the texts.
func behindText(name string) string {
	raw, err := behind.ReadFile("behind/" + name + ".md")
	if err != nil {
		return "" // a test looks at each
	}
	return string(raw)
}

// text is the configuration.
func (s *setup) text() string {
	var b strings.Builder
	if err := setupTemplate.Execute(&b, s); err != nil {
		panic("the template of the configuration: " + err.Error())
	}
	return b.String()
}

// ClientInfo is how the server behind is told the real client.
func (s *setup) ClientInfo() string {
	if s.Client == "" {
		return "auto"
	}
	return s.Client
}

// In gives a path below the folder of the state.
func (s *setup) In(name string) string { return filepath.Join(s.State, name) }

// setupTemplate writes names in quotes, so that YAML takes them for text whatever they hold.
var setupTemplate = template.Must(template.New("postern.yaml").Funcs(template.FuncMap{
	"q": strconv.Quote,
	"list": func(words []string) string {
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = strconv.Quote(w)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	},
	"comment": func(s string) string { return strings.Join(strings.Fields(printable(s)), " ") },
}).Parse(setupText))

const setupText = `# Postern's configuration, begun by postern init. docs/configuration.md has every key. "postern check" says whether it can
# serve, "postern reload" puts a change in force.

# Our name: in the banner, at EHLO, in Authentication-Results. The MX record should have it.
hostname: {{q .Hostname}}

# The recipient domains that are accepted. Mail for others is refused, whoever sends it.
domains: {{list .Domains}}

# Look first: nothing is refused, diverted or tagged for what it is. The log says what would have been done (would=), and so
# does the field X-Spam-Status. Set it to false to have the policy below carried out.
observe: true

# Your own network is trusted; relays are servers of yours that receive mail in Postern's place, such as a backup MX.
# networks: {trusted: [192.0.2.0/28], relays: [198.51.100.7]}

listen:
  - address: {{q .Listen}}
{{- if .Cert}}
    tls: {cert: {{q .Cert}}, key: {{q .Key}}}
{{- else}}
    # With a certificate STARTTLS is offered; a new one is taken into use when the files change.
    # tls: {cert: /etc/postern/cert.pem, key: /etc/postern/key.pem}
{{- end}}

upstream:
{{- range .Notes}}
  # {{comment .}}
{{- end}}
  - address: {{q .Upstream}}
    client_info: {{.ClientInfo}}
{{if .DNS}}
dns: {servers: {{list .DNS}}}
{{else}}
# Without this the servers of /etc/resolv.conf are asked. DNS lists want a resolver of your own.
# dns: {servers: ["127.0.0.1:53"]}
{{end}}
{{- if .DNSBL}}
filters:
  dnsbl:
    # Lists have terms of use: look whether yours are free for the mail that you have.
    lists:
{{- $asked := false}}
{{- range .DNSBL}}
{{- $why := index $.Refuse .}}
{{- if $why}}
      # When it was tried: {{comment $why}}
      # - {zone: {{q .}}, score: 6}
{{- else}}
{{- $asked = true}}
      - {zone: {{q .}}, score: 6}
{{- end}}
{{- end}}
{{- if not $asked}}
      []
{{- end}}
{{end}}
# What follows from the score, once observe is false. 0 is never. Begin with reject: 0 if in doubt.
policy: {tag: 5, reject: 12}

# Where mail goes that is diverted, with "quarantine: 8" in the policy above.
# quarantine: {{q (printf "maildir:%s" (.In "quarantine"))}}

# What outlives a restart: which messages were handed on, known clients, rates. Beside it stands the socket of postern reload.
store: {path: {{q (.In "state.db")}}}

# The journal, or a file: /var/log/postern/postern.log.
log: {format: logfmt, output: stderr}

# /metrics for Prometheus, /healthz, /readyz.
metrics: {listen: "127.0.0.1:9125"}
`
