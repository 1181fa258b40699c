package console

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/replay/transfer"
)

var fileColumns = []column[transfer.Operation]{
	{"channel", func(o transfer.Operation) string { return strconv.Itoa(o.Channel) }},
	{"did", func(o transfer.Operation) string { return string(o.Kind) }},
	{"direction", func(o transfer.Operation) string { return string(o.Direction) }},
	{"path", func(o transfer.Operation) string { return o.Path }},
	{"target", func(o transfer.Operation) string { return o.Target }},
	{"bytes", func(o transfer.Operation) string { return strconv.FormatUint(o.Bytes, 10) }},
	{"sha256", func(o transfer.Operation) string { return o.SHA256 }},
	{"note", func(o transfer.Operation) string { return o.Note }},
}

// sessionFiles decodes what a session did to files by SFTP and scp. It reads
// the recording, so it is a reading of it.
func (c *call) sessionFiles() *cobra.Command {
	return c.verb("files ID", "List what a session did to files by sftp and scp, with sizes and hashes", own, func(args []string) error {
		_, source, err := c.recording("session files", args[0], "files")
		if err != nil {
			return err
		}
		var all []transfer.Operation
		for o, err := range transfer.Operations(source) {
			if err != nil {
				return err
			}
			if o.Kind != transfer.KindOpen || !o.OK { // an open that worked is told by what came of it
				all = append(all, o)
			}
		}
		return list(c, "file", all, fileColumns)
	})
}
