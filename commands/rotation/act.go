package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

const (
	// callTime bounds one call of a rotator.
	callTime = 30 * time.Second
	// retirePause is how long an old key that could not be taken away is left.
	retirePause = 30 * time.Second
)

// Step plans and takes the next step of a rotation, unless it waits or has
// ended. The error says why the site could not take it now; what the target says
// is no error.
func (m *Manager) Step(ctx context.Context, id events.RotationID) error {
	step, _, ok := m.next(id)
	if !ok {
		return nil
	}
	var err error
	switch step.Kind {
	case Stage:
		err = m.stage(ctx, id)
	case Send:
		err = m.send(ctx, id, step.Verb)
	case Interrupt:
		err = m.interrupt(ctx, id, step.Attempt)
	case Test:
		err = m.test(ctx, id, step.Version)
	case Retire:
		err = m.retire(ctx, id, step.Version)
	case End:
		err = m.do(ctx, commands.EndRotation{Rotation: id, Result: step.Result, Version: step.Version, Detail: step.Detail})
	}
	if refused(err) {
		return nil // the next plan sees what has changed
	}
	if err != nil {
		return fmt.Errorf("rotation %s: %w", id, err)
	}
	return nil
}

// work is what a step needs of the state.
type work struct {
	job        rotator.Job
	kind       events.SecretKind
	policy     events.RotationPolicy
	credential events.CredentialID
	staged     vault.Sealed
	stagedAt   events.ClockEntry
	alone      bool         // goes on without a second copy
	current    vault.Sealed // zero if none is known
	known      vault.Sealed // any version
	tested     vault.Sealed
	via        *login
}

type login struct {
	account    events.AccountID
	name       string
	params     map[string]string
	credential events.CredentialID
	secret     vault.Sealed
}

var errNoRotator = errors.New("nothing here changes such a secret on such a target")

// gather reads the state for a step. version is that of a test.
func (m *Manager) gather(id events.RotationID, version events.SecretID) (w work, err error) {
	m.cfg.Dispatcher.View(func(s *aggregate.State) {
		r, ok := s.Rotation(id)
		if !ok {
			err = fmt.Errorf("rotation %s has ended", id)
			return
		}
		err = w.read(s, r, version)
	})
	return w, err
}

func (w *work) read(s *aggregate.State, r *aggregate.Rotation, version events.SecretID) error {
	a, okA := s.Account(r.Account)
	c, okC := s.Credential(r.Credential)
	if !okA || !okC {
		return errors.New("its account or credential is not known")
	}
	t, ok := s.Target(a.Target)
	if !ok {
		return errors.New("its target is not known")
	}
	targetParams, agreed := t.Params()
	accountParams, agreedToo := a.Params()
	if !agreed || !agreedToo {
		return errors.New("sites set different parameters of its target or account; set them again")
	}
	w.credential, w.kind, w.policy = c.ID, c.Kind, s.RotationPolicy(a)
	w.job = rotator.Job{
		Kind: t.Kind, Addr: t.Addr, HostKeys: t.HostKeys(), Algorithms: t.Algorithms(), Account: a.Name,
		Params: targetkind.Effective(t.Kind, t.Addr, targetParams, accountParams), Timeout: callTime,
	}
	// Where the target takes no secret that is known, there is none to lose.
	w.alone = c.Unsettled() || goesAlone(s, r.Planned.Origin.Site, w.policy, r.Why)
	if v, ok := r.Staged(); ok {
		w.staged, _ = commands.Sealed(s, c.ID, v)
		if version, known := c.Version(v); known && version.Staged != nil {
			w.stagedAt = events.ClockEntry{Origin: version.Staged.Origin, Position: version.Staged.Position}
		}
	}
	if v, ok := c.Current(); ok {
		w.current, _ = commands.Sealed(s, c.ID, v.ID)
	}
	if w.known, ok = commands.Known(s, c); !ok {
		w.known = vault.Sealed{Credential: c.ID, Kind: c.Kind}
	}
	w.tested, _ = commands.Sealed(s, c.ID, version)
	w.readVia(s, t, a, targetParams)
	return nil
}

