package commands

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// Command is an intent. Decide is pure: it reads s and changes nothing. It
// returns the events that make the intent true, or an error, usually a
// [*Refusal]. Drafts and an error together are a refusal that is itself an
// event: the drafts are appended, and then the error is returned.
type Command interface {
	Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error)
}

// Env is what a decision may depend on besides the state.
type Env struct {
	Now    time.Time
	NewID  func() (uuid.UUID, error)
	Client Client        // from where the command came, as far as known
	Log    events.Origin // that the events will be in

	// Silence is for how long nothing was heard of another site; nil for no
	// time at all.
	Silence func(events.SiteID) time.Duration

	command string // name under which the command is registered
}

// Client says from where a command came. It is stored with refusals.
type Client struct {
	Login       string // SSH user name as sent
	Source      string // address
	Fingerprint string // of the key that was proven
}

// right says who may give a command.
type right int

const (
	byAdmin   right = 1 << iota // a user of role admin
	bySite                      // the site itself
	byCommand                   // the command's own Decide judges
	headroom                    // its events may use the head-room of a full log
)

type entry struct {
	name  string
	right right
}

// registry is filled by package-level register calls and read-only afterwards.
var registry = map[reflect.Type]entry{}

// register declares a command under the name that its events carry, and who
// may give it. A duplicate is a mistake in the source.
func register[C Command](name string, r right) struct{} {
	t := reflect.TypeFor[C]()
	for other, e := range registry {
		if other == t || e.name == name {
			panic(fmt.Sprintf("commands: %s is registered twice", name))
		}
	}
	registry[t] = entry{name, r}
	return struct{}{}
}

// decide asks the policy and then the command.
func decide(s *aggregate.State, by events.Actor, c Command, env Env) ([]events.Draft, error) {
	e, ok := registry[reflect.TypeOf(c)]
	if !ok {
		return nil, fmt.Errorf("%T is not a registered command", c)
	}
	env.command = e.name
	if drafts, err := allowed(s, by, e, env); err != nil {
		return drafts, err
	}
	if err := entrusted(s, c, env); err != nil {
		return nil, err
	}
	return c.Decide(s, by, env)
}

// decision collects the drafts of one command.
type decision struct {
	by     events.Actor
	env    Env
	drafts []events.Draft
	err    error
}

func newDecision(by events.Actor, env Env) *decision { return &decision{by: by, env: env} }

// id makes a fresh id.
func (d *decision) id() uuid.UUID {
	id, err := d.env.NewID()
	d.err = errors.Join(d.err, err)
	return id
}

// add drafts an event of an aggregate.
func (d *decision) add(stream uuid.UUID, e events.Event) { d.addAs(d.id(), stream, uuid.Nil, e) }

// because drafts an event that another one caused (zero for none).
func (d *decision) because(cause, stream uuid.UUID, e events.Event) {
	d.addAs(d.id(), stream, cause, e)
}

func (d *decision) addAs(id, stream, cause uuid.UUID, e events.Event) {
	d.drafts = append(d.drafts, events.Draft{
		ID: id, Stream: stream, Actor: d.by, Command: d.env.command, Parent: cause, Event: e,
	})
}

// done gives the drafts, unless an id could not be made.
func (d *decision) done() ([]events.Draft, error) {
	if d.err != nil {
		return nil, d.err
	}
	return d.drafts, nil
}
