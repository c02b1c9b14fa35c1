package rules

import (
	"maps"
	"reflect"
	"slices"

	"postern/rules/strict"
)

// Schema gives the JSON Schema of rule files, made of the same tables by which they are read.
func Schema() map[string]any {
	s := strict.Schema(reflect.TypeFor[fileDoc]())
	s["$schema"] = strict.SchemaURL
	s["title"] = "Postern rules"
	properties := s["properties"].(map[string]any)
	properties["conditions"] = object{"type": "object", "additionalProperties": ref("condition"), "description": "Conditions with a name, for {is: name}."}
	properties["rules"] = object{"type": "array", "items": ref("rule")}
	s["$defs"] = object{
		"rule": ruleSchema(), "condition": conditionSchema(), "source": sourceSchema(), "quantity": quantitySchema(),
		"uri": itemSchema(ofLink), "attachment": itemSchema(ofAttachment),
	}
	return s
}

type object = map[string]any

func ref(name string) object { return object{"$ref": "#/$defs/" + name} }

func closed(properties object, required ...any) object {
	return object{"type": "object", "properties": properties, "additionalProperties": false, "required": append([]any{}, required...)}
}

func oneOrMore(of object) object {
	return object{"anyOf": []any{of, object{"type": "array", "items": of, "minItems": 1}}}
}

func ruleSchema() object {
	s := strict.Schema(reflect.TypeFor[ruleDoc]())
	p := s["properties"].(object)
	p["id"] = object{"type": "string", "pattern": idForm.String(), "description": "The name in the log and for other rules."}
	p["action"] = strict.WordsSchema(actions...)
	p["mode"] = strict.WordsSchema(modeNames[:]...)
	p["reply"] = object{"type": "string", "maxLength": maxReply, "description": "What a deferred or refused client is told."}
	p["description"] = object{"type": "string", "description": "One sentence, shown wherever the rule is explained."}
	p["when"] = ref("condition")
	s["type"] = "object"
	s["required"] = []any{"id", "when"}
	return s
}

// Schema is that of a score.
func (hundredths) Schema() map[string]any {
	return object{"type": "number", "minimum": -1000, "maximum": 1000, "description": "Points, with at most two decimals."}
}

// Schema is that of a list: entries, or the file that they stand in.
func (List) Schema() map[string]any {
	return object{"anyOf": []any{
		object{"type": "array", "items": strict.TextSchema()},
		closed(object{"file": object{"type": "string"}}, "file"),
	}}
}

// Schema is that of a test: a mail, or what is known about one.
func (testDoc) Schema() map[string]any {
	mail := strict.Schema(reflect.TypeFor[mailDoc]())
	mail["type"] = "object"
	auth := object{}
	for part, def := range subjects["auth"] {
		auth[part] = strict.TextSchema()
		if def.word != nil {
			auth[part] = strict.WordsSchema(def.word...)
		}
	}
	mail["properties"].(object)["auth"] = object{"type": "object", "properties": auth, "additionalProperties": false}
	either := object{"anyOf": []any{object{"type": "string"}, mail}}
	return object{
		"type": "object", "properties": object{string(Hit): either, string(Miss): either},
		"additionalProperties": false, "minProperties": 1, "maxProperties": 1,
	}
}

// Schema is that of one word or a list of them.
func (wordOrWords) Schema() map[string]any { return oneOrMore(strict.TextSchema()) }

// Schema is that of symbols: a list, or how often each was found.
func (symbolCounts) Schema() map[string]any {
	return object{"anyOf": []any{strict.TextSchema(), object{"type": "array", "items": strict.TextSchema()}, object{"type": "object", "additionalProperties": object{"type": "integer"}}}}
}

func conditionSchema() object {
	list := object{"type": "array", "items": ref("condition"), "minItems": 1}
	any := []any{
		closed(object{"all": list}, "all"),
		closed(object{"any": list}, "any"),
		closed(object{"not": ref("condition")}, "not"),
		closed(object{"at_least": object{"type": "integer", "minimum": 1}, "of": list}, "at_least", "of"),
		closed(object{"is": object{"type": "string", "description": "The name of a condition."}}, "is"),
	}
	for _, name := range names(itemSubjects) {
		any = append(any, closed(object{
			name: ref(name), "which": strict.WordsSchema(whichNames...), "count": ref("quantity"),
		}, name))
	}
	for _, subject := range names(subjects) {
		any = append(any, subjectSchemas(subject)...)
	}
	return object{"type": "object", "anyOf": any}
}