func (w *work) readVia(s *aggregate.State, t *aggregate.Target, a *aggregate.Account, targetParams []events.Param) {
	id, agreed := a.Via()
	via, ok := s.Account(id)
	if !agreed || !ok || via.Removed {
		return
	}
	params, agreed := via.Params()
	c, ok := s.Credential(via.Credential)
	if !ok || !agreed {
		return
	}
	if v, ok := c.Current(); ok {
		w.via = &login{account: id, name: via.Name, credential: c.ID, params: targetkind.Effective(t.Kind, t.Addr, targetParams, params)}
		w.via.secret, _ = commands.Sealed(s, c.ID, v.ID)
	}
}

// open takes a secret out of the vault. The caller wipes it.
func (m *Manager) open(ctx context.Context, v vault.Sealed) (rotator.Secret, error) {
	if len(v.Bytes) == 0 {
		return rotator.Secret{}, errors.New("the version is not held here")
	}
	b, err := vault.Open(ctx, m.cfg.Sealer, v)
	return rotator.Secret{Kind: v.Kind, Bytes: b, Public: v.Public}, err
}

// stage makes a new secret and keeps it, before any target hears of it.
func (m *Manager) stage(ctx context.Context, id events.RotationID) error {
	w, err := m.gather(id, events.SecretID{})
	if err != nil {
		return err
	}
	if _, ok := m.cfg.Rotator(w.job.Kind, w.kind); !ok {
		return m.fail(ctx, id, errNoRotator)
	}
	if !w.alone && !m.cfg.Copies.Reachable() {
		return m.fail(ctx, id, errAlone)
	}
	next, err := m.cfg.Generate(w.job.Kind, w.policy, rotator.Secret{Kind: w.known.Kind, Public: w.known.Public})
	if err != nil {
		return m.fail(ctx, id, err)
	}
	defer next.Bytes.Wipe()
	sealed, err := vault.Stage(ctx, m.cfg.Sealer, w.known, next.Bytes)
	if errors.Is(err, vault.ErrBadSecret) {
		return m.fail(ctx, id, err)
	}
	if err != nil {
		return err
	}
	return m.do(ctx, commands.StageSecret{Rotation: id, Secret: sealed})
}

// fail ends a rotation that sent nothing.
func (m *Manager) fail(ctx context.Context, id events.RotationID, why error) error {
	return m.do(ctx, commands.EndRotation{Rotation: id, Result: events.RotationFailed, Detail: why.Error()})
}

// send asks the target to take the staged version. That this is about to happen
// is durable first; what came of it is written down whatever becomes of ctx.
func (m *Manager) send(ctx context.Context, id events.RotationID, verb events.ChangeVerb) error {
	w, err := m.gather(id, events.SecretID{})
	if err != nil {
		return err
	}
	change, ok := m.cfg.Rotator(w.job.Kind, w.kind)
	if !ok {
		return m.fail(ctx, id, errNoRotator)
	}
	next, err := m.open(ctx, w.staged)
	if err != nil {
		return err
	}
	defer next.Bytes.Wipe()
	say := commands.SendSecret{Rotation: id, Verb: verb, Alone: !m.cfg.Copies.Held(ctx, w.staged, w.stagedAt)} // rule R1
	if say.Alone && !w.alone {
		return m.fail(ctx, id, errAlone)
	}
	held := []events.CredentialID{w.credential}
	var by rotator.Secret
	if verb == events.ChangePrivileged {
		if w.via == nil {
			return errors.New("its privileged account is not known any more")
		}
		by, err = m.open(ctx, w.via.secret)
		w.job.Verb, w.job.Via = rotator.ByPrivileged, &rotator.Login{Account: w.via.name, Params: w.via.params, Secret: by}
		say.Presents, say.Via = w.via.secret.Version, w.via.account
		held = append(held, w.via.credential)
	} else {
		by, err = m.open(ctx, w.current)
		w.job.Verb, w.job.Current, say.Presents = rotator.AsItself, by, w.current.Version
	}
	if err != nil {
		return err
	}
	defer by.Bytes.Wipe()
	done, err := m.cfg.Keeper.Change(ctx, held...)
	if err != nil {
		return err
	}
	defer done()
	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, say)
	if err != nil {
		return err
	}
	return m.answer(id, records[0], func() (aggregate.Answer, error) {
		outcome, err := change.Change(ctx, w.job, next)
		return outcomes[outcome], err
	})
}

