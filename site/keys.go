package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/seal/keyring"
	"github.com/holdfast-pam/holdfast/events/seal/lock"
	"github.com/holdfast-pam/holdfast/events/seal/token"
)

// Keys are a site's keys together with the record of what is done with them.
// Safe for concurrent use.
type Keys struct {
	ring *keyring.Keyring
	site *Site

	turn  sync.Mutex // one seal, unseal or rekey step is recorded and takes effect before the next
	tries tries
}

// check reports what can't work in the section "keys".
func (c *KeysConfig) check() error {
	var errs []error
	bad := func(key, format string, a ...any) {
		errs = append(errs, fmt.Errorf("configuration: keys."+key+": "+format, a...))
	}
	kinds := keyring.Kinds()
	if !slices.Contains(kinds, keyring.Kind(c.Provider)) {
		bad("provider", "%q is not one of %v", c.Provider, kinds)
	}
	if keyring.Kind(c.Provider) == keyring.Shares {
		if err := lock.CheckSharing(c.Threshold, c.Shares); err != nil {
			bad("threshold, keys.shares", "%w", err)
		}
	}
	if strings.ContainsAny(c.Credential, "/\x00") || c.Credential == "" || c.Credential[0] == '.' {
		bad("credential", "%q is not the name of a credential", c.Credential)
	}
	if keyring.Kind(c.Provider) == keyring.Token && (c.PKCS11Module == "" || c.PKCS11Token == "") {
		bad("pkcs11_module, keys.pkcs11_token", "provider pkcs11 needs both")
	}
	return errors.Join(errs...)
}

// ringConfig is where the site's keys are.
func (s *Site) ringConfig() keyring.Config {
	c := s.cfg.Keys
	k := keyring.Config{
		Dir: s.data.keys(), Site: s.who.ID.UUID, Provider: keyring.Kind(c.Provider), KeyFile: c.SiteKey,
		Threshold: c.Threshold, Count: c.Shares, PINFile: c.PKCS11PINFile,
		Token: token.Config{Helper: c.PKCS11Helper, Module: c.PKCS11Module, Label: c.PKCS11Token},
	}
	if k.KeyFile == "" {
		k.KeyFile = s.data.siteKey()
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" { // systemd.exec(5)
		k.Credential = filepath.Join(dir, c.Credential)
	}
	return k
}

// openKeys opens the keys, and unseals the site where nobody has to enter
// anything for it. Otherwise it runs sealed: it records, and opens no secret.
func (s *Site) openKeys(ctx context.Context, isNew bool) error {
	cfg := s.ringConfig()
	if isNew {
		if err := keyring.Create(ctx, cfg); err != nil {
			return err
		}
	}
	ring, err := keyring.Open(cfg)
	if err != nil {
		return err
	}
	s.keys, s.sealer = &Keys{ring: ring, site: s, tries: tries{now: time.Now}}, ring.Sealer()
	if err := s.keys.checkPublished(isNew); err != nil {
		return err
	}
	status := ring.Status()
	if status.Provider != status.Configured {
		s.log.Warn("the site's key is not held by what is configured; vault rekey leads there", "provider", status.Provider, "configured", status.Configured)
	}
	opened, err := ring.Open(ctx, seal.Secret{})
	if err == nil {
		return opened.Use(ctx)
	}
	absent := errors.Is(err, keyring.ErrAbsent) || errors.Is(err, keyring.ErrNeedsSecret)
	if status.Provider == keyring.File && !absent {
		return err
	}
	// A start that fails would be tried again and again, and a token counts wrong PINs.
	s.log.Warn("the site is sealed: it records, and opens no secret and no recording; vault unseal opens it",
		"provider", status.Provider, "cause", err.Error())
	return nil
}

// checkPublished wants the key that data keys are wrapped to to be one that the
// site has published: whoever could put another one into the ring would read
// what is sealed from then on.
func (k *Keys) checkPublished(isNew bool) error {
	if isNew {
		return nil
	}
	var published, next []byte
	k.site.commands.View(func(state *aggregate.State) {
		if t, ok := state.Site(k.site.who.ID); ok {
			published, next = t.SealingKey(), t.NextSealingKey()
		}
	})
	if err := k.ring.Published(published, next); err != nil {
		return fmt.Errorf("%w; restore the keys directory from a backup, nothing was changed", err)
	}
	return nil
}

// settle goes on with a rekey that was cut short after its switch.
func (k *Keys) settle(ctx context.Context) {
	if !k.ring.Unfinished() {
		return
	}
	if _, err := k.Rekey(ctx, k.site.actor(), seal.Secret{}, func(string, int, int) {}); err != nil {
		k.site.log.Warn("the old key of a rekey is not destroyed yet; vault rekey goes on with it", "error", err)
	}
}

// Status tells how the keys are.
func (k *Keys) Status() keyring.Status { return k.ring.Status() }

// NeedsSecret reports whether somebody has to enter something to unseal the site.
func (k *Keys) NeedsSecret() bool { return k.ring.NeedsSecret() }

// Seal lets the site's key go. That happens whether or not it can be recorded.
func (k *Keys) Seal(ctx context.Context, by events.Actor, reason string) (events.Record, error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	status := k.ring.Status()
	if status.Sealed {
		return events.Record{}, &commands.Refusal{Code: commands.Conflict, Message: "the site is sealed already"}
	}
	sealing := k.ring.Seal()
	records, err := k.site.commands.Do(ctx, by, commands.SealSite{Site: k.site.who.ID, Provider: string(status.Provider), Reason: reason})
	if err != nil {
		err = fmt.Errorf("the site is sealed, but that could not be recorded: %w", err)
	}
	if err = errors.Join(err, sealing); err != nil {
		return events.Record{}, err
	}
	return records[0], nil
}

