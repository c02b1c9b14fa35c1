package strict

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// An Unmarshaler reads itself from a value. It is called for values of every kind, Null too.
type Unmarshaler interface {
	UnmarshalStrict(n *Node) Problems
}

var (
	unmarshalerType     = reflect.TypeFor[Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	nodeType            = reflect.TypeFor[*Node]()
	posType             = reflect.TypeFor[Pos]()
)

// Decode fills the struct, map or slice that into points to and returns all problems of the document, sorted, nil when
// there are none. What could not be read keeps its value. A file without content changes nothing. It panics when into
// is of a type that it does not know how to fill, as that is a mistake in the program and not in the file.
func (d *Doc) Decode(into any) Problems {
	p := slices.Clone(d.problems)
	if root := d.Root(); root != nil {
		p.Add(root.Decode(into))
	}
	if len(p) == 0 {
		return nil
	}
	return p.Sorted()
}

// Decode fills what into points to from the value; see [Doc.Decode].
func (n *Node) Decode(into any) Problems {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("strict: Decode into %T, not a pointer", into))
	}
	var p Problems
	n.decode(v.Elem(), &p)
	return p
}

// decode fills v, which is settable and holds the default.
func (n *Node) decode(v reflect.Value, p *Problems) {
	t := v.Type()
	switch {
	case t == nodeType:
		v.Set(reflect.ValueOf(n))
		return
	case v.CanAddr() && reflect.PointerTo(t).Implements(unmarshalerType):
		p.Add(v.Addr().Interface().(Unmarshaler).UnmarshalStrict(n))
		return
	}
	if decodeScalar := scalarFor(t); decodeScalar != nil {
		if n.Kind() != Scalar {
			p.Addf(n.Pos(), "expected %s, got %s", scalarName(t), n.describe())
			return
		}
		if what := decodeScalar(n, v); what != "" {
			p.Addf(n.Pos(), "%s", what)
		}
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		elem := reflect.New(t.Elem())
		if !v.IsNil() {
			elem.Elem().Set(v.Elem()) // a copy: the default that the pointer showed to is not ours to change
		}
		n.decode(elem.Elem(), p)
		v.Set(elem)
	case reflect.Struct:
		n.decodeStruct(v, p)
	case reflect.Slice:
		n.decodeSlice(v, p)
	case reflect.Map:
		n.decodeMap(v, p)
	default:
		panic(fmt.Sprintf("strict: cannot decode into %s", t))
	}
}

func (n *Node) decodeSlice(v reflect.Value, p *Problems) {
	if n.Kind() != Sequence {
		hint := ""
		if n.Kind() == Null {
			hint = " (write [] for an empty one)"
		} else if n.Kind() == Scalar {
			hint = fmt.Sprintf(" (write [%s])", quoteShort(n.Text()))
		}
		p.Addf(n.Pos(), "expected a list, got %s%s", n.describe(), hint)
		return
	}
	items := n.Items()
	s := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		item.decode(s.Index(i), p)
	}
	v.Set(s)
}

func (n *Node) decodeMap(v reflect.Value, p *Problems) {
	if n.Kind() != Mapping {
		hint := ""
		if n.Kind() == Null {
			hint = " (write {} for an empty one)"
		}
		p.Addf(n.Pos(), "expected a mapping, got %s%s", n.describe(), hint)
		return
	}
	t := v.Type()
	decodeKey := scalarFor(t.Key())
	if decodeKey == nil {
		panic(fmt.Sprintf("strict: cannot decode keys of type %s", t.Key()))
	}
	m := reflect.MakeMapWithSize(t, len(n.Pairs()))
	if !v.IsNil() {
		for it := v.MapRange(); it.Next(); {
			m.SetMapIndex(it.Key(), it.Value())
		}
	}
	for _, pair := range n.Pairs() {
		key := reflect.New(t.Key()).Elem()
		if what := decodeKey(pair.Key, key); what != "" {
			p.Addf(pair.Key.Pos(), "%s", what)
			continue
		}
		elem := reflect.New(t.Elem()).Elem()
		if old := m.MapIndex(key); old.IsValid() {
			elem.Set(old)
		}
		pair.Value.decode(elem, p)
		m.SetMapIndex(key, elem)
	}
	v.Set(m)
}

func (n *Node) decodeStruct(v reflect.Value, p *Problems) {
	fields := map[string]reflect.Value{}
	structFields(v, n.Pos(), fields)
	if n.Kind() == Null {
		return // `dkim:` alone says the same as `dkim: {}`
	}
	if n.Kind() != Mapping {
		p.Addf(n.Pos(), "expected a mapping with the keys %s, got %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "), n.describe())
		return
	}
	for _, pair := range n.Pairs() {
		field, ok := fields[pair.Key.Text()]
		if !ok {
			p.Addf(pair.Key.Pos(), "%s", Unknown("key", pair.Key.Text(), slices.Collect(maps.Keys(fields))))
			continue
		}
		pair.Value.decode(field, p)
	}
}

// structFields gathers the fields of v by key, those of inlined structs too, and sets the ones that ask for the position.
func structFields(v reflect.Value, pos Pos, into map[string]reflect.Value) {
	t := v.Type()
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, opts, _ := strings.Cut(tag, ",")
		switch {
		case opts == "inline":
			structFields(v.Field(i), pos, into)
		case opts == "pos" && t.Field(i).Type == posType:
			v.Field(i).Set(reflect.ValueOf(pos))
		case name == "" || opts != "":
			panic(fmt.Sprintf("strict: the tag %q of %s.%s", tag, t, t.Field(i).Name))
		default:
			into[name] = v.Field(i)
		}
	}
}

// Keys returns the keys that a struct type knows, inlined ones included, in the order of its fields.
func Keys(of any) []string {
	t := reflect.TypeOf(of)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var keys []string
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("yaml")
		switch name, opts, _ := strings.Cut(tag, ","); {
		case opts == "inline":
			keys = append(keys, Keys(reflect.Zero(t.Field(i).Type).Interface())...)
		case name != "" && name != "-":
			keys = append(keys, name)
		}
	}
	return keys
}
