package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/filters"
	"postern/filters/dns"
	"postern/proxy/upstream"
	"postern/rules/strict"
)

// Config is the whole configuration file. docs/configuration.md describes every key.
type Config struct {
	Hostname   string                  `yaml:"hostname"`
	Contact    string                  `yaml:"contact"`
	Domains    Domains                 `yaml:"domains"`
	Observe    bool                    `yaml:"observe"`
	Networks   Networks                `yaml:"networks"`
	Listen     []Listen                `yaml:"listen"`
	Upstream   []Upstream              `yaml:"upstream"`
	Routes     []Route                 `yaml:"routes"`
	DNS        DNS                     `yaml:"dns"`
	Filters    filters.Config          `yaml:"filters"`
	Policy     Policy                  `yaml:"policy"`
	Policies   map[string]DomainPolicy `yaml:"policies"`
	Quarantine string                  `yaml:"quarantine"`
	Subject    string                  `yaml:"subject_tag"`
	Health     Health                  `yaml:"health"`
	Budget     Budget                  `yaml:"budget"`
	Limits     Limits                  `yaml:"limits"`
	Log        Log                     `yaml:"log"`
	Store      Store                   `yaml:"store"`
	Metrics    Metrics                 `yaml:"metrics"`
	Control    string                  `yaml:"control"` // the socket of postern reload; "" for none

	File string `yaml:"-"` // where it was read from; "" for the embedded default
	doc  *strict.Doc

	ruleFiles []string // that stand in for those of the file; see WithRules
}

// Networks says whom we judge.
type Networks struct {
	Trusted []netip.Prefix `yaml:"trusted"` // their mail is not held to SPF, DMARC, DNSBL or HELO
	Relays  []netip.Prefix `yaml:"relays"`  // the client that they wrote into Received is judged in their place
}

// Listen is one listening socket.
type Listen struct {
	Address     string         `yaml:"address"`
	Socket      string         `yaml:"socket"` // the name of the one to inherit
	TLS         Certificates   `yaml:"tls"`
	ImplicitTLS bool           `yaml:"implicit_tls"`
	Proxy       []netip.Prefix `yaml:"proxy_protocol"`
	XClient     []netip.Prefix `yaml:"xclient"`
	BareNewline string         `yaml:"bare_newline"`
}

// Certificates is one pair of files, or a list of them for SNI.
type Certificates []Certificate

// Certificate is a certificate chain and its key, as PEM files.
type Certificate struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// UnmarshalStrict reads one {cert, key} or a list of them.
func (c *Certificates) UnmarshalStrict(n *strict.Node) strict.Problems {
	if n.Kind() == strict.Sequence {
		return n.Decode((*[]Certificate)(c))
	}
	var single Certificate
	problems := n.Decode(&single)
	*c = Certificates{single}
	return problems
}

// Upstream is one next hop.
type Upstream struct {
	Address    string `yaml:"address"`
	ClientInfo string `yaml:"client_info"`
	TLS        string `yaml:"tls"`
	Priority   int    `yaml:"priority"` // the lower ones are tried first
	Weight     int    `yaml:"weight"`   // the share among those of one priority
}

// UnmarshalStrict fills in the defaults of an upstream, which stands in a list and so in no default value.
func (u *Upstream) UnmarshalStrict(n *strict.Node) strict.Problems {
	type plain Upstream
	p := plain{ClientInfo: "auto", Weight: 1}
	problems := n.Decode(&p)
	*u = Upstream(p)
	return problems
}

// Route sends the mail for some recipient domains to upstreams of their own.
type Route struct {
	Domains  []string   `yaml:"domains"`
	Upstream []Upstream `yaml:"upstream"`
}

// Health says when an upstream is taken out of use, and how it comes back.
type Health struct {
	Interval time.Duration `yaml:"interval"` // between two probes of one that answers, and at most of one that does not
	Timeout  time.Duration `yaml:"timeout"`  // of a probe
	Fails    int           `yaml:"fails"`    // failures in a row that take it out
	Retry    time.Duration `yaml:"retry"`    // from the first failure to the next probe; doubled with each
}

// DNS is the resolver's part.
type DNS struct {
	Servers []string      `yaml:"servers"`
	Timeout time.Duration `yaml:"timeout"`
	Cache   int           `yaml:"cache"`
}

// Thresholds are scores in points; zero is never.
type Thresholds struct {
	Tag        float64 `yaml:"tag"`
	Quarantine float64 `yaml:"quarantine"`
	Reject     float64 `yaml:"reject"`
}

