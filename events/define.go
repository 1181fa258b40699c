package events

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Event is a value of one of the struct types in the catalogue.
type Event any

// ErrUnknownType says that a record's event type or version is not in this
// version's catalogue. Such records are kept, forwarded and counted (rule
// R20), never dropped.
var ErrUnknownType = errors.New("unknown event type")

// Type describes one entry of the catalogue.
type Type struct {
	Name    string // stored name, a literal: never derived from the Go type
	Version uint16
	Go      reflect.Type
	decode  func([]byte) (Event, error)
}

type typeKey struct {
	name    string
	version uint16
}

// registry is filled by package-level define calls and read-only afterwards.
var registry = struct {
	byName map[typeKey]*Type
	byGo   map[reflect.Type]*Type
}{map[typeKey]*Type{}, map[reflect.Type]*Type{}}

// define declares an event type. It is called from package-level variables
// only and panics on a duplicate, which is a mistake in the source.
func define[T any](name string, version uint16) struct{} {
	t := reflect.TypeFor[T]()
	key := typeKey{name, version}
	if registry.byName[key] != nil || registry.byGo[t] != nil {
		panic(fmt.Sprintf("events: %s version %d (%s) is defined twice", name, version, t))
	}
	entry := &Type{Name: name, Version: version, Go: t, decode: func(b []byte) (Event, error) {
		var v T
		if err := decodePayload(b, &v); err != nil {
			return nil, err
		}
		return v, nil
	}}
	registry.byName[key], registry.byGo[t] = entry, entry
	return struct{}{}
}

// Bars reports whether events of a type must not be passed over by who does not know
// it (rule R20): its name ends with an exclamation mark. A type that takes something
// away, or narrows it, gets such a name once sites of older versions may read it.
func Bars(name string) bool { return strings.HasSuffix(name, "!") }

// Catalogue lists all event types by name and version.
func Catalogue() []Type {
	var all []Type
	for _, t := range registry.byName {
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Type) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return int(a.Version) - int(b.Version)
	})
	return all
}

// TypeOf gives the catalogue entry of an event value.
func TypeOf(e Event) (Type, error) {
	t := registry.byGo[reflect.TypeOf(e)]
	if t == nil {
		return Type{}, fmt.Errorf("%T: %w; declare it with define", e, ErrUnknownType)
	}
	return *t, nil
}

// EncodeEvent gives the stored payload of an event value.
func EncodeEvent(e Event) ([]byte, error) {
	if _, err := TypeOf(e); err != nil {
		return nil, err
	}
	b, err := encMode.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", e, err)
	}
	return b, nil
}

// DecodeEvent decodes a stored payload by its stored name and version.
func DecodeEvent(name string, version uint16, payload []byte) (Event, error) {
	t := registry.byName[typeKey{name, version}]
	if t == nil {
		return nil, fmt.Errorf("%s version %d: %w", name, version, ErrUnknownType)
	}
	e, err := t.decode(payload)
	if err != nil {
		return nil, fmt.Errorf("decode %s version %d: %w", name, version, err)
	}
	return e, nil
}
