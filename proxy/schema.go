package proxy

import (
	"reflect"

	"postern/rules/strict"
)

// ConfigSchema gives the JSON Schema of the configuration file, made of the types that it is read into.
func ConfigSchema() map[string]any {
	s := strict.Schema(reflect.TypeFor[Config]())
	s["$schema"] = strict.SchemaURL
	s["title"] = "Postern configuration"
	s["type"] = "object"
	s["required"] = []any{"listen", "upstream"}
	for path, words := range configWords {
		own := s
		for _, step := range path[:len(path)-1] {
			if step == "" {
				break
			}
			own = own["properties"].(map[string]any)[step].(map[string]any)
			if items, ok := own["items"].(map[string]any); ok {
				own = items
			}
		}
		own["properties"].(map[string]any)[path[len(path)-1]] = strict.WordsSchema(words...)
	}
	return s
}

// configWords are the keys whose words are checked after the file is read.
var configWords = map[[2]string][]string{
	{"policy", "split"}:         {"lenient", "defer"},
	{"policy", "postmaster"}:    {"accept", "tag", "quarantine", "defer", "reject"},
	{"policy", "bounces"}:       {"accept", "tag", "quarantine", "defer", "reject"},
	{"log", "format"}:           {"logfmt", "json"},
	{"log", "level"}:            {"debug", "info", "warn", "error"},
	{"log", "redact"}:           redactions,
	{"store", "kind"}:           {"memory", "bbolt"},
	{"upstream", "client_info"}: {"auto", "xclient", "xforward", "proxy", "proxy-v2", "none"},
	{"upstream", "tls"}:         {"opportunistic", "required", "none"},
	{"listen", "bare_newline"}:  {"reject", "normalise"},
}

// Schema is that of the three forms in which recipient domains are given.
func (Domains) Schema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "array", "items": strict.TextSchema()},
		map[string]any{
			"type": "object", "properties": map[string]any{"file": map[string]any{"type": "string"}},
			"additionalProperties": false, "required": []any{"file"},
		},
		strict.WordsSchema("upstream"),
	}}
}

// Schema is that of one certificate or a list of them.
func (Certificates) Schema() map[string]any {
	one := strict.Schema(reflect.TypeFor[Certificate]())
	return map[string]any{"anyOf": []any{one, map[string]any{"type": "array", "items": one}}}
}