// DomainPolicy is what is different for a recipient domain.
type DomainPolicy struct {
	Thresholds `yaml:",inline"`
	Rules      filters.RuleOverrides `yaml:"rules"`
}

// Policy is what the score and the exceptions lead to.
type Policy struct {
	Thresholds `yaml:",inline"`
	Split      string `yaml:"split"`
	Postmaster string `yaml:"postmaster"`
	Bounces    string `yaml:"bounces"`
}

// Budget bounds how long things take together.
type Budget struct {
	Filters time.Duration `yaml:"filters"`
	Connect time.Duration `yaml:"upstream_connect"`
	Command time.Duration `yaml:"upstream_command"`
	Data    time.Duration `yaml:"upstream_data"`
	Reply   time.Duration `yaml:"upstream_reply"`
}

// Limits bounds what a client may use.
type Limits struct {
	Connections int           `yaml:"connections"`
	PerIP       int           `yaml:"per_ip"`
	Arrivals    int           `yaml:"connections_per_minute"`
	Mails       int           `yaml:"messages_per_minute"`
	Network     int           `yaml:"network_factor"` // how many times as much as one address a /24 or /64 has of the three above
	Message     strict.Size   `yaml:"message"`
	Recipients  int           `yaml:"recipients"`
	Unknown     int           `yaml:"unknown_recipients"`
	Commands    int           `yaml:"commands"`
	Errors      int           `yaml:"errors"`
	Unheard     int           `yaml:"unknown_commands"`
	CommandLine strict.Size   `yaml:"command_line"`
	MessageLine strict.Size   `yaml:"message_line"`
	Banner      time.Duration `yaml:"banner_wait"`
	Handshake   time.Duration `yaml:"handshake"`
	Session     time.Duration `yaml:"session"`
	Idle        time.Duration `yaml:"idle"`
	Memory      strict.Size   `yaml:"spool_memory"`
	AllMemory   strict.Size   `yaml:"spool_memory_total"`
	Spool       strict.Size   `yaml:"spool_total"`
	Relaying    int           `yaml:"received"`
}

// Log is where and how the log is written.
type Log struct {
	Format string    `yaml:"format"`
	Output string    `yaml:"output"` // see parseLogOutput
	Level  string    `yaml:"level"`
	Redact Redaction `yaml:"redact"`
}

// Store is where small state lives between restarts.
type Store struct {
	Kind string `yaml:"kind"`
	Path string `yaml:"path"`
}

// Metrics is where the counters, and whether it is well, can be asked for by HTTP.
type Metrics struct {
	Listen string `yaml:"listen"` // host:port; "" for nowhere
	Pprof  bool   `yaml:"pprof"`  // profiles too, to this machine alone
}

// DefaultPath is the configuration that is read when none is named and it exists.
const DefaultPath = "/etc/postern/postern.yaml"

// DefaultConfig is every default in one place.
func DefaultConfig() Config {
	return Config{
		DNS:     DNS{Timeout: 3 * time.Second, Cache: 100_000},
		Filters: filters.DefaultConfig(),
		Policy: Policy{
			Thresholds: Thresholds{Tag: 5, Reject: 12},
			Split:      "lenient",
			Postmaster: "tag",
			Bounces:    "reject",
		},
		Health: Health{Interval: time.Minute, Timeout: 5 * time.Second, Fails: 3, Retry: 2 * time.Second},
		Budget: Budget{
			Filters: 30 * time.Second,
			Connect: 30 * time.Second,
			Command: time.Minute,
			Data:    3 * time.Minute,
			Reply:   9 * time.Minute,
		},
		Limits: Limits{
			Connections: 2000,
			PerIP:       20,
			Arrivals:    600,
			Mails:       1200,
			Network:     5,
			Message:     50 << 20,
			Recipients:  100,
			Unknown:     20,
			Commands:    1000,
			Errors:      20,
			Unheard:     10,
			CommandLine: 2 << 10,
			MessageLine: 1 << 20,
			Banner:      2 * time.Second,
			Handshake:   30 * time.Second,
			Session:     30 * time.Minute,
			Idle:        5 * time.Minute,
			Memory:      1 << 20,
			AllMemory:   128 << 20,
			Spool:       4 << 30,
			Relaying:    50,
		},
		Log:   Log{Format: "logfmt", Output: "stderr", Level: "info", Redact: RedactNothing},
		Store: Store{Kind: "memory"},
	}
}

