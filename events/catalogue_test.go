package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "write catalogue.golden and the samples of new event types")

// describe lists a struct type's stored fields, nested ones included.
func describe(t reflect.Type) string {
	var fields []string
	for i := range t.NumField() {
		f := t.Field(i)
		desc := f.Type.String()
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == t.PkgPath() && f.Type.Field(0).Type != reflect.TypeFor[uuid.UUID]() {
			desc += "{" + describe(f.Type) + "}"
		}
		fields = append(fields, f.Tag.Get("json")+" "+desc)
	}
	return strings.Join(fields, "; ")
}

// The catalogue may gain types and fields. Any other change breaks logs that
// are already written: make a new version of the type instead.
func TestCatalogueGolden(t *testing.T) {
	var b strings.Builder
	for _, typ := range Catalogue() {
		fmt.Fprintf(&b, "%s v%d %s: %s\n", typ.Name, typ.Version, typ.Go.Name(), describe(typ.Go))
	}
	fmt.Fprintf(&b, "header v%d: %s\n", HeaderVersion, describe(reflect.TypeFor[Header]()))
	if *update {
		if err := os.WriteFile("catalogue.golden", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("catalogue.golden")
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("the catalogue changed; if fields or types were only added, run: go test ./events -run Catalogue -update\n--- golden\n%s--- now\n%s", want, b.String())
	}
}

var storedName = regexp.MustCompile(`^[a-z]+\.[a-z]+(_[a-z]+)*$`)

// The rules for event types in doc.go, checked on every declared one.
func TestCatalogueRules(t *testing.T) {
	var check func(at string, t2 reflect.Type)
	check = func(at string, typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Map, reflect.Float32, reflect.Float64, reflect.Interface, reflect.Pointer, reflect.Chan, reflect.Func:
			t.Errorf("%s: a %s has no place in a stored event", at, typ.Kind())
		case reflect.Slice, reflect.Array:
			check(at, typ.Elem())
		case reflect.Struct:
			if typ == reflect.TypeFor[time.Time]() {
				return
			}
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Tag.Get("json") == "" && !f.Anonymous {
					t.Errorf("%s.%s has no json tag", at, f.Name)
				}
				if f.Tag.Get("cbor") != "" {
					t.Errorf("%s.%s has a cbor tag; the json tag serves both forms", at, f.Name)
				}
				check(at+"."+f.Name, f.Type)
			}
		}
	}
	for _, typ := range Catalogue() {
		if !storedName.MatchString(typ.Name) {
			t.Errorf("stored name %q is not of the form aggregate.past_tense", typ.Name)
		}
		check(typ.Go.Name(), typ.Go)
	}
}

// fill sets every field of v to a value other than its zero.
func fill(v reflect.Value, n *byte) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, int(*n), 5000, time.UTC)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("text-%d", *n))
	case v.CanUint():
		v.SetUint(uint64(*n))
	case v.CanInt():
		v.SetInt(int64(*n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case v.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	default:
		panic("fill: " + v.Type().String())
	}
}

// Frozen samples: bytes written once per type and version must decode to the
// same facts for ever. A sample is never written again, only added.
func TestFrozenSamples(t *testing.T) {
	for _, typ := range Catalogue() {
		name := fmt.Sprintf("%s.v%d", typ.Name, typ.Version)
		t.Run(name, func(t *testing.T) {
			stored := filepath.Join("testdata", "records", name+".cbor")
			shown := filepath.Join("testdata", "records", name+".json")
			if _, err := os.Stat(stored); os.IsNotExist(err) && *update {
				writeSample(t, typ, stored, shown)
			}
			b, err := os.ReadFile(stored)
			if err != nil {
				t.Fatalf("%v; run: go test ./events -run FrozenSamples -update", err)
			}
			e, err := DecodeEvent(typ.Name, typ.Version, b)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(shown)
			if err != nil {
				t.Fatal(err)
			}
			if got := asJSON(t, e); !bytes.Equal(got, want) {
				t.Errorf("the sample now reads\n%s\nand was written as\n%s", got, want)
			}
		})
	}
}

func writeSample(t *testing.T, typ Type, stored, shown string) {
	v := reflect.New(typ.Go).Elem()
	var n byte
	fill(v, &n)
	b, err := EncodeEvent(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stored, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(shown, asJSON(t, v.Interface()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func asJSON(t *testing.T, e Event) []byte {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}
