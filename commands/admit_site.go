package commands

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"slices"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// SiteKeys is what a site is known by in a mesh.
type SiteKeys struct {
	Site       events.SiteID
	Name       string
	Identity   []byte // Ed25519 public key; whoever gives the command has seen it proven
	Addr       string // of its mesh port; empty when it can't be dialled
	SealingKey []byte
	HostKey    string // authorized_keys form
}

func (k *SiteKeys) check() error {
	if err := checkName("site", k.Name); err != nil {
		return err
	}
	if len(k.Identity) != ed25519.PublicKeySize || len(k.SealingKey) == 0 || len(k.SealingKey) > 4096 || k.Site.IsZero() {
		return invalid("", "the keys of site %s are not complete", quoted(k.Name))
	}
	if k.Addr != "" && !aggregate.IsMeshAddr(k.Addr) {
		return invalid("use HOST:PORT", "%s is no address of a mesh port", quoted(k.Addr))
	}
	if k.HostKey == "" {
		return nil
	}
	_, err := parseKey(k.HostKey, minUserRSA)
	return err
}

func (k *SiteKeys) admitted() events.SiteAdmitted {
	return events.SiteAdmitted{Name: k.Name, Identity: k.Identity, Addr: k.Addr, SealingKey: k.SealingKey, HostKey: k.HostKey}
}

// FoundMesh makes a mesh of this site alone, so that others can join it.
type FoundMesh struct{ Keys SiteKeys }

var _ = register[FoundMesh]("FoundMesh", bySite)

// Decide does nothing where there is a mesh.
func (c FoundMesh) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := c.Keys.check(); err != nil {
		return nil, err
	}
	if c.Keys.Site.UUID != by.ID {
		return nil, invalid("", "a site founds a mesh for itself only")
	}
	if len(s.MeshSites()) > 0 {
		return nil, nil
	}
	e := c.Keys.admitted()
	e.Founder, e.Role, e.Custodian = true, events.Steward, true
	d := newDecision(by, env)
	d.add(by.ID, e)
	return d.done()
}

// AdmitSite takes a newcomer in that shows an invitation.
type AdmitSite struct {
	Invitation events.InvitationID
	Secret     []byte
	Keys       SiteKeys
	Before     []events.ClockEntry // what it has decided up to now
}

var _ = register[AdmitSite]("AdmitSite", bySite)

// Decide refuses every invitation but an open one under its name and secret, that
// was made in this very log: in another one nobody knows whether it was used. The
// same site may ask again, also when the time is over: its answer may have been lost.
// One that has left never comes back; another one may have its name.
func (c AdmitSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if err := c.Keys.check(); err != nil {
		return nil, err
	}
	refuse := func(detail string) ([]events.Draft, error) {
		return denied(by, env, events.AccessDenied{
			Reason: events.BadInvitation, Login: c.Keys.Name, Source: env.Client.Source,
			Detail: env.command + ": " + detail,
		}, "the invitation is not good", "ask for a new one: mesh invite NAME --addr ADDR")
	}
	if !slices.Contains(s.DecidesOn(events.SiteID{UUID: by.ID}), events.AreaMesh) {
		return refuse("this site may not take others in")
	}
	v, ok := s.Invitation(c.Invitation)
	hash := sha256.Sum256(c.Secret)
	switch {
	case !ok || subtle.ConstantTimeCompare(hash[:], v.SecretHash) != 1:
		return refuse("there is no such invitation")
	case v.Name != c.Keys.Name:
		return refuse("the invitation is for site " + quoted(v.Name))
	case v.Made.Origin != env.Log:
		return refuse("it was made at another site, or before this one was restored")
	case v.UsedBy(c.Keys.Site):
	case !v.Open(c.Keys.Site, env.Now):
		return refuse("the invitation was used, withdrawn, or is over")
	}
	if m, member := s.MeshSite(c.Keys.Site); member {
		if bytes.Equal(m.Identity, c.Keys.Identity) && v.UsedBy(c.Keys.Site) && !s.Fenced(m.Site) && !s.Left(m.Site) {
			return nil, nil
		}
		return refuse("the site is a member already, by another key or invitation")
	}
	for _, m := range s.MeshSites() {
		if m.Name == c.Keys.Name && !s.Left(m.Site) || bytes.Equal(m.Identity, c.Keys.Identity) {
			return refuse("a member has that name or key")
		}
	}
	for _, b := range c.Before {
		if b.Origin.Site != c.Keys.Site || b.Origin.Kind != events.Ctl || b.Origin.Epoch == 0 {
			return refuse("what it decided before is not its own")
		}
	}
	e := c.Keys.admitted()
	e.Role, e.Scopes, e.Custodian, e.Invitation, e.Before = v.Role, v.Scopes, v.Custodian, v.ID, c.Before
	d := newDecision(by, env)
	d.because(v.Made.ID, c.Keys.Site.UUID, e)
	return d.done()
}
