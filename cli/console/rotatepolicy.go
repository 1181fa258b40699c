package console

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

func (c *call) rotatePolicy() *cobra.Command {
	return group("policy", "How secrets are made, when they rotate, and what a target may be asked", c.rotatePolicyShow(), c.policySet())
}

// rotationPolicyItem is the policy of a target or account: what was set for it, and
// what holds with what it inherits.
type rotationPolicyItem struct {
	Name    string                `json:"name"`
	Own     events.RotationPolicy `json:"own"`
	Applies events.RotationPolicy `json:"applies"`
}

var rotationPolicyColumns = []column[rotationPolicyItem]{
	{"name", func(p rotationPolicyItem) string { return p.Name }},
	{"set", func(p rotationPolicyItem) string { return policyText(p.Own) }},
	{"applies", func(p rotationPolicyItem) string { return policyText(p.Applies) }},
}

// policyText writes a policy in the flags of rotate policy set.
func policyText(p events.RotationPolicy) string {
	var parts []string
	add := func(set bool, flag string, value any) {
		if set {
			parts = append(parts, fmt.Sprintf("%s %v", flag, value))
		}
	}
	seconds := func(n uint64) time.Duration { return time.Duration(n) * time.Second }
	add(p.Length > 0, "length", p.Length)
	add(len(p.Classes) > 0, "classes", strings.Join(p.Classes, ","))
	add(p.Forbidden != "", "forbidden", fmt.Sprintf("%q", p.Forbidden))
	add(p.Every > 0, "every", seconds(p.Every))
	add(p.MaxAge > 0, "max-age", seconds(p.MaxAge))
	add(p.AfterReveal > 0, "after-reveal", seconds(p.AfterReveal))
	add(p.AfterUse > 0, "after-use", seconds(p.AfterUse))
	add(p.Jitter > 0, "jitter", seconds(p.Jitter))
	add(p.LockoutThreshold > 0, "lockout-threshold", p.LockoutThreshold)
	add(p.LockoutWindow > 0, "lockout-window", seconds(p.LockoutWindow))
	add(p.Cumulative, "lockout-cumulative", "")
	add(p.Concurrency > 0, "concurrency", p.Concurrency)
	add(p.Disclose != "", "disclose", p.Disclose)
	add(p.Isolated != "", "isolated", p.Isolated)
	return strings.Join(parts, ", ")
}

func (c *call) rotatePolicyShow() *cobra.Command {
	return c.verb("show TARGET", "Show the policy of a target, or of an account as ACCOUNT+TARGET", read, func(args []string) error {
		p, err := c.policyOf(args[0])
		if err != nil {
			return err
		}
		return show(c, "rotation_policy", p, rotationPolicyColumns)
	})
}

// policyRef reads TARGET or ACCOUNT+TARGET.
func policyRef(ref string) (account, target string, err error) {
	if strings.Contains(ref, "+") {
		return splitAccount(ref)
	}
	return "", ref, nil
}

func (c *call) policyOf(ref string) (p rotationPolicyItem, err error) {
	account, target, err := policyRef(ref)
	if err != nil {
		return p, err
	}
	c.cfg.Site.Commands().View(func(s *aggregate.State) {
		p.Name = ref
		p.Own, p.Applies, err = commands.RotationPolicyOf(s, account, target)
	})
	return p, err
}

func (c *call) policySet() *cobra.Command {
	var p events.RotationPolicy
	var classes, disclose, isolated string
	times := map[string]*uint64{
		"every": &p.Every, "max-age": &p.MaxAge, "after-reveal": &p.AfterReveal, "after-use": &p.AfterUse,
		"jitter": &p.Jitter, "lockout-window": &p.LockoutWindow,
	}
	help := map[string]string{
		"every": "rotate when the secret is that old, for example 30d", "max-age": "older than that is overdue",
		"after-reveal": "rotate that long after somebody was shown it", "after-use": "rotate that long after the last session with it",
		"jitter": "spread scheduled rotations over that time", "lockout-window": "time in which the target counts wrong logins",
	}
	lengths := map[string]*string{}
	cmd := c.verb("set TARGET", "Set the policy of a target, or of an account as ACCOUNT+TARGET; what is not named is inherited", change, func(args []string) error {
		for name, text := range lengths {
			if *text == "" {
				continue
			}
			d, err := longTime(*text)
			if err != nil {
				return &Fault{Exit: Usage, Message: fmt.Sprintf("--%s: %q is no length of time", name, *text), Hint: "for example 30d, 12h or 90m"}
			}
			*times[name] = uint64(d / time.Second)
		}
		if classes != "" {
			p.Classes = strings.Split(classes, ",")
		}
		p.Disclose, p.Isolated = events.Disclosure(disclose), events.Isolation(isolated)
		account, target, err := policyRef(args[0])
		if err != nil {
			return err
		}
		records, err := c.do(commands.SetRotationPolicy{Account: account, Target: target, Policy: p})
		if err != nil {
			return err
		}
		if !c.json {
			_, err := fmt.Fprintf(c.stdout, "rotation.policy_set  %s  event %s\n", records[0].Header.Stream, records[0].Header.ID)
			return err
		}
		item, err := c.policyOf(args[0])
		if err != nil {
			return err
		}
		return writeJSON(c.stdout, c.answer("rotation_policy", item))
	})
	f := cmd.Flags()
	for name := range times {
		lengths[name] = f.String(name, "", help[name])
	}
	f.Uint32Var(&p.Length, "length", 0, "characters of a made password")
	f.StringVar(&classes, "classes", "", "at least one character of each: "+strings.Join(commands.CharacterClasses, ","))
	f.StringVar(&p.Forbidden, "forbidden", "", "characters that no made password has")
	f.Uint32Var(&p.LockoutThreshold, "lockout-threshold", 0, "wrong logins at which the target locks the account")
	f.BoolVar(&p.Cumulative, "lockout-cumulative", false, "a good login does not make the target forget the wrong ones")
	f.Uint32Var(&p.Concurrency, "concurrency", 0, "rotations at once on the target")
	f.StringVar(&isolated, "isolated", "", "while no other site of the mesh can hold the new secret, rotate: never, asked (what somebody asks for), or always")
	f.StringVar(&disclose, "disclose", "", "who may be shown the secret: admin, or granted for those with a grant as well")
	return cmd
}

// longTime reads a length of time that may be given in days.
func longTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint16
		if _, err := fmt.Sscanf(days+"\n", "%d\n", &n); err != nil {
			return 0, err
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%s is not positive", text)
	}
	return d, err
}
