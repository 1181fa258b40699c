//go:build unix

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// ttyName is the terminal of the process, whatever its streams are.
const ttyName = "/dev/tty"

// followSize calls changed after each change of the terminal's size until ctx
// or the returned stop ends it.
func followSize(ctx context.Context, fd int, changed func(cols, rows int)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
				if cols, rows, err := term.GetSize(fd); err == nil {
					changed(cols, rows)
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		cancel()
		<-done
	}
}
