package site

import (
	"context"
	"fmt"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
)

// openCA reads the key that vouches for the names of targets, or makes it once.
//
// It is a file beside the host key, mode 0600 like that one, and not sealed
// under the site's key. Whoever can read either can stand in for the gateway
// towards its people, so one of them sealed would guard nothing; and a sealed
// site must still be able to tell somebody who jumps why it can't let them
// through, for which it has to prove the name first. It signs nothing but host
// certificates, and no user's certificate is ever taken on its word.
func (s *Site) openCA(ctx context.Context) (err error) {
	var known string
	s.commands.View(func(state *aggregate.State) {
		if t, ok := state.Site(s.who.ID); ok {
			known = t.CA
		}
	})
	if s.ca, err = loadKey("site's certificate authority", s.data.caKey(), known == ""); err != nil {
		return err
	}
	public := authorizedKey(s.ca.PublicKey())
	switch known {
	case public:
		return nil
	case "":
		_, err = s.commands.Do(ctx, s.actor(), commands.CreateCA{Key: public})
		return err
	}
	return fmt.Errorf("site's certificate authority %s is not the one on record (%s); restore it from a backup", s.data.caKey(), known)
}
