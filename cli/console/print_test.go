package console

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var hostile = []string{
	"\x1b[2J\x1b]52;c;ZXZpbA==\x07", "\r\nroot  admin  active", "\u009b31m", "\u202egpj.exe", "\xff\xfe", "a\x00b", "\u2028", "\ufeff", "\U000e0041",
}

func harmless(s string) bool {
	for _, r := range s {
		if r != '\n' && !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "web1": "web1", "Ærø 東京": "Ærø 東京", "a\x1b[1m": `a\x1b[1m`, "x\ny": `x\ny`, "\xff": `\xff`, "\xef": `\xef`, "\u009b": `\u009b`,
		"\u202e": `\u202e`, "\ufffd": "\ufffd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		got := Printable(s)
		if strings.Contains(got, "\n") || !harmless(got) {
			t.Fatalf("Printable(%q) = %q", s, got)
		}
		if harmless(s) && !strings.Contains(s, "\n") && got != s {
			t.Fatalf("Printable(%q) = %q changes what is printable", s, got)
		}
	})
}

// JSON has the exact text, and nothing in it that a terminal would obey.
func TestWriteJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.SampledFrom(hostile)).Draw(t, "text")
		var b bytes.Buffer
		if err := writeJSON(&b, answer{Kind: "x", APIVersion: APIVersion, Item: s}); err != nil {
			t.Fatal(err)
		}
		if !harmless(b.String()) || strings.Count(b.String(), "\n") != 1 {
			t.Fatalf("%q is not one harmless line", b.String())
		}
		var back answer
		if err := json.Unmarshal(b.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(s)); back.Item != want {
			t.Fatalf("%q came back as %q", want, back.Item)
		}
	})
}

func TestTables(t *testing.T) {
	type row struct{ a, b string }
	columns := []column[row]{{"first", func(r row) string { return r.a }}, {"b", func(r row) string { return r.b }}}
	var out bytes.Buffer
	c := &call{stdout: &out}
	if err := list(c, "row", []row{{"x", ""}, {"東京", "2"}, {"\x1b[1m", "3"}}, columns); err != nil {
		t.Fatal(err)
	}
	want := "FIRST    B\nx        -\n東京     2\n\\x1b[1m  3\n"
	if out.String() != want {
		t.Errorf("table is\n%q, want\n%q", out.String(), want)
	}
	out.Reset()
	if err := show(c, "row", row{"1", "two"}, columns); err != nil {
		t.Fatal(err)
	}
	if want := "first  1\nb      two\n"; out.String() != want {
		t.Errorf("item is\n%q, want\n%q", out.String(), want)
	}
	for _, h := range hostile {
		out.Reset()
		if err := list(c, "row", []row{{h, h}}, columns); err != nil {
			t.Fatal(err)
		}
		if !harmless(out.String()) || strings.Count(out.String(), "\n") != 2 {
			t.Errorf("%q is shown as %q", h, out.String())
		}
	}
}

func TestEmptyListsInJSON(t *testing.T) {
	var out bytes.Buffer
	if err := list[string](&call{stdout: &out, json: true}, "user", nil, nil); err != nil {
		t.Fatal(err)
	}
	if want := `{"kind":"user","apiVersion":"holdfast/v1","items":[]}` + "\n"; out.String() != want {
		t.Errorf("got %s, want %s", out.String(), want)
	}
}

func TestWriteFault(t *testing.T) {
	id := uuid.MustParse("0192f0a8-0000-7000-8000-000000000001")
	f := &Fault{Exit: Denied, Message: "no \x1b[1m", Hint: "ask", Event: id}
	for _, c := range []struct {
		json bool
		want string
	}{
		{false, "error: no \\x1b[1m\nhint: ask\n"},
		{true, `{"error":{"code":"denied","message":"no \u001b[1m","hint":"ask","eventId":"0192f0a8-0000-7000-8000-000000000001"}}` + "\n"},
	} {
		var b strings.Builder
		WriteFault(&b, f, c.json)
		if b.String() != c.want {
			t.Errorf("got  %s\nwant %s", b.String(), c.want)
		}
	}
	var b strings.Builder
	WriteFault(&b, &Fault{Exit: Failed, Message: "x"}, true)
	if want := `{"error":{"code":"failed","message":"x"}}` + "\n"; b.String() != want {
		t.Errorf("got %s, want %s", b.String(), want)
	}
}
