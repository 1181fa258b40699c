package commands_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate/aggregatetest"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
)

// mustConflict asks that a command is refused and names all holders of the name.
func (w *world) mustConflict(c commands.Command, holders ...uuid.UUID) {
	w.Helper()
	_, err := w.d.Do(w.Context(), w.actor("ada"), c)
	var r *commands.Refusal
	if !errors.As(err, &r) || r.Code != commands.Conflict {
		w.Fatalf("%T: got %v, want a conflict", c, err)
	}
	for _, id := range holders {
		if !strings.Contains(r.Message, id.String()) {
			w.Errorf("%T: %q does not name %s", c, r.Message, id)
		}
	}
}

// While a target's name stands for two, nothing new is granted or added under
// it; each can be named by id, and removing one settles it.
func TestATargetNameInConflictIsDeniedUntilSettled(t *testing.T) {
	w := newWorld(t)
	granted(w)
	one, twin := w.account("root", "web1"), aggregatetest.ID("twin", 0)
	w.fact(twin, events.TargetAdded{Name: "web1", Addr: "h:22", HostKeys: []string{key("twin")}})
	for _, c := range []commands.Command{
		commands.AddGrant{User: "olaf", Account: "root", Target: "web1"},
		commands.AddAccount{Name: "www", Target: "web1", Secret: sealed(2)},
		commands.PinHostKey{Target: "web1", HostKeys: []string{key("x")}},
		commands.RemoveTarget{Target: "web1"},
	} {
		w.mustConflict(c, one.Target.UUID, twin)
	}
	w.mustConflict(commands.AddTarget{Name: "web1", Addr: "h:22", HostKeys: []string{key("x")}})
	w.do("ada", commands.AddAccount{Name: "www", Target: one.Target.String(), Secret: sealed(2)})
	w.do("ada", commands.RemoveTarget{Target: twin.String(), Reason: "the other site's copy"})
	w.session("olaf")
	w.mustConflict(commands.RemoveTarget{Target: twin.String()})
}

func TestAnAccountNameInConflictIsDeniedUntilSettled(t *testing.T) {
	w := newWorld(t)
	one, twin := w.account("root", "web1"), aggregatetest.ID("twin", 0)
	w.fact(twin, events.AccountAdded{Name: "root", Target: one.Target, Credential: sealed(1).Credential})
	w.mustConflict(commands.AddGrant{User: "olaf", Account: "root", Target: "web1"}, one.ID.UUID, twin)
	w.do("ada", commands.AddGrant{User: "olaf", Account: one.ID.String()})
	w.do("ada", commands.RemoveAccount{Account: twin.String()})
	w.session("olaf")
	w.mustConflict(commands.AddGrant{User: "olaf", Account: twin.String()})
}

// A key that two users claim after a split lets neither in, and neither gets
// it anew; taking it from one settles it.
func TestAKeyInConflictIsDeniedUntilSettled(t *testing.T) {
	w := newWorld(t)
	granted(w)
	mallory := aggregatetest.ID("mallory", 0)
	w.fact(mallory, events.UserAdded{Name: "mallory", Role: events.Operator})
	w.fact(mallory, events.UserKeyAdded{Key: key("olaf"), Fingerprint: fingerprint("olaf")})
	w.mustConflict(commands.AddUserKey{User: "ada", Key: key("olaf")}, mallory, w.user("olaf").ID.UUID)
	if _, err := w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", "root", "web1")); err == nil {
		t.Fatal("a key of two users let one of them in")
	}
	w.do("ada", commands.RemoveUserKey{User: "mallory", Fingerprint: fingerprint("olaf")})
	w.session("olaf")
}

func TestReferencesToWhatIsNotThere(t *testing.T) {
	w := newWorld(t)
	nowhere := uuid.NewString()
	for _, c := range []commands.Command{
		commands.DisableUser{User: nowhere}, commands.RemoveTarget{Target: nowhere},
		commands.RemoveAccount{Account: nowhere}, commands.RemoveAccount{Account: "root", Target: nowhere},
		commands.KillSession{Session: events.SessionID{UUID: uuid.New()}},
		commands.RemoveGrant{User: "nobody", Account: "root", Target: "web1"},
	} {
		_, err := w.d.Do(t.Context(), w.actor("ada"), c)
		var r *commands.Refusal
		if !errors.As(err, &r) || r.Code != commands.NotFound || r.Hint == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// From a password at the console to the one that is presented to the target,
// by way of the log; what the log holds is not the password.
func TestASecretComesBackThroughTheLog(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	if err := seal.CreateKeyTable(filepath.Join(dir, "keys")); err != nil {
		t.Fatal(err)
	}
	table, err := seal.OpenKeyTable(filepath.Join(dir, "keys"), seal.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	file, err := seal.CreateKeyFile(filepath.Join(dir, "site.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := file.Public(w.site.ID.UUID)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.NewSealer(seal.Config{Table: table, Site: public})
	if err != nil {
		t.Fatal(err)
	}
	if err := sealer.Unseal(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	const password = "correct horse battery staple"
	secret, err := vault.Add(t.Context(), sealer, events.Password, seal.NewSecret([]byte(password)))
	if err != nil {
		t.Fatal(err)
	}
	w.do("ada", commands.AddAccount{Name: "db", Target: "web1", Secret: secret})
	w.do("ada", commands.AddGrant{User: "olaf", Account: "db", Target: "web1"})
	s, err := w.d.StartSession(t.Context(), w.actor("olaf"), w.start("olaf", "db", "web1"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := vault.Open(t.Context(), sealer, s.Secret)
	if err != nil || string(opened.Bytes()) != password {
		t.Errorf("opened %d bytes: %v", opened.Len(), err)
	}
	for _, r := range w.site.Records {
		if strings.Contains(string(r.Raw.Header)+string(r.Raw.Payload), password) {
			t.Errorf("record %d (%s) holds the password", r.Header.Position, r.Header.Type)
		}
	}
}
