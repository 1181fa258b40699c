package site

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// VerifyLogs checks both logs in a data directory, or a copy of one, over all
// epochs (see [store.Verify]). It changes nothing. No site may be running there.
func VerifyLogs(ctx context.Context, dir string) ([]*store.VerifyReport, error) {
	var reports []*store.VerifyReport
	d := data{dir}
	var who identity
	if b, err := os.ReadFile(d.identity()); err == nil {
		if err := json.Unmarshal(b, &who); err != nil {
			return nil, fmt.Errorf("read %s: %w", d.identity(), err)
		}
	}
	doubt, err := d.loadDoubt()
	if err != nil {
		return nil, err
	}
	for _, kind := range []events.Kind{events.Ctl, events.Rec} {
		aside, err := verifyAside(ctx, d, who.ID, kind)
		if err != nil {
			return reports, fmt.Errorf("verify the %s logs that were set aside: %w", kind, err)
		}
		verify := func() (*store.VerifyReport, error) {
			return store.Verify(ctx, segment.Engine{}, d.log(kind), kind, aside.Epochs...)
		}
		if doubt.Why != "" && doubt.Done == nil { // the next start sets them aside
			verify = func() (*store.VerifyReport, error) {
				return store.VerifyAside(ctx, segment.Engine{}, d.log(kind), kind)
			}
		}
		r, err := verify()
		if err != nil {
			return reports, fmt.Errorf("verify the %s log: %w", kind, err)
		}
		r.Epochs = append(aside.Epochs, r.Epochs...)
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
		kind := h.Log().Origin().Kind
		aside, err := verifyAside(ctx, s.data, s.who.ID, kind)
		if err != nil {
			return reports, fmt.Errorf("verify the %s logs that were set aside: %w", kind, err)
		}
		r, err := h.Verify(ctx, aside.Epochs...)
		if err != nil {
			return reports, fmt.Errorf("verify the %s log: %w", kind, err)
		}
		r.Epochs = append(aside.Epochs, r.Epochs...)
		for _, e := range r.Epochs {
			for _, p := range e.Problems {
				s.noteDamage(ctx, p)
			}
		}
		reports = append(reports, r)
	}
	return reports, nil
}
