package console

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/targetkind"
	"github.com/holdfast-pam/holdfast/events"
)

// paramFlags is what a target or an account is given besides its address.
type paramFlags []string

func (p *paramFlags) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringArrayVar((*[]string)(p), "param", nil, "NAME=VALUE that its kind takes, with - for a value from standard input; repeatable")
	cmd.Long = cmd.Short + ".\n\nParameters:\n" + strings.TrimRight(targetkind.Help(), "\n")
	return cmd
}

// read gives the parameters by name; one without a value stands for none.
func (p paramFlags) read(c *call) (map[string]string, error) {
	params := map[string]string{}
	for _, arg := range p {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, &Fault{Exit: Usage, Message: "a parameter is written --param NAME=VALUE, for example --param tls=require"}
		}
		if _, twice := params[name]; twice {
			return nil, usageError("parameter %s is given twice", name)
		}
		text, err := c.textInput("value of "+name, value)
		if err != nil {
			return nil, err
		}
		params[name] = text
	}
	return params, nil
}

// shownParams is a line of parameters; certificates are shown by their hash.
func shownParams(params []events.Param) string {
	var parts []string
	for _, p := range params {
		if p.Name == targetkind.CA {
			sum := sha256.Sum256([]byte(p.Value))
			p.Value = fmt.Sprintf("(%d certificates, sha256 %s)", strings.Count(p.Value, "-----BEGIN"), hex.EncodeToString(sum[:8]))
		}
		parts = append(parts, p.Name+"="+p.Value)
	}
	return strings.Join(parts, " ")
}

func (c *call) targetSet() *cobra.Command {
	var params paramFlags
	return params.flags(c.verb("set NAME", "Change parameters of a target; --param NAME= goes back to the default", change, func(args []string) error {
		values, err := params.read(c)
		if err != nil {
			return err
		}
		if len(values) == 0 {
			return &Fault{Exit: Usage, Message: "target set needs --param NAME=VALUE"}
		}
		return carryOut(c, "target", "target.params_set", commands.SetTargetParams{Target: args[0], Params: values}, c.target)
	}))
}

func (c *call) accountSet() *cobra.Command {
	var params paramFlags
	var via string
	var noVia bool
	cmd := params.flags(c.verb("set ACCOUNT+TARGET", "Change what an account was added with, by name or id", change, func(args []string) error {
		account, target, err := accountRef(args[0])
		if err != nil {
			return err
		}
		values, err := params.read(c)
		if err != nil {
			return err
		}
		set := commands.ChangeAccount{Account: account, Target: target, Params: values}
		if set.Via, err = viaRef(via, noVia); err != nil {
			return err
		}
		if len(values) == 0 && set.Via == nil {
			return &Fault{Exit: Usage, Message: "account set needs --param, --via or --no-via"}
		}
		records, err := c.do(set)
		if err != nil {
			return err
		}
		return c.answerAccount(records)
	}))
	cmd.Flags().StringVar(&via, "via", "", "ACCOUNT+TARGET of the privileged account that may change it")
	cmd.Flags().BoolVar(&noVia, "no-via", false, "no privileged account may change it any more")
	return cmd
}

// viaRef reads --via and --no-via; nil where neither is given.
func viaRef(via string, none bool) (*commands.Ref, error) {
	switch {
	case via != "" && none:
		return nil, usageError("--via and --no-via are two answers to one question; give one of them")
	case none:
		return &commands.Ref{}, nil
	case via == "":
		return nil, nil
	}
	account, target, err := accountRef(via)
	if err != nil {
		return nil, err
	}
	return &commands.Ref{Account: account, Target: target}, nil
}

// answerAccount answers with the account that events changed.
func (c *call) answerAccount(records []events.Record) error {
	if len(records) == 0 {
		return c.unchanged("account")
	}
	last := records[len(records)-1]
	if c.json {
		return answerChange(c, "account", last, c.account)
	}
	for _, r := range records {
		if _, err := fmt.Fprintf(c.stdout, "%s  %s  event %s\n", r.Header.Type, r.Header.Stream, r.Header.ID); err != nil {
			return err
		}
	}
	return nil
}