// Unseal opens the site's key with what somebody entered (see
// [keyring.Keyring.Open]) and gives the event of it: site.unsealed, or
// site.unseal_share_given together with [lock.ErrTooFew]. A try that fails is an
// event too. Tries are limited in rate.
func (k *Keys) Unseal(ctx context.Context, by events.Actor, secret seal.Secret) (events.Record, error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	if !k.ring.Status().Sealed {
		return events.Record{}, &commands.Refusal{Code: commands.Conflict, Message: "the site is not sealed"}
	}
	if err := k.tries.take(); err != nil {
		return events.Record{}, err
	}
	site, provider := k.site.who.ID, string(k.ring.Status().Provider)
	opened, err := k.ring.Open(ctx, secret)
	if err != nil {
		return k.refused(ctx, by, provider, err)
	}
	records, err := k.site.commands.Do(ctx, by, commands.UnsealSite{Site: site, Provider: provider, Key: k.ring.KeyID()})
	if err == nil {
		err = opened.Use(ctx)
	}
	if err != nil {
		return events.Record{}, errors.Join(err, opened.Close())
	}
	k.tries.give()
	return records[0], nil
}

// refused records why the site stays sealed.
func (k *Keys) refused(ctx context.Context, by events.Actor, provider string, cause error) (events.Record, error) {
	if errors.Is(cause, lock.ErrTooFew) {
		k.tries.give()
		s := k.ring.Status()
		records, err := k.site.commands.Do(ctx, by, commands.GiveUnsealShare{Site: k.site.who.ID, Given: s.Given, Needed: s.Needed})
		if err != nil {
			return events.Record{}, err
		}
		return records[0], cause
	}
	records, err := k.site.commands.Do(ctx, by, commands.RefuseUnseal{Site: k.site.who.ID, Provider: provider, Detail: cause.Error()})
	if err != nil {
		return events.Record{}, errors.Join(cause, err)
	}
	return records[0], cause
}

// Rekey takes the site to its next key (see [keyring.Keyring.Rekey]), or goes on
// with that.
func (k *Keys) Rekey(ctx context.Context, by events.Actor, secret seal.Secret, progress keyring.Progress) (*keyring.Rekeyed, error) {
	return k.ring.Rekey(ctx, secret, &journal{keys: k, by: by}, progress)
}

// AbandonRekey gives a rekey up that has not reached its switch.
func (k *Keys) AbandonRekey(ctx context.Context, by events.Actor, secret seal.Secret, progress keyring.Progress) (*keyring.Rekeyed, error) {
	return k.ring.Abandon(ctx, secret, &journal{keys: k, by: by}, progress)
}

// RekeyNeedsSecret reports whether somebody has to enter something for the next
// step of a rekey, and of what kind of provider.
func (k *Keys) RekeyNeedsSecret() (bool, keyring.Kind) { return k.ring.RekeyNeedsSecret() }

// journal makes the steps of a rekey events of whoever asked for it.
type journal struct {
	keys *Keys
	by   events.Actor
}

func (j *journal) do(ctx context.Context, c commands.Command) error {
	_, err := j.keys.site.commands.Do(context.WithoutCancel(ctx), j.by, c)
	return err
}

func (j *journal) Began(ctx context.Context, c keyring.Change) error {
	return j.do(ctx, commands.BeginRekey{Site: j.keys.site.who.ID, From: c.FromID, To: c.ToID, Provider: string(c.ToKind), Key: c.To})
}

func (j *journal) Finished(ctx context.Context, c keyring.Change) error {
	return j.do(ctx, commands.FinishRekey{
		Site: j.keys.site.who.ID, From: c.FromID, To: c.ToID, Provider: string(c.ToKind), Key: c.To, DataKeys: c.DataKeys, Unopened: c.Unopened,
	})
}

func (j *journal) Abandoned(ctx context.Context, c keyring.Change) error {
	return j.do(ctx, commands.AbandonRekey{Site: j.keys.site.who.ID, To: c.ToID})
}

func (j *journal) Destroyed(ctx context.Context, c keyring.Change) error {
	return j.do(ctx, commands.NoteKeyDestroyed{Site: j.keys.site.who.ID, Key: c.FromID, Provider: string(c.FromKind)})
}

const (
	// mostTries may be made at once to unseal a site, and one more each tryEvery.
	mostTries = 5
	tryEvery  = 30 * time.Second
)

// TooManyTriesError says that the site takes no more tries to unseal it for a while.
type TooManyTriesError struct{ Wait time.Duration }

func (e *TooManyTriesError) Error() string {
	return fmt.Sprintf("too many failed tries to unseal the site; the next is in %s", e.Wait.Round(time.Second))
}

// tries limits how fast somebody may guess. Its owner locks.
type tries struct {
	now  func() time.Time
	used []time.Time // when each of the last tries was made
}

func (t *tries) take() error {
	now := t.now()
	t.used = slices.DeleteFunc(t.used, func(at time.Time) bool { return now.Sub(at) >= mostTries*tryEvery })
	if len(t.used) >= mostTries {
		return &TooManyTriesError{Wait: mostTries*tryEvery - now.Sub(t.used[0])}
	}
	t.used = append(t.used, now)
	return nil
}

// give takes the last try back: it was no guess.
func (t *tries) give() { t.used = t.used[:max(0, len(t.used)-1)] }
