package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

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