var outcomes = map[rotator.Outcome]aggregate.Answer{
	rotator.Applied: aggregate.AnswerApplied, rotator.Refused: aggregate.AnswerRefused, rotator.Unknown: aggregate.AnswerUnknown,
}

var answers = map[rotator.Answer]aggregate.Answer{
	rotator.Accepted: aggregate.AnswerAccepted, rotator.Rejected: aggregate.AnswerRejected,
	rotator.Locked: aggregate.AnswerLocked, rotator.NoAnswer: aggregate.AnswerNone,
}

// answer makes an attempt that was announced by a record, and writes down what
// came of it.
func (m *Manager) answer(id events.RotationID, announced events.Record, attempt func() (aggregate.Answer, error)) error {
	answer, err := attempt()
	say := commands.AnswerAttempt{
		Rotation: id, Try: events.TryID{UUID: announced.Header.ID}, Answer: answer, NotPresented: errors.Is(err, rotator.ErrNotPresented),
	}
	if err != nil {
		say.Detail = err.Error()
	}
	var login *rotator.LoginError
	say.Rejected = errors.As(err, &login) && login.Answer == rotator.Rejected
	return m.do(context.Background(), say)
}

// interrupt says of an attempt whose site was lost that there is no answer.
func (m *Manager) interrupt(ctx context.Context, id events.RotationID, a *aggregate.Attempt) error {
	say := commands.AnswerAttempt{Rotation: id, Try: a.ID, Answer: aggregate.AnswerNone, Detail: "the site stopped before the answer was recorded"}
	if a.Sent != "" {
		say.Answer = aggregate.AnswerUnknown
	}
	return m.do(ctx, say)
}

// test logs in with a version to see whether the target takes it.
func (m *Manager) test(ctx context.Context, id events.RotationID, version events.SecretID) error {
	w, err := m.gather(id, version)
	if err != nil {
		return err
	}
	verify, ok := m.cfg.Rotator(w.job.Kind, w.kind)
	if !ok {
		return m.fail(ctx, id, errNoRotator)
	}
	candidate, err := m.open(ctx, w.tested)
	if err != nil {
		return err
	}
	defer candidate.Bytes.Wipe()
	done, err := m.cfg.Keeper.Change(ctx, w.credential)
	if err != nil {
		return err
	}
	defer done()
	records, err := m.cfg.Dispatcher.Do(ctx, m.actor, commands.TrySecret{Rotation: id, Version: version})
	if err != nil {
		return err
	}
	return m.answer(id, records[0], func() (aggregate.Answer, error) {
		answer, err := verify.Verify(ctx, w.job, candidate)
		return answers[answer], err
	})
}

// retire makes the target refuse the old key, which it took beside the new one
// until that was verified.
func (m *Manager) retire(ctx context.Context, id events.RotationID, old events.SecretID) error {
	w, err := m.gather(id, old)
	if err != nil {
		return err
	}
	r, _ := m.cfg.Rotator(w.job.Kind, w.kind)
	retirer, ok := r.(rotator.Retirer)
	if !ok { // the target holds one secret at a time: its old one is gone
		return m.do(ctx, commands.RetireSecret{Rotation: id, Version: old})
	}
	if w.job.Current, err = m.open(ctx, w.staged); err != nil {
		return err
	}
	defer w.job.Current.Bytes.Wipe()
	w.job.Verb = rotator.AsItself
	outcome, err := retirer.Retire(ctx, w.job, []string{w.tested.Public})
	if outcome == rotator.Applied {
		return m.do(context.Background(), commands.RetireSecret{Rotation: id, Version: old})
	}
	return m.do(context.Background(), commands.DeferRotation{Rotation: id, Until: m.cfg.Now().Add(retirePause), Detail: fmt.Sprint(err)})
}
