package replay

import (
	"fmt"
	"io"
)

// RawOptions says which bytes to export.
type RawOptions struct {
	Channel int    // [FirstSession], or its place in the order of opening, from 0
	Stream  Stream // [Out] if empty
}

// Raw writes one stream of a channel, byte for byte what was delivered. The errors are [ErrNoChannel],
// [*IncompleteError] after everything that there is was written, and those of w and src.
func Raw(w io.Writer, src Source, o RawOptions) error {
	if o.Stream == "" {
		o.Stream = Out
	}
	switch o.Stream {
	case In, Out, Err, Other:
	default:
		return fmt.Errorf("stream %q is none of in, out, err", o.Stream)
	}
	return forEach(onChannel(src, o.Channel), func(e *Event) error {
		if e.Kind != KindData || e.Stream != o.Stream {
			return nil
		}
		_, err := w.Write(e.Data)
		return err
	})
}
