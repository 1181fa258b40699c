package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// UnsealSite says that somebody opened the site's key, which is used once this
// is on record.
type UnsealSite struct {
	Site     events.SiteID
	Provider string
	Key      uint32
}

var _ = register[UnsealSite]("UnsealSite", byAdmin|headroom)

// Decide refuses a site that is not known.
func (c UnsealSite) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return onSite(s, c.Site, by, env, events.VaultUnsealed{Provider: bounded(c.Provider, maxText), Key: c.Key})
}

// RefuseUnseal says that what somebody entered did not open the site's key.
type RefuseUnseal struct {
	Site     events.SiteID
	Provider string
	Detail   string
}

var _ = register[RefuseUnseal]("RefuseUnseal", byAdmin|headroom)

// Decide refuses a site that is not known.
func (c RefuseUnseal) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return onSite(s, c.Site, by, env, events.UnsealFailed{Provider: bounded(c.Provider, maxText), Detail: bounded(c.Detail, maxText)})
}

// GiveUnsealShare says that somebody entered shares that are not enough yet.
type GiveUnsealShare struct {
	Site          events.SiteID
	Given, Needed int
}

var _ = register[GiveUnsealShare]("GiveUnsealShare", byAdmin|headroom)

// Decide refuses a site that is not known.
func (c GiveUnsealShare) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return onSite(s, c.Site, by, env, events.UnsealShareGiven{Given: c.Given, Needed: c.Needed})
}