// subjectSchemas gives the forms of the conditions on a subject, one for each kind of its parts.
func subjectSchemas(subject string) []any {
	byKind := map[kind][]string{}
	for _, part := range names(subjects[subject]) {
		k := subjects[subject][part].kind
		byKind[k] = append(byKind[k], part)
	}
	var forms []any
	for _, k := range slices.Sorted(maps.Keys(byKind)) {
		p := operatorSchemas(k)
		required := []any{subject}
		switch subject {
		case "header", "symbol":
			p[subject], p["part"] = oneOrMore(object{"type": "string"}), strict.WordsSchema(byKind[k]...)
			if subject == "symbol" {
				p[subject] = object{"type": "string"}
			}
			if standard := map[string]string{"header": "decoded", "symbol": "count"}[subject]; !slices.Contains(byKind[k], standard) {
				required = append(required, "part")
			}
		default:
			p[subject] = strict.WordsSchema(byKind[k]...)
		}
		forms = append(forms, closed(p, required...))
	}
	return forms
}

// operatorSchemas gives the operators that fit a kind, and what goes with them.
func operatorSchemas(k kind) object {
	p := object{"which": strict.WordsSchema(whichNames...), "case": strict.WordsSchema("exact")}
	if k == text {
		p["view"] = strict.WordsSchema(viewNames...)
	}
	value := strict.TextSchema()
	if k == number {
		value = object{"type": "integer"}
	}
	for _, op := range operatorsFor(k) {
		switch op {
		case "exists":
			p[op] = object{"type": "boolean"}
		case "count", "length":
			p[op] = ref("quantity")
		case "same_as", "holds":
			p[op] = ref("source")
		case "between":
			p[op] = object{"type": "array", "items": value, "minItems": 2, "maxItems": 2}
		case "over", "under":
			p[op] = value
		case "equals":
			p[op] = value
			if !k.numeric() {
				p[op] = oneOrMore(value)
			}
		default:
			p[op] = oneOrMore(value)
		}
	}
	return p
}

func quantitySchema() object {
	number := object{"type": "integer"}
	return object{"anyOf": []any{number, object{
		"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
		"properties": object{
			"equals": number, "over": number, "under": number,
			"between": object{"type": "array", "items": number, "minItems": 2, "maxItems": 2},
		},
	}}}
}

// sourceSchema is that of what same_as and holds compare with.
func sourceSchema() object {
	itemPart := map[string]bool{}
	for _, parts := range itemParts {
		for part := range parts {
			itemPart[part] = true
		}
	}
	any := []any{closed(object{"part": strict.WordsSchema(names(itemPart)...)}, "part")}
	for _, subject := range names(subjects) {
		var parts []string
		for _, part := range names(subjects[subject]) {
			if k := subjects[subject][part].kind; k == text || k == addr {
				parts = append(parts, part)
			}
		}
		switch {
		case len(parts) == 0:
		case subject == "header":
			any = append(any, closed(object{subject: oneOrMore(object{"type": "string"}), "part": strict.WordsSchema(parts...)}, subject))
		default:
			any = append(any, closed(object{subject: strict.WordsSchema(parts...)}, subject))
		}
	}
	return object{"type": "object", "anyOf": any}
}

// itemSchema is that of what must hold for one link or attachment.
func itemSchema(s scope) object {
	within := ref(itemNames[s])
	list := object{"type": "array", "items": within, "minItems": 1}
	p := object{"all": list, "any": list, "not": within, "at_least": object{"type": "integer", "minimum": 1}, "of": list}
	for part, def := range itemParts[s] {
		p[part] = object{"type": "object", "properties": operatorSchemas(def.kind), "additionalProperties": false, "minProperties": 1}
	}
	return object{"type": "object", "properties": p, "additionalProperties": false}
}
