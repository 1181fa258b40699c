package site

import (
	"context"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// VerifyLogs checks both logs in a data directory, or a copy of one, over all
// epochs (see [store.Verify]). It changes nothing. No site may be running there.
func VerifyLogs(ctx context.Context, dir string) ([]*store.VerifyReport, error) {
	var reports []*store.VerifyReport
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		r, err := store.Verify(ctx, segment.Engine{}, data{dir}.log(kind), kind)
		if err != nil {
			return reports, fmt.Errorf("verify the %s log: %w", kind, err)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// VerifyLogs checks the site's own logs, up to what was durable when it was
// called. What it finds is recorded as well.
func (s *Site) VerifyLogs(ctx context.Context) ([]*store.VerifyReport, error) {
	var reports []*store.VerifyReport
	for _, h := range s.Histories() {
		if err := h.Heads().Sign(); err != nil { // so that the head covers what is verified
			return reports, fmt.Errorf("sign the head of the %s log: %w", h.Log().Origin().Kind, err)
		}
		r, err := h.Verify(ctx)
		if err != nil {
			return reports, fmt.Errorf("verify the %s log: %w", h.Log().Origin().Kind, err)
		}
		for _, e := range r.Epochs {
			for _, p := range e.Problems {
				s.noteDamage(ctx, p)
			}
		}
		reports = append(reports, r)
	}
	return reports, nil
}
