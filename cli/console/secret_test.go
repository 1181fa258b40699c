package console

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/projections"
)

func TestSecretVerbs(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	line := "secret reveal root+web1 --reason fire"
	if r := w.run(w.admin, line, ""); r.exit != Done || r.out != "hunter2\n" {
		t.Fatalf("reveal: exit %d, %d bytes, %s", r.exit, len(r.out), r.err)
	}
	if n := len(w.audited("secret.revealed")); n != 1 {
		t.Fatalf("%d events say so", n)
	}
	if r := w.run(w.admin, "secret put root+web1", "correct horse\n"); r.exit != Done || !strings.Contains(r.out, "secret.applied") {
		t.Fatalf("put: %+v", r)
	}
	if r := w.run(w.admin, line+" --json", ""); r.exit != Done || !strings.Contains(r.out, `"secret":"correct horse"`) {
		t.Fatalf("reveal: exit %d, %s", r.exit, r.err)
	}
	var answer struct {
		Items []struct {
			ID      events.SecretID
			State   string
			Current bool
			KnownTo []struct{ User, Reason string } `json:"known_to"`
		}
	}
	r := w.run(w.auditor, "secret versions root+web1 --json", "")
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	if v := answer.Items; len(v) != 2 || !v[0].Current || v[1].Current || v[0].State != "applied" || len(v[0].KnownTo) != 1 || v[0].KnownTo[0].User != "ada" {
		t.Fatalf("versions: %s", r.out)
	}
	r = w.run(w.admin, line+" --version "+answer.Items[1].ID.String(), "")
	if r.exit != Done || r.out != "hunter2\n" {
		t.Fatalf("reveal of the old version: exit %d, %s", r.exit, r.err)
	}
}

func TestASingleCopyIsMarked(t *testing.T) {
	alone, shared := cells(versionsColumns, projections.Version{SingleCopy: true}), cells(versionsColumns, projections.Version{})
	for i, head := range heads(versionsColumns) {
		if marked := alone[i] == "yes" && shared[i] == "no"; marked != (head == "SINGLE COPY") {
			t.Errorf("%s: %q of a single copy, %q of another", head, alone[i], shared[i])
		}
	}
}

func TestCheckOutIsExclusive(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	second := w.addUser("bea", events.Admin)
	if r := w.run(w.admin, "secret checkout root+web1 --reason fire --for 2h", ""); r.exit != Done || r.out != "hunter2\n" {
		t.Fatalf("checkout: exit %d, %s", r.exit, r.err)
	}
	for _, line := range []string{"secret checkout root+web1 --reason too", "secret reveal root+web1 --reason too"} {
		if r := w.run(second, line, ""); r.exit != Conflict || !strings.Contains(r.err, "checked out by ada until") || r.out != "" {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r := w.run(w.auditor, "secret versions root+web1", ""); !strings.Contains(r.out, "ada (checked out until") {
		t.Errorf("versions: %s", r.out)
	}
	if r := w.run(w.operator, "secret checkin root+web1", ""); r.exit != Denied {
		t.Errorf("checkin by another: %+v", r)
	}
	if r := w.run(w.admin, "secret checkin root+web1", ""); r.exit != Done {
		t.Errorf("checkin: %+v", r)
	}
	if r := w.run(second, "secret checkout root+web1 --reason now", ""); r.exit != Done {
		t.Errorf("checkout after the checkin: %+v", r)
	}
}

// A secret leaves the vault after the event that says so, and only then.
func TestAttackNoSecretWithoutItsEvent(t *testing.T) {
	w := newWorld(t)
	w.furnish()
	for name, line := range map[string]string{
		"no reason": "secret reveal root+web1", "an operator": "secret reveal root+web1 --reason x", "an unknown version": "secret reveal root+web1 --reason x --version 01900000-0000-7000-8000-0000000000cc",
	} {
		who := w.admin
		if name == "an operator" {
			who = w.operator
		}
		if r := w.run(who, line, ""); r.exit == Done || r.out != "" || strings.Contains(r.err, "hunter2") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if err := w.site.Sealer().Seal(); err != nil {
		t.Fatal(err)
	}
	if r := w.run(w.admin, "secret reveal root+web1 --reason x", ""); r.exit != Unavailable || r.out != "" {
		t.Errorf("of a sealed site: %+v", r)
	}
	if n := len(w.audited("secret.revealed")); n != 0 {
		t.Errorf("%d events say that it was shown", n)
	}
}
