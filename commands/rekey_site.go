package commands

import (
	"bytes"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// BeginRekey publishes the key that a site is going to have next. A rekey that
// was interrupted gives it again.
type BeginRekey struct {
	Site     events.SiteID
	From, To uint32 // ids of the keys
	Provider string
	Key      []byte // public half of the next
}

var _ = register[BeginRekey]("BeginRekey", byAdmin|headroom)

// Decide makes no event when the state says so already.
func (c BeginRekey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if t, ok := s.Site(c.Site); ok && bytes.Equal(t.NextSealingKey(), c.Key) {
		return nil, nil
	}
	return onSite(s, c.Site, by, env, events.RekeyBegan{From: c.From, To: c.To, Provider: bounded(c.Provider, maxText), SealingKey: c.Key})
}

// FinishRekey makes the next key the site's.
type FinishRekey struct {
	Site     events.SiteID
	From, To uint32
	Provider string
	Key      []byte
	DataKeys int
	Unopened int
}

var _ = register[FinishRekey]("FinishRekey", byAdmin|bySite|headroom)

// Decide makes no event when the state says so already.
func (c FinishRekey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if t, ok := s.Site(c.Site); ok && bytes.Equal(t.SealingKey(), c.Key) {
		return nil, nil
	}
	return onSite(s, c.Site, by, env, events.SiteRekeyed{
		From: c.From, To: c.To, Provider: bounded(c.Provider, maxText), SealingKey: c.Key, DataKeys: c.DataKeys, Unopened: c.Unopened,
	})
}

// AbandonRekey takes the next key back.
type AbandonRekey struct {
	Site events.SiteID
	To   uint32
}

var _ = register[AbandonRekey]("AbandonRekey", byAdmin|headroom)

// Decide makes no event when no next key is on record.
func (c AbandonRekey) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	if t, ok := s.Site(c.Site); ok && t.NextSealingKey() == nil {
		return nil, nil
	}
	return onSite(s, c.Site, by, env, events.RekeyAbandoned{To: c.To})
}

// NoteKeyDestroyed says that a former key's private half is gone.
type NoteKeyDestroyed struct {
	Site     events.SiteID
	Key      uint32
	Provider string
}

var _ = register[NoteKeyDestroyed]("NoteKeyDestroyed", byAdmin|bySite|headroom)

// Decide refuses a site that is not known.
func (c NoteKeyDestroyed) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	return onSite(s, c.Site, by, env, events.SiteKeyDestroyed{Key: c.Key, Provider: bounded(c.Provider, maxText)})
}
