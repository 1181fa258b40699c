package site

import (
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
)

// Exposed is something in use that a site can open which is no custodian any more.
type Exposed struct {
	What  string    `json:"what"` // "secret", "user authority", "second factor"
	Name  string    `json:"name"`
	ID    uuid.UUID `json:"id"`    // of the account, the site, the user
	Since time.Time `json:"since"` // when that site was fenced, or left
	Event uuid.UUID `json:"event"`
	Do    string    `json:"do"`
}

// remedies are what ends an exposure.
var remedies = map[string]string{
	"secret":         "it is rotated by itself (rotate status); where nothing here can, change it and secret put",
	"user authority": "at that site: ca rotate --user --overlap 0s, and distribute the new key",
	"second factor":  "user totp reset, and enrol again",
}

// Exposed lists what has to be changed since a custodian has gone.
func (s *Site) Exposed() []Exposed {
	all := []Exposed{}
	s.commands.View(func(state *aggregate.State) {
		for _, e := range state.LeftOpen(s.commands.Now()) {
			all = append(all, Exposed{e.What, e.Name, e.ID, e.Since.Time(), e.Since.ID, remedies[e.What]})
		}
	})
	return all
}
