package filters

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"postern/rules/strict"
)

// ClamAVConfig is the configuration of the check that has ClamAV's daemon look for malware.
type ClamAVConfig struct {
	Address    ClamdAddress     `yaml:"address"`    // empty: the check does nothing
	MaxSize    strict.Size      `yaml:"max_size"`   // larger messages are not scanned
	Action     MalwareAction    `yaml:"action"`     // what becomes of a message with malware
	Signatures MalwareSignature `yaml:"signatures"` // points in place of the action
	Scores     Scores           `yaml:"scores"`
}

func defaultClamAVConfig() ClamAVConfig {
	return ClamAVConfig{MaxSize: 25 << 20, Action: MalwareAction(Reject), Scores: Scores{"clean": 0, "too_large": 0}}
}

// ClamdAddress is where the daemon listens: unix:PATH or HOST:PORT.
type ClamdAddress string

// UnmarshalStrict refuses what is neither of the forms.
func (a *ClamdAddress) UnmarshalStrict(n *strict.Node) strict.Problems {
	var text string
	problems := n.Decode(&text)
	if len(problems) > 0 || text == "" {
		return problems
	}
	const expected = "expected such as unix:/run/clamav/clamd.ctl or 127.0.0.1:3310"
	if path, unix := strings.CutPrefix(text, "unix:"); unix {
		if !filepath.IsAbs(path) {
			problems.Addf(n.Pos(), "%q is not the whole path of a socket, %s", path, expected)
		}
	} else if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
		problems.Addf(n.Pos(), "%q is no address of clamd, %s", text, expected)
	}
	*a = ClamdAddress(text)
	return problems
}

// clamd is the daemon there.
func (a ClamdAddress) clamd() clamd {
	if path, unix := strings.CutPrefix(string(a), "unix:"); unix {
		return clamd{network: "unix", address: path}
	}
	return clamd{network: "tcp", address: string(a)}
}

// MalwareAction is what becomes of a message with malware: it is diverted or refused, whatever else speaks for it.
type MalwareAction Action

var malwareActions = []string{Quarantine.String(), Reject.String()}

// UnmarshalStrict reads quarantine or reject.
func (a *MalwareAction) UnmarshalStrict(n *strict.Node) strict.Problems {
	var word string
	problems := n.Decode(&word)
	if len(problems) > 0 {
		return problems
	}
	if !slices.Contains(malwareActions, word) {
		problems.Addf(n.Pos(), "%q is not known here, expected %s", word, strings.Join(malwareActions, ", "))
		return problems
	}
	*a = MalwareAction(ActionNamed(word))
	return nil
}

func (a MalwareAction) String() string { return Action(a).String() }

// MalwareSignature gives points for signatures that are no proof of malware: {"Heuristics.*": 4}. A name that ends in "*" stands
// for all that begin so.
type MalwareSignature map[string]float64

// UnmarshalStrict refuses what are no points.
func (s *MalwareSignature) UnmarshalStrict(n *strict.Node) strict.Problems {
	read := map[string]float64{}
	problems := n.Decode(&read)
	for _, pair := range n.Pairs() {
		if wrong := BadPoints(read[pair.Key.Text()]); wrong != "" {
			problems.Addf(pair.Value.Pos(), "%s", wrong)
		}
	}
	*s = read
	return problems
}

// points gives those of the longest name that fits.
func (s MalwareSignature) points(signature string) (points Score, found bool) {
	longest := ""
	for _, pattern := range slices.Sorted(maps.Keys(s)) {
		if matchesSymbol(pattern, signature) && len(pattern) > len(longest) {
			longest, found = pattern, true
		}
	}
	return Points(s[longest]), found
}

// clamavCheck has ClamAV's daemon read each message, from trusted clients too.
type clamavCheck struct {
	cfg   ClamAVConfig
	clamd clamd
	log   *slog.Logger
	mute  atomic.Bool // its failure is logged already
}

var (
	_ Symboler     = (*clamavCheck)(nil)
	_ SelfTester   = (*clamavCheck)(nil)
	_ MalwareJudge = (*clamavCheck)(nil)
)

func newClamAV(cfg ClamAVConfig, log *slog.Logger) *clamavCheck {
	return &clamavCheck{cfg: cfg, clamd: cfg.Address.clamd(), log: log}
}

func (c *clamavCheck) Name() string    { return "clamav" }
func (c *clamavCheck) Scope() Scope    { return PerMessage }
func (c *clamavCheck) Needs() []string { return nil }

// JudgesMalware marks the check as one that goes before what would accept a message.
func (c *clamavCheck) JudgesMalware() {}

// Symbols names what is found, with and without a doubt, and what is not.
func (c *clamavCheck) Symbols() []string {
	return append(c.cfg.Scores.symbols("clamav"), "clamav.malware", "clamav.suspicion")
}

// SelfTest asks whether the daemon is there, and logs it once when it is not.
func (c *clamavCheck) SelfTest(ctx context.Context, _ time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := c.clamd.Ping(ctx); err == nil {
		c.mute.Store(false)
	} else if !c.mute.Swap(true) {
		c.log.Warn("clamd_failed", "address", string(c.cfg.Address), "error", err)
	}
}

// Run has the whole message scanned, as it came.
func (c *clamavCheck) Run(ctx context.Context, in Input) Report {
	tooLarge := func(why string) Report {
		return Report{Findings: []Finding{c.cfg.Scores.finding("clamav", "too_large", fmt.Sprintf("%d octets: more than %s", in.Message.Size(), why))}}
	}
	if in.Message.Size() > int64(c.cfg.MaxSize) {
		return tooLarge("max_size")
	}
	res, err := c.clamd.Scan(ctx, in.Message.Raw())
	switch {
	case err != nil:
		return Report{Err: err}
	case res.TooLarge:
		return tooLarge("clamd takes (StreamMaxLength)")
	case res.Signature == "":
		return Report{Findings: []Finding{c.cfg.Scores.finding("clamav", "clean", "")}}
	}
	name := printableASCII(res.Signature, maxSignature)
	if points, known := c.cfg.Signatures.points(res.Signature); known {
		return Report{Findings: []Finding{{Symbol: "clamav.suspicion", Score: points, Detail: name}}}
	}
	return Report{Findings: []Finding{{
		Symbol: "clamav.malware", Detail: name, Malware: true, Force: Action(c.cfg.Action),
		Reply: "the message carries malware (" + name + ")",
	}}}
}

// maxSignature bounds the name of a signature that is shown.
const maxSignature = 120
