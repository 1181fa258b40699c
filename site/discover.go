package site

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation/rotator"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
)

// FindAccounts asks a target which accounts it has, as the target.accounts_sought
// record says, and gives the record of the answer.
func (s *Site) FindAccounts(ctx context.Context, sought events.Record) (events.Record, error) {
	e, err := sought.Event()
	if err != nil {
		return events.Record{}, err
	}
	asked, ok := e.(events.AccountsSought)
	if !ok {
		return events.Record{}, fmt.Errorf("%s does not ask for accounts", sought.Header.Type)
	}
	target := events.TargetID{UUID: sought.Header.Stream}
	var job rotator.Job
	var via rotator.Login
	var sealed vault.Sealed
	s.commands.View(func(state *aggregate.State) { job, via, sealed, err = discovery(state, target, asked.Via) })
	if err != nil {
		return events.Record{}, err
	}
	discoverer, ok := new(rotator.Set).Discoverer(job.Kind)
	if !ok {
		return events.Record{}, fmt.Errorf("a target of kind %s can't be asked for its accounts", job.Kind)
	}
	secret, err := vault.Open(ctx, s.sealer, sealed)
	if err != nil {
		return events.Record{}, err
	}
	defer secret.Wipe()
	via.Secret = rotator.Secret{Kind: sealed.Kind, Bytes: secret, Public: sealed.Public}
	job.Via = &via
	found, cut, err := discoverer.Discover(ctx, job)
	if err != nil {
		return events.Record{}, err
	}
	records, err := s.commands.Do(ctx, events.SiteActor(s.ID()), commands.RecordAccounts{
		Target: target, Via: asked.Via, Sought: sought.Header.ID, Accounts: found, Cut: cut,
	})
	if err != nil {
		return events.Record{}, err
	}
	return records[0], nil
}

// discovery gathers what a discovery needs of the state.
func discovery(state *aggregate.State, target events.TargetID, account events.AccountID) (job rotator.Job, via rotator.Login, sealed vault.Sealed, err error) {
	t, okT := state.Target(target)
	a, okA := state.Account(account)
	if !okT || !okA || t.Removed || a.Removed {
		return job, via, sealed, errors.New("the target or the account is not there any more")
	}
	params, agreed := t.Params()
	own, agreedToo := a.Params()
	if !agreed || !agreedToo {
		return job, via, sealed, errors.New("sites set different parameters of the target or the account; set them again")
	}
	if t.Kind == events.SSH && len(t.HostKeys()) == 0 {
		return job, via, sealed, errors.New("sites pinned different host keys; pin them again")
	}
	job = rotator.Job{
		Kind: t.Kind, Addr: t.Addr, HostKeys: t.HostKeys(), Algorithms: t.Algorithms(),
		Params: targetkind.Effective(t.Kind, t.Addr, params, nil), Verb: rotator.ByPrivileged,
	}
	via = rotator.Login{Account: a.Name, Params: targetkind.Effective(t.Kind, t.Addr, params, own)}
	c, ok := state.Credential(a.Credential)
	if ok {
		var v *aggregate.Version
		if v, ok = c.Current(); ok {
			sealed, ok = commands.Sealed(state, c.ID, v.ID)
		}
	}
	if !ok {
		return job, via, sealed, fmt.Errorf("there is no secret for %s+%s that could be presented", a.Name, t.Name)
	}
	return job, via, sealed, nil
}
