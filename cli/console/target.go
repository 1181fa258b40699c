package console

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/projections"
)

var targetColumns = []column[projections.Target]{
	{"name", func(t projections.Target) string { return t.Name }},
	{"kind", func(t projections.Target) string { return string(t.Kind) }},
	{"addr", func(t projections.Target) string { return t.Addr }},
	{"state", func(t projections.Target) string { return archived(t.State, t.Conflict, t.Contested) }},
	{"host keys", func(t projections.Target) string { return strings.Join(fingerprints(t.HostKeys), " ") }},
	{"labels", func(t projections.Target) string { return labelWords(t.Labels) }},
	{"added", func(t projections.Target) string { return stamp(t.Added) }},
	{"id", func(t projections.Target) string { return t.ID.String() }},
}

var targetDetails = append(targetColumns[:len(targetColumns):len(targetColumns)], []column[projections.Target]{
	{"params", func(t projections.Target) string { return shownParams(t.Params) }},
	{"keys scanned", func(t projections.Target) string { return yes(t.Scanned) }},
	{"keys pinned", func(t projections.Target) string { return stamp(t.Pinned) }},
	{"algorithms", func(t projections.Target) string { return strings.Join(t.Algorithms, " ") }},
	{"key refused", func(t projections.Target) string { return stamp(t.Refused) }},
	{"refused key", func(t projections.Target) string { return strings.Join(fingerprints([]string{t.RefusedKey}), "") }},
	{"removed", func(t projections.Target) string { return stamp(t.Removed) }},
	{"reason", func(t projections.Target) string { return t.Reason }},
	{"max sessions", func(t projections.Target) string { return atMost(t.MaxSessions) }},
}...)

// fingerprints shows keys in authorized_keys form by their fingerprints.
func fingerprints(keys []string) []string {
	var out []string
	for _, text := range keys {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text)); err == nil {
			out = append(out, ssh.FingerprintSHA256(key))
		}
	}
	return out
}

var _ = noun(func(c *call) *cobra.Command {
	return group("target", "Servers and devices that people reach through this site",
		c.targetAdd(), c.targetPin(), c.targetAllow(), c.targetSet(), c.targetLimit(), c.targetLabel(), c.targetRemove(), c.targetRestore(), c.targetList(), c.targetShow())
})

func (c *call) targetAdd() *cobra.Command {
	var addr, kind string
	var keys hostKeyFlags
	var params paramFlags
	cmd := params.flags(keys.flags(c.verb("add NAME", "Add a target, an SSH one with the host keys that it must prove", change, func(args []string) error {
		if addr == "" {
			return &Fault{Exit: Usage, Message: "target add needs --addr HOST:PORT"}
		}
		add := commands.AddTarget{Name: args[0], Addr: addr, Kind: events.TargetKind(kind)}
		var err error
		if add.Params, err = params.read(c); err != nil {
			return err
		}
		if err := targetkind.Check(add.Kind, add.Params); err != nil {
			return &Fault{Exit: Usage, Message: err.Error(), Hint: "see target add --help"}
		}
		switch {
		case add.Kind == events.SSH:
			add.Scanned = keys.scan
			if add.HostKeys, add.ID, err = keys.read(c, commands.ScanTarget{Name: args[0], Addr: addr}); err != nil {
				return err
			}
		case keys.scan || len(keys.keys) > 0:
			return &Fault{Exit: Usage, Message: fmt.Sprintf("a target of kind %s has no SSH host key", kind),
				Hint: "leave --host-key and --scan out; --param tls and ca say whom to trust"}
		}
		return carryOut(c, "target", "target.added", add, c.target)
	})))
	cmd.Flags().StringVar(&kind, "kind", string(events.SSH), "ssh, postgres, mysql, ldap or exec")
	cmd.Flags().StringVar(&addr, "addr", "", "HOST:PORT")
	return cmd
}

func (c *call) targetPin() *cobra.Command {
	var keys hostKeyFlags
	return keys.flags(c.verb("pin NAME", "Replace the host keys that a target must prove", change, func(args []string) error {
		texts, id, err := keys.read(c, commands.ScanTarget{Target: args[0]})
		if err != nil {
			return err
		}
		pin := commands.PinHostKey{Target: args[0], HostKeys: texts, Scanned: keys.scan}
		if keys.scan {
			pin.Target = id.String() // what was scanned, whoever has the name by now
		}
		return carryOut(c, "target", "target.host_key_pinned", pin, c.target)
	}))
}

// hostKeyFlags is where a target's host keys come from.
type hostKeyFlags struct {
	keys []string
	scan bool
}

func (h *hostKeyFlags) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringArrayVar(&h.keys, "host-key", nil, "public host key in authorized_keys form, or - for standard input; repeatable")
	cmd.Flags().BoolVar(&h.scan, "scan", false, "ask the target for its host keys now, and trust the answer")
	return cmd
}

