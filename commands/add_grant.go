package commands

import (
	"time"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// AddGrant allows a user, or everybody in a group, to open sessions as an
// account, or as every account that a selector takes in.
type AddGrant struct {
	User     string // name or id, or group:NAME
	Account  string // name or id
	Target   string // name or id; may be empty with an account's id
	Selector string // instead of Account and Target
	From     time.Time
	Expires  time.Time
	Windows  []string
	Terms    events.Terms
}

var _ = register[AddGrant]("AddGrant", byAdmin|headroom)

// Decide refuses a grant that gives no more than the subject has for the same
// scope, and one whose terms would take something away, since the newest grant
// counts. A longer or wider one is added beside the one before.
func (c AddGrant) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	who, whose, err := findSubject(s, c.User)
	if err != nil {
		return nil, err
	}
	scope, where, err := findScope(s, c.Account, c.Target, c.Selector)
	if err != nil {
		return nil, err
	}
	if err := c.checkTimes(env.Now); err != nil {
		return nil, err
	}
	windows, err := readWindows(c.Windows)
	if err != nil {
		return nil, err
	}
	terms, err := checkTerms(c.Terms)
	if err != nil {
		return nil, err
	}
	if has := c.standing(s, who, scope, env.Now); has != nil && len(windows) == 0 && c.From.IsZero() {
		if err := c.beside(has, terms, whose, where); err != nil {
			return nil, err
		}
	}
	d := newDecision(by, env)
	d.add(d.id(), events.GrantAdded{
		User: who.User, Account: scope.Account, Expires: utc(c.Expires), Terms: terms,
		Group: who.Group, Selector: scope.Selector, From: utc(c.From), Windows: windows,
	})
	return d.done()
}

// standing is the grant of this subject and scope that counts until now, if it
// is not one for certain times only.
func (c AddGrant) standing(s *aggregate.State, who aggregate.Subject, scope aggregate.Scope, now time.Time) (newest *aggregate.Grant) {
	for _, g := range s.GrantsOn(who, scope) {
		if s.GrantStands(g.ID, now) == nil && len(g.Windows) == 0 && (newest == nil || g.Added.Compare(newest.Added) > 0) {
			newest = g
		}
	}
	return newest
}

// beside checks what the grant adds to the one that counts until now.
func (c AddGrant) beside(has *aggregate.Grant, terms events.Terms, whose, where string) error {
	longer := !has.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(has.Expires))
	switch {
	case !longer && covers(has.Terms, terms):
		return conflict("to shorten or narrow it, remove it and add it again",
			"%s has a grant for %s that lasts as long and allows as much (%s)", whose, where, has.ID)
	case !covers(terms, has.Terms):
		return conflict("repeat its terms, or remove it first",
			"%s has a grant for %s that allows what this one does not (%s), and the newest counts", whose, where, has.ID)
	}
	return nil
}

func (c AddGrant) checkTimes(now time.Time) error {
	if err := checkExpiry(c.Expires, now); err != nil {
		return err
	}
	switch {
	case c.From.UTC().Year() > maxYear:
		return invalid("give an earlier one", "the beginning is after the year %d", maxYear)
	case !c.From.IsZero() && !c.Expires.IsZero() && !c.Expires.After(c.From):
		return invalid("give a later end", "the grant would end before it begins")
	}
	return nil
}

// readWindows checks windows and gives each in its one form.
func readWindows(texts []string) (windows []events.Window, err error) {
	if len(texts) > maxRules {
		return nil, invalid("use ranges of days", "there are %d windows, the limit is %d", len(texts), maxRules)
	}
	for _, text := range texts {
		w, err := events.ParseWindow(text)
		if err != nil {
			return nil, invalid("", "%v", err)
		}
		windows = append(windows, w)
	}
	return unique(windows), nil
}

// utc keeps the zero time zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}
