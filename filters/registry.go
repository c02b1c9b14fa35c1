package filters

import (
	"log/slog"
	"strings"
	"time"

	"postern/filters/dns"
	"postern/rules"
	"postern/rules/strict"
)

// Config is the `filters:` section of the configuration.
type Config struct {
	Iprev      CheckConfig[IprevConfig]      `yaml:"iprev"`
	Helo       CheckConfig[HeloConfig]       `yaml:"helo"`
	SPF        CheckConfig[SPFConfig]        `yaml:"spf"`
	MailFrom   CheckConfig[MailFromConfig]   `yaml:"mailfrom"`
	DKIM       CheckConfig[DKIMConfig]       `yaml:"dkim"`
	ARC        CheckConfig[ARCConfig]        `yaml:"arc"`
	DMARC      CheckConfig[DMARCConfig]      `yaml:"dmarc"`
	DNSBL      CheckConfig[DNSBLConfig]      `yaml:"dnsbl"`
	Defects    CheckConfig[DefectsConfig]    `yaml:"defects"`
	ClamAV     CheckConfig[ClamAVConfig]     `yaml:"clamav"`
	Classifier CheckConfig[ClassifierConfig] `yaml:"classifier"`
	Rate       CheckConfig[RateConfig]       `yaml:"rate"`
	Content    CheckConfig[ContentConfig]    `yaml:"content"`
}

// CheckConfig is what every check has, and beside it what only this one has.
type CheckConfig[T any] struct {
	Enabled bool          `yaml:"enabled"`
	OnError OnError       `yaml:"on_error"`
	Limit   time.Duration `yaml:"limit"`
	Own     T             `yaml:",inline"`
}

// UnmarshalStrict reads pass, tag or defer.
func (o *OnError) UnmarshalStrict(n *strict.Node) strict.Problems {
	return decodeWord(n, o, "pass", "tag", "defer")
}

// decodeWord reads one of a few words into the number of its place among them.
func decodeWord[T ~uint8](n *strict.Node, into *T, words ...string) strict.Problems {
	var word string
	problems := n.Decode(&word)
	if len(problems) > 0 {
		return problems
	}
	for i, w := range words {
		if w == word {
			*into = T(i)
			return nil
		}
	}
	problems.Addf(n.Pos(), "%q is not known here, expected %s", word, strings.Join(words, ", "))
	return problems
}

// DefaultConfig is the filters section of an empty configuration: every check on, none of them fatal.
func DefaultConfig() Config {
	return Config{
		Iprev:      on(defaultIprevConfig),
		Helo:       on(defaultHeloConfig),
		SPF:        on(defaultSPFConfig),
		MailFrom:   on(defaultMailFromConfig),
		DKIM:       on(defaultDKIMConfig),
		ARC:        on(defaultARCConfig),
		DMARC:      on(defaultDMARCConfig),
		DNSBL:      on(defaultDNSBLConfig),
		Defects:    on(defaultDefectsConfig),
		ClamAV:     on(defaultClamAVConfig),
		Classifier: on(defaultClassifierConfig),
		Rate:       on(defaultRateConfig),
		Content:    on(defaultContentConfig),
	}
}

// TimeLimits are the limits of the checks by name.
func (c Config) TimeLimits() map[string]time.Duration {
	return map[string]time.Duration{
		"iprev":      c.Iprev.Limit,
		"helo":       c.Helo.Limit,
		"spf":        c.SPF.Limit,
		"mailfrom":   c.MailFrom.Limit,
		"dkim":       c.DKIM.Limit,
		"arc":        c.ARC.Limit,
		"dmarc":      c.DMARC.Limit,
		"dnsbl":      c.DNSBL.Limit,
		"defects":    c.Defects.Limit,
		"clamav":     c.ClamAV.Limit,
		"classifier": c.Classifier.Limit,
		"rate":       c.Rate.Limit,
		"content":    c.Content.Limit,
	}
}

func on[T any](own func() T) CheckConfig[T] {
	return CheckConfig[T]{Enabled: true, OnError: PassOnError, Limit: 20 * time.Second, Own: own()}
}

