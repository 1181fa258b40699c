package commands

import (
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// RecoverSecrets brings the versions of secrets back that a target may hold, and of
// which only parts of logs say so that do not count (rule R14).
type RecoverSecrets struct {
	Versions []events.SecretID // that this site can open
}

var _ = register[RecoverSecrets]("RecoverSecrets", bySite|headroom)

// maxRecovered bounds the events of one such command; the next one goes on.
const maxRecovered = 100

// Decide says it once of each version, for all sites.
func (c RecoverSecrets) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	d := newDecision(by, env)
	if _, held := s.HoldOf(env.Log); held { // nobody would hear it
		return nil, nil
	}
	for _, r := range s.Recoverable() {
		if len(d.drafts) == maxRecovered {
			break
		}
		if !slices.Contains(c.Versions, r.Version) {
			continue
		}
		d.add(r.Credential.UUID, events.SecretRecovered{
			Version: r.Version, Sealed: r.Sealed, Public: r.Public, Key: r.Key, Log: r.Log, Position: r.Position,
		})
	}
	return d.done()
}
