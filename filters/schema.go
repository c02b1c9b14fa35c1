package filters

import (
	"maps"
	"reflect"
	"slices"

	"postern/rules"
	"postern/rules/strict"
)

// What the types of the configuration that read themselves accept, for [strict.Schema].

// Schema is that of what follows a failed check.
func (OnError) Schema() map[string]any { return strict.WordsSchema("pass", "tag", "defer") }

// Schema is that of the mode of a rule.
func (RuleMode) Schema() map[string]any { return strict.WordsSchema(rules.ModeNames()...) }

// Schema is that of rules by their ids.
func (RuleOverrides) Schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": strict.Schema(reflect.TypeFor[RuleOverride]())}
}

// Schema is that of points by symbol.
func (Scores) Schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": scoreSchema()}
}

func scoreSchema() map[string]any {
	return map[string]any{"type": "number", "minimum": -maxPoints, "maximum": maxPoints}
}

// Schema is that of what becomes of malware.
func (MalwareAction) Schema() map[string]any { return strict.WordsSchema(malwareActions...) }

// Schema is that of points by signature.
func (MalwareSignature) Schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": scoreSchema()}
}

// Schema is that of where clamd listens.
func (ClamdAddress) Schema() map[string]any { return strict.TextSchema() }

// Schema is that of a list of domains.
func (DomainNames) Schema() map[string]any { return listSchema(strict.TextSchema()) }

func listSchema(of map[string]any) map[string]any {
	return map[string]any{"type": "array", "items": of}
}

// Schema is that of what a list is asked about.
func (DNSBLIdentity) Schema() map[string]any {
	var words []string
	for _, of := range dnsblIdentities {
		words = append(words, string(of))
	}
	return strict.WordsSchema(words...)
}

// Schema is that of a DNS list.
func (DNSBLList) Schema() map[string]any {
	type plain DNSBLList
	s := strict.Schema(reflect.TypeFor[plain]())
	s["type"], s["required"] = "object", []any{"zone"}
	return s
}

// Schema is that of DNS lists.
func (DNSBLLists) Schema() map[string]any {
	return listSchema(DNSBLList{}.Schema())
}

// Schema is that of the policies that are carried out.
func (DMARCHonor) Schema() map[string]any {
	return listSchema(strict.WordsSchema(string(dmarcQuarantine), string(dmarcReject)))
}

// Schema is that of the ways to find organizational domains.
func (DMARCDiscovery) Schema() map[string]any { return strict.WordsSchema("treewalk", "psl") }

// Schema is that of the section `filters`: of each check, the symbols that can have points.
func (c Config) Schema() map[string]any {
	type plain Config
	s := strict.Schema(reflect.TypeFor[plain]())
	checks := s["properties"].(map[string]any)
	for name, scores := range scoresOf(DefaultConfig()) {
		own := checks[name].(map[string]any)["properties"].(map[string]any)
		symbols := map[string]any{}
		for _, symbol := range slices.Sorted(maps.Keys(scores)) {
			symbols[symbol] = scoreSchema()
		}
		own["scores"] = map[string]any{"type": "object", "properties": symbols, "additionalProperties": false}
	}
	return s
}

// scoresOf finds the default scores of each check that has some.
func scoresOf(c Config) map[string]Scores {
	found := make(map[string]Scores)
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		own := v.Field(i).FieldByName("Own")
		for j := range own.NumField() {
			if scores, ok := own.Field(j).Interface().(Scores); ok {
				found[v.Type().Field(i).Tag.Get("yaml")] = scores
			}
		}
	}
	return found
}
