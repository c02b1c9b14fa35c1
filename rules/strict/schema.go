package strict

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// A Schemer says in JSON Schema what it reads. It is asked of the zero value of types that implement [Unmarshaler], whose
// reading can't be told from the type.
type Schemer interface {
	Schema() map[string]any
}

var schemerType = reflect.TypeFor[Schemer]()

// SchemaURL is the dialect that the schemas are written in: the one that editors know best.
const SchemaURL = "http://json-schema.org/draft-07/schema#"

// Schema gives the JSON Schema (draft 7) of what [Doc.Decode] reads into a value of the type, for editors to complete and to
// check by. What it accepts may still be refused when it is read; what it refuses would be.
func Schema(t reflect.Type) map[string]any {
	if t == nodeType {
		return map[string]any{}
	}
	if t.Kind() == reflect.Pointer {
		return Schema(t.Elem())
	}
	if t.Implements(schemerType) {
		return reflect.Zero(t).Interface().(Schemer).Schema()
	}
	if scalarFor(t) != nil {
		return scalarSchema(t)
	}
	switch t.Kind() {
	case reflect.Struct:
		properties := map[string]any{}
		structSchema(t, properties)
		return map[string]any{"type": []any{"object", "null"}, "properties": properties, "additionalProperties": false}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": Schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": Schema(t.Elem())}
	}
	panic(fmt.Sprintf("strict: no schema of %s", t))
}

func structSchema(t reflect.Type, into map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case opts == "inline":
			structSchema(f.Type, into)
		case name != "" && name != "-":
			into[name] = Schema(f.Type)
		}
	}
}

func scalarSchema(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[Size]():
		return map[string]any{"type": []any{"string", "integer"}, "pattern": `^[0-9]+ *([KMGT]i)?B?$`, "description": "A size: 1024, 100KiB, 50MiB."}
	case reflect.TypeFor[time.Duration]():
		return map[string]any{
			"type": []any{"string", "integer"}, "pattern": `^([0-9]+d)?([0-9]+([.][0-9]*)?(ns|us|µs|ms|s|m|h))*$|^0$`,
			"description": "A duration: 30s, 5m, 1h30m, 7d.",
		}
	case reflect.TypeFor[netip.Prefix]():
		return map[string]any{"type": "string", "description": "A network: 192.0.2.0/24, 2001:db8::/32, or one address."}
	case reflect.TypeFor[netip.Addr]():
		return map[string]any{"type": "string", "description": "An IP address."}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return TextSchema()
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map:
		return TextSchema()
	}
	return map[string]any{"type": "integer"}
}

// TextSchema is the schema of a text. A number or a boolean that stands where a text is read is one.
func TextSchema() map[string]any {
	return map[string]any{"type": []any{"string", "number", "boolean"}}
}

// WordsSchema is the schema of one of several words.
func WordsSchema(words ...string) map[string]any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return map[string]any{"enum": list}
}