// EmbeddedConfig is what serves without a configuration file: 127.0.0.1:2525 into a Maildir, observing.
func EmbeddedConfig(maildir string) *Config {
	cfg := DefaultConfig()
	cfg.Hostname = "localhost"
	cfg.Observe = true
	cfg.Listen = []Listen{{Address: "127.0.0.1:2525", BareNewline: "reject"}}
	cfg.Upstream = []Upstream{{Address: "maildir:" + maildir, ClientInfo: "auto", Weight: 1}}
	return &cfg
}

// LoadConfig reads, decodes and validates a configuration file. The error lists all that is wrong, each as
// file:line:column. Relative paths in the file are relative to its folder.
func LoadConfig(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		var bad *fs.PathError
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return nil, fmt.Errorf("%s: cannot read the configuration: %w", path, err)
	}
	return ParseConfig(path, src)
}

// ParseConfig is LoadConfig for bytes already read; path gives the errors their file and relative paths their folder.
func ParseConfig(path string, src []byte) (*Config, error) {
	doc, err := strict.Parse(path, src)
	if err != nil {
		return nil, err
	}
	cfg := DefaultConfig()
	cfg.File, cfg.doc = path, doc
	problems := doc.Decode(&cfg)
	if len(problems) > 0 {
		return nil, problems
	}
	cfg.fill()
	if problems := cfg.validate(); len(problems) > 0 {
		return nil, problems
	}
	return &cfg, nil
}

// fill sets what depends on the machine or on other keys.
func (c *Config) fill() {
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	if c.Store.Path != "" && !c.given("store", "kind") {
		c.Store.Kind = "bbolt"
	}
	c.Store.Path = c.Path(c.Store.Path)
	if c.Control == "" && c.Store.Path != "" && !c.given("control") {
		if beside := filepath.Join(filepath.Dir(c.Store.Path), "control"); fitsSocket(beside) {
			c.Control = beside
		}
	}
	c.Control = c.Path(c.Control)
	if sink, err := parseLogOutput(c.Log.Output); err == nil && sink.file != "" {
		c.Log.Output = c.Path(c.Log.Output)
	}
	c.inherit()
	for i := range c.Listen {
		l := &c.Listen[i]
		if l.BareNewline == "" {
			l.BareNewline = "reject"
		}
		for j := range l.TLS {
			l.TLS[j].Cert, l.TLS[j].Key = c.Path(l.TLS[j].Cert), c.Path(l.TLS[j].Key)
		}
	}
}

// inherit gives a domain's own policy the thresholds that it does not name: those of the policy for all.
func (c *Config) inherit() {
	for domain, t := range c.Policies {
		for _, threshold := range []struct {
			key string
			own *float64
			all float64
		}{
			{"tag", &t.Tag, c.Policy.Tag},
			{"quarantine", &t.Quarantine, c.Policy.Quarantine},
			{"reject", &t.Reject, c.Policy.Reject},
		} {
			if !c.given("policies", domain, threshold.key) {
				*threshold.own = threshold.all
			}
		}
		c.Policies[domain] = t
	}
}

// pos is where a key stands in the file; the embedded default has no places.
func (c *Config) pos(path ...any) strict.Pos {
	if c.doc == nil {
		return strict.Pos{File: "embedded configuration"}
	}
	return c.doc.Pos(path...)
}

// Path makes a path that stands in the configuration relative to its folder.
func (c *Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) || c.File == "" {
		return p
	}
	return filepath.Join(filepath.Dir(c.File), p)
}

// UpstreamAddress makes the path of a maildir: address relative to the configuration's folder.
func (c *Config) UpstreamAddress(address string) string {
	if dir, ok := strings.CutPrefix(address, "maildir:"); ok && dir != "" {
		return "maildir:" + c.Path(dir)
	}
	return address
}

func (c *Config) upstreamConfig(u Upstream) upstream.Config {
	return upstream.Config{
		Address:    c.UpstreamAddress(u.Address),
		ClientInfo: u.ClientInfo,
		Hostname:   c.Hostname,
		TLS:        u.TLS,
		Timeouts: upstream.Timeouts{
			Connect: c.Budget.Connect,
			Command: c.Budget.Command,
			Data:    c.Budget.Data,
			Reply:   c.Budget.Reply,
		},
	}
}

func (c *Config) resolver() (*dns.Resolver, error) {
	return dns.New(dns.Config{Servers: c.DNS.Servers, Timeout: c.DNS.Timeout, Cache: c.DNS.Cache})
}
