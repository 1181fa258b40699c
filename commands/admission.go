package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// beyondThisVersion refuses what gives something, or changes it, where a newer
// holdfast has decided what can't be read here (rule R20).
func beyondThisVersion(s *aggregate.State, by events.Actor, drafts []events.Draft) error {
	if _, barred := s.Barred(by.ID); barred {
		return barredBy("you")
	}
	for _, d := range drafts {
		t, err := events.TypeOf(d.Event)
		if err != nil {
			return err
		}
		if _, barred := s.Barred(d.Stream); barred && !aggregate.TakesAway(t.Name) {
			return barredBy("this")
		}
	}
	return nil
}

func barredBy(what string) error {
	return conflict("upgrade this site, or do it at a newer one", "a newer holdfast has decided something on %s that this one can't read", what)
}

// beyondAdmission refuses what would have no effect: a person has to know that
// this site was not admitted to the mesh to decide it.
func beyondAdmission(s *aggregate.State, log events.Origin, drafts []events.Draft) error {
	for _, d := range drafts {
		t, err := events.TypeOf(d.Event)
		if err != nil {
			return err
		}
		h := events.Header{Site: log.Site, Epoch: log.Epoch, Kind: log.Kind, Position: s.At(log) + 1, Type: t.Name, Stream: d.Stream}
		if why := s.MaskOf(&h, s.Clock()); why != "" {
			return conflict("do it at another site (mesh status shows their roles)", "%s would have no effect: %s", t.Name, why)
		}
	}
	return nil
}
