package seal

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

type holder struct {
	Public Secret
	hidden Secret
	ptr    *Secret
	list   []Secret
	named  map[string]Secret
}

type account struct{ Password Secret }

func TestSecretDoesNotPrint(t *testing.T) {
	const clear = "hunter2-very-secret"
	s := NewSecret([]byte(clear))
	h := holder{Public: s, hidden: s, ptr: &s, list: []Secret{s}, named: map[string]Secret{"pw": s}}
	var logs bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logs, nil))
	log.Info("text", "secret", s, "holder", h, "pointer", &h)
	log = slog.New(slog.NewJSONHandler(&logs, nil))
	log.Info("json", "secret", s, "holder", h, "pointer", &h)

	out := map[string]string{"slog": logs.String()}
	for _, v := range []any{s, &s, h, &h, []any{s, h}, errors.Join(fmt.Errorf("with %v", s))} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%08b", "%t"} {
			out[fmt.Sprintf("%T %s", v, verb)] = fmt.Sprintf(verb, v)
		}
		j, err := json.Marshal(v)
		must(t, err)
		out[fmt.Sprintf("%T json", v)] = string(j)
	}
	x, err := xml.Marshal(account{s})
	must(t, err)
	out["xml"] = string(x)
	for how, text := range out {
		for _, leak := range []string{clear, "68756e746572", "68 75 6e", "104 117 110", "aHVudGVy", "01101000 01110101", "U+0068"} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(leak)) {
				t.Errorf("%s printed %q", how, text)
			}
		}
	}
	for _, v := range []string{fmt.Sprint(s), fmt.Sprintf("%#v", s), s.String(), s.GoString()} {
		if v != "[redacted]" {
			t.Errorf("printed %q", v)
		}
	}
	if j, _ := json.Marshal(s); string(j) != `"[redacted]"` {
		t.Errorf("json %s", j)
	}
}

func TestSecretIsNotStored(t *testing.T) {
	v := account{NewSecret([]byte("x"))}
	if b, err := cbor.Marshal(v); err == nil {
		t.Errorf("CBOR took a secret: %x", b)
	}
	if err := gob.NewEncoder(&bytes.Buffer{}).Encode(v); err == nil {
		t.Error("gob took a secret")
	}
}

func TestSecretWipe(t *testing.T) {
	b := []byte("hunter2")
	s := NewSecret(b)
	twin := s
	if string(twin.Bytes()) != "hunter2" || twin.Len() != 7 {
		t.Fatal("a secret does not reveal its bytes")
	}
	s.Wipe()
	if !bytes.Equal(b, make([]byte, 7)) || twin.Len() != 0 {
		t.Errorf("after Wipe: memory %q, twin %d bytes", b, twin.Len())
	}
	s.Wipe()
	var zero Secret
	zero.Wipe()
	if zero.Bytes() != nil || zero.String() != "[redacted]" {
		t.Error("the zero secret is not empty")
	}
}