// chain is the whole pipeline, in the order in which results are merged, and so in which they stand in the log.
// rules says that there are content rules, which run behind it.
func chain(cfg Config, r dns.Lookuper, rules bool, log *slog.Logger) []Stage {
	lists := newDNSBLLists(cfg.DNSBL.Own, r, log)
	return []Stage{
		stage(cfg.Iprev, func(c IprevConfig) Check { return newIprev(c, r) }),
		stage(cfg.DNSBL, func(DNSBLConfig) Check { return newDNSBL(lists) }),
		domainLists(cfg.DNSBL, lists, dnsblRDNS),
		stage(cfg.Helo, func(c HeloConfig) Check { return newHelo(c, r) }),
		domainLists(cfg.DNSBL, lists, dnsblHelo),
		stage(cfg.SPF, func(c SPFConfig) Check { return newSPF(c, r) }),
		stage(cfg.MailFrom, func(c MailFromConfig) Check { return newMailFrom(c, r) }),
		domainLists(cfg.DNSBL, lists, dnsblMail),
		stage(cfg.DKIM, func(c DKIMConfig) Check { return newDKIM(c, r) }),
		stage(cfg.ARC, func(c ARCConfig) Check { return newARC(c, r) }),
		stage(cfg.DMARC, func(c DMARCConfig) Check { return newDMARC(c, cfg.ARC.Own.Sealers, r) }),
		domainLists(cfg.DNSBL, lists, dnsblFrom),
		domainLists(cfg.DNSBL, lists, dnsblDKIM),
		linkLists(cfg.DNSBL, lists),
		stage(cfg.Defects, func(c DefectsConfig) Check { return newDefects(c, rules) }),
		clamavStage(cfg.ClamAV, log),
		classifierStage(cfg.Classifier, log),
		stage(cfg.Rate, func(c RateConfig) Check { return newClientRate(c) }),
		stage(cfg.Rate, func(c RateConfig) Check { return newFromRate(c) }),
	}
}

// clamavStage is off where no daemon is configured.
func clamavStage(cfg CheckConfig[ClamAVConfig], log *slog.Logger) Stage {
	s := stage(cfg, func(c ClamAVConfig) Check { return newClamAV(c, log) })
	s.Off = s.Off || cfg.Own.Address == ""
	return s
}

// classifierStage is off where no model is configured.
func classifierStage(cfg CheckConfig[ClassifierConfig], log *slog.Logger) Stage {
	s := stage(cfg, func(c ClassifierConfig) Check { return newClassifier(c, log) })
	s.Off = s.Off || cfg.Own.Model == ""
	return s
}

func stage[T any](cfg CheckConfig[T], build func(T) Check) Stage {
	return Stage{Check: build(cfg.Own), Limit: cfg.Limit, OnError: cfg.OnError, Off: !cfg.Enabled}
}

// domainLists is the stage that asks lists about one kind of domain. It is off where no list is asked about it.
func domainLists(cfg CheckConfig[DNSBLConfig], all *dnsblLists, of DNSBLIdentity) Stage {
	check := newDNSBLDomain(all, of)
	s := stage(cfg, func(DNSBLConfig) Check { return check })
	s.Off = s.Off || len(check.lists) == 0
	return s
}

// linkLists is the stage that asks lists about links. It is off where no list is asked about them.
func linkLists(cfg CheckConfig[DNSBLConfig], all *dnsblLists) Stage {
	check := newURIBL(cfg.Own, all)
	s := stage(cfg, func(DNSBLConfig) Check { return check })
	s.Off = s.Off || len(check.lists) == 0
	return s
}

// Build puts the configured checks into a pipeline. set may be nil: no content rules.
func Build(cfg Config, r dns.Lookuper, set *rules.Set, log *slog.Logger) (*Pipeline, error) {
	content := cfg.Content.Enabled && set != nil
	stages := chain(cfg, r, content, log)
	for i := range stages {
		if r, ok := stages[i].Check.(*rate); ok && !(content && r.asked(set)) {
			stages[i].Off = true
		}
	}
	if content {
		stages = append(stages, Stage{
			Check:   newContent(set, stages),
			Limit:   cfg.Content.Limit,
			OnError: cfg.Content.OnError,
		})
	}
	return NewPipeline(stages)
}

// Symbols lists what the configured checks can yield, and so what a rule may refer to. A name that ends in "*"
// stands for all that begin so.
func Symbols(cfg Config) []string {
	var names []string
	for _, s := range chain(cfg, dns.Offline(), false, slog.New(slog.DiscardHandler)) {
		names = append(names, symbolsOf(s.Check)...)
	}
	return names
}

// symbolsOf lists what a check can yield, its own failure among it.
func symbolsOf(c Check) []string {
	names := []string{c.Name() + ".error"}
	if s, ok := c.(Symboler); ok {
		names = append(names, s.Symbols()...)
	}
	return names
}

// matchesSymbol reports whether name is pattern, or begins as a pattern that ends in "*".
func matchesSymbol(pattern, name string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
