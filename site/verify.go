package site

import (
	"context"
	"fmt"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/events/store/segment"
)

// VerifyLogs checks both logs in a data directory, or a copy of one, over all
// epochs (see [store.Verify]). It changes nothing and may run beside the site.
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

// VerifyLogs checks the site's own logs.
func (s *Site) VerifyLogs(ctx context.Context) ([]*store.VerifyReport, error) {
	return VerifyLogs(ctx, s.data.dir)
}