// read gives the host keys in authorized_keys form, with a scan also the id of
// what was scanned.
func (h *hostKeyFlags) read(c *call, scan commands.ScanTarget) (texts []string, id events.TargetID, err error) {
	switch {
	case h.scan && len(h.keys) > 0:
		return nil, id, usageError("--host-key and --scan are two answers to one question; give one of them")
	case h.scan:
		return c.scan(scan)
	case len(h.keys) == 0:
		return nil, id, &Fault{Exit: Usage, Message: "a target needs --host-key TEXT or --scan",
			Hint: "the key stands in /etc/ssh/ssh_host_*_key.pub on the target; --scan trusts whoever answers now"}
	}
	texts, err = h.given(c)
	return texts, id, err
}

// scan asks a target for its host keys. That it does is an event, durable
// before anything is dialled.
func (c *call) scan(scan commands.ScanTarget) (texts []string, id events.TargetID, err error) {
	records, err := c.do(scan)
	if err != nil {
		return nil, id, err
	}
	e, err := records[0].Event()
	if err != nil {
		return nil, id, err
	}
	keys, err := c.cfg.Scan(c.ctx, e.(events.TargetScanRequested).Addr)
	if err != nil {
		return nil, id, &Fault{Exit: Unavailable, Message: err.Error(), Event: records[0].Header.ID, cause: err,
			Hint: "give them with --host-key, from /etc/ssh/ssh_host_*_key.pub on the target"}
	}
	for _, k := range keys {
		texts = append(texts, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))))
		c.note("took host key %s %s", k.Type(), ssh.FingerprintSHA256(k))
	}
	return texts, events.TargetID{UUID: records[0].Header.Stream}, nil
}

// given reads the host keys that flags give. Standard input may hold several,
// one a line.
func (h *hostKeyFlags) given(c *call) (texts []string, err error) {
	for _, k := range h.keys {
		text, err := c.textInput("host key", k)
		if err != nil {
			return nil, err
		}
		if k != "-" {
			texts = append(texts, text)
			continue
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				texts = append(texts, line)
			}
		}
	}
	return texts, nil
}

func (c *call) targetAllow() *cobra.Command {
	var algorithms []string
	cmd := c.verb("allow NAME", "Allow a target legacy algorithms; without --algorithm, none any more", change, func(args []string) error {
		allow := commands.AllowAlgorithms{Target: args[0], Algorithms: algorithms, Supported: sshwire.LegacyAlgorithms()}
		return carryOut(c, "target", "target.algorithms_allowed", allow, c.target)
	})
	cmd.Flags().StringArrayVar(&algorithms, "algorithm", nil, "SSH name of an algorithm that is off by default; repeatable")
	return cmd
}

func (c *call) targetRemove() *cobra.Command {
	var reason string
	var confirm bool
	cmd := c.verb("rm NAME", "Retire a target; its history stays", change, func(args []string) error {
		return carryOut(c, "target", "target.removed", commands.RemoveTarget{Target: args[0], Confirm: confirm, Reason: reason}, c.target)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&confirm, "confirm", false, confirmRemoval)
	return cmd
}

func (c *call) targetRestore() *cobra.Command {
	var reason string
	cmd := c.verb("restore NAME", "Bring back a target that was removed, with its accounts and without their grants", change, func(args []string) error {
		return carryOut(c, "target", "target.restored", commands.RestoreTarget{Target: args[0], Reason: reason}, c.target)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit; it must be given")
	return cmd
}

func (c *call) targetLimit() *cobra.Command {
	var most uint32
	cmd := c.verb("limit NAME", "Bound how many sessions run on a target at once", change, func(args []string) error {
		return carryOut(c, "target", "target.limits_set", commands.LimitTarget{Target: args[0], MaxSessions: most}, c.target)
	})
	cmd.Flags().Uint32Var(&most, "max-sessions", 0, "sessions at once; 0 takes the limit away")
	return cmd
}

func (c *call) targetList() *cobra.Command {
	var w window
	return w.flags(c.verb("ls", "List targets; an operator sees those they may reach", own, func([]string) error {
		return listFrom(c, "target", &w, c.ownTargets, targetColumns)
	}))
}

func (c *call) targetShow() *cobra.Command {
	return c.verb("show NAME", "Show one target, by name or id", own, func(args []string) error {
		return showFrom(c, "target", args[0], c.ownTarget, targetDetails)
	})
}

func labelWords(labels map[string]string) string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, key+"="+labels[key])
	}
	return strings.Join(words, " ")
}

func (c *call) targetLabel() *cobra.Command {
	var remove []string
	cmd := c.verb("label NAME [KEY=VALUE...]", "Give a target labels, by which selectors take its accounts in", change, func(args []string) error {
		label := commands.LabelTarget{Target: args[0], Set: args[1:], Remove: remove}
		records, err := c.do(label)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return c.unchanged("target")
		}
		if c.json {
			return answerChange(c, "target", records[0], c.target)
		}
		for _, r := range records {
			if _, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "keys of labels to take away")
	return cmd
}
