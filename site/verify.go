package site

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

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

// LogBytes is how much storage a log's files take.
func (s *Site) LogBytes(o events.Origin) int64 {
	var n int64
	_ = filepath.WalkDir(filepath.Join(s.data.log(o.Kind), fmt.Sprint(o.Epoch)), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // a file that went away while we looked takes nothing
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
