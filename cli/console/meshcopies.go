package console

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// keptRecordings is where the recordings of a site are kept.
type keptRecordings struct {
	Site   string        `json:"site"`
	ID     events.SiteID `json:"id"`
	KeptAt []string      `json:"kept_at"`
	Wanted string        `json:"wanted"` // copies, or all
}

var keptColumns = []column[keptRecordings]{
	{"recordings of", func(k keptRecordings) string { return k.Site }},
	{"kept at", func(k keptRecordings) string { return strings.Join(k.KeptAt, ", ") }},
	{"copies", func(k keptRecordings) string { return strconv.Itoa(len(k.KeptAt)) }},
	{"wanted", func(k keptRecordings) string { return k.Wanted }},
}

func (c *call) meshCopies() *cobra.Command {
	cmd := c.verb("copies", "Show at which sites recordings are kept", read, func([]string) error {
		var all []keptRecordings
		c.cfg.Site.Commands().View(func(s *aggregate.State) {
			for _, m := range s.MeshSites() {
				k := keptRecordings{Site: m.Name, ID: m.Site, KeptAt: []string{}, Wanted: copiesText(s.Copies())}
				for _, id := range s.KeepersOf(m.Site) {
					k.KeptAt = append(k.KeptAt, siteName(s, id))
				}
				all = append(all, k)
			}
		})
		return list(c, "recordings", all, keptColumns)
	})
	cmd.Long = cmd.Short + ", the one where they are made first.\n" +
		"Every site has what proves that a recording is complete, and gets the rest from one that keeps it.\n" +
		"How many keep it: mesh set-copies. A site that leaves or is fenced keeps none any more."
	return cmd
}

func (c *call) meshSetCopies() *cobra.Command {
	cmd := c.verb("set-copies N|all", "Say at how many sites each recording is kept", change, func(args []string) error {
		p := commands.SetCopies{}
		if args[0] != "all" {
			n, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || n == 0 {
				return usageError("%s is no number of copies; use 1 or more, or all", Printable(args[0]))
			}
			p.Copies = uint32(n)
		}
		records, err := c.do(p)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return c.unchanged("copies")
		}
		return c.answerEvents(records)
	})
	cmd.Long = cmd.Short + ", the one where it is made included.\n" +
		"A site that is to keep more than it has fetches it from the others. One that is to keep less keeps\n" +
		"what it has. Which sites keep whose recordings: mesh copies."
	return cmd
}

func copiesText(n uint32) string {
	if n == 0 {
		return "all"
	}
	return strconv.FormatUint(uint64(n), 10)
}
