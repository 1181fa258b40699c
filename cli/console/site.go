package console

import (
	"context"
	"io"
	"log/slog"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/commands/rotation"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/projections"
	"github.com/holdfast-pam/holdfast/replay"
	"github.com/holdfast-pam/holdfast/site"
)

// Site is what the console needs of the site that it runs at. All methods are
// safe for concurrent use.
type Site interface {
	ID() events.SiteID
	Name() string
	HostKey() string // of the gateway, authorized_keys form

	// Commands carries out what verbs decide.
	Commands() *commands.Dispatcher

	// Sealer seals the secrets of new accounts.
	Sealer() *seal.Sealer

	// RotateHostCA and RotateUserCA give the site another authority; those before
	// are believed for the overlap.
	RotateHostCA(ctx context.Context, by events.Actor, overlap time.Duration, reason string) (events.Record, error)
	RotateUserCA(ctx context.Context, by events.Actor, overlap time.Duration, reason string) (events.Record, error)

	// Keys are the site's own keys.
	Keys() *site.Keys

	// Views are what verbs read, and CaughtUp returns once they hold every
	// event that was durable when it was called, so that a person reads their
	// own writes.
	Views() *projections.Projections
	CaughtUp(ctx context.Context) error

	// Source holds the logs that audit tail follows.
	Source() projections.Source

	// Histories are the site's logs.
	Histories() []*store.History

	// Recording gives what a session's recording holds, as far as it is
	// durable and the views know of it.
	Recording(ctx context.Context, session events.SessionID) replay.Source

	// Watch gives what is recorded of a running session and goes on with what
	// is added, until it ends. It calls caughtUp each time that all there is
	// was given.
	Watch(ctx context.Context, session events.SessionID, caughtUp func() error) replay.Source

	// Backup writes a backup of the site for the recipients to open.
	Backup(ctx context.Context, w io.Writer, id uuid.UUID, recipients ...age.Recipient) error

	// Digest folds the decisions that a clock covers, all for a zero one.
	Digest(ctx context.Context, at events.Clock) (events.Clock, string, error)

	// Mesh tells how the members of the mesh stand; Invite makes an invitation,
	// Join redeems one.
	Mesh(ctx context.Context) ([]site.MeshSite, error)
	Invite(ctx context.Context, by events.Actor, c commands.InviteSite, addr string) (string, events.Record, error)
	Join(ctx context.Context, by events.Actor, token string) (events.SiteID, error)

	// Matrix tells who holds how much of whose log.
	Matrix(ctx context.Context) ([]site.MeshLog, error)

	// Leases tells who does the scheduled work of each member, and by which lease.
	Leases() []site.MeshLease

	// MeshTop tells how the mesh stands at this moment.
	MeshTop(ctx context.Context) (site.MeshTop, error)
	// Exposed lists what has to be changed since a custodian has gone.
	Exposed() []site.Exposed

	// Leave gives all work of the site to another one and leaves the mesh.
	Leave(ctx context.Context, by events.Actor, to, reason string) ([]events.Record, error)

	// GiveDuties moves what the site carries out to another one.
	GiveDuties(ctx context.Context, by events.Actor, c commands.GiveDuties) ([]events.Record, error)

	// Rotations carries out what rotate verbs plan.
	Rotations() *rotation.Manager

	// Live lists the sessions that run at the site, with how far they are.
	Live() []gateway.LiveSession
}

// Config says what a [Console] works on.
type Config struct {
	Site    Site
	Version Version      // of the binary that runs the site
	Started time.Time    // when the site began to serve
	Listen  string       // address of its SSH gateway
	Log     *slog.Logger // of the site's own mistakes; nil for slog's default

	// Scan asks an SSH server for its host keys. It is given the addresses of
	// targets that administrators add, the only ones that the console has dialled.
	Scan func(ctx context.Context, addr string) ([]ssh.PublicKey, error)

	// Discover asks a target which accounts it has, as a target.accounts_sought
	// record says, and gives the record of the answer.
	Discover func(ctx context.Context, sought events.Record) (events.Record, error)

	// Process tells what the site's process holds.
	Process func() (Process, error)

	// Verify checks the site's logs over all epochs (see store.Verify). What
	// does not fit is in the reports; the error is for what could not be
	// checked at all.
	Verify func(ctx context.Context) ([]*store.VerifyReport, error)
}

// siteState is what a site is and how it does.
type siteState struct {
	ID          events.SiteID        `json:"id"`
	Name        string               `json:"name"`
	State       string               `json:"state"` // "ok", or what is wrong
	Version     Version              `json:"version"`
	Started     time.Time            `json:"started"`
	Listen      string               `json:"listen"`   // address of the SSH gateway
	HostKey     string               `json:"host_key"` // its fingerprint
	Sealed      bool                 `json:"sealed"`   // data keys can't be opened
	Sessions    int                  `json:"sessions"` // that are running
	Logs        []logState           `json:"logs"`
	Projections []projections.Status `json:"projections"`
	Process     Process              `json:"process"`
	Pending     int                  `json:"requests_pending"` // requests that wait for approval
	Overdue     int                  `json:"reviews_overdue"`  // accesses by break-glass that should have been reviewed
}

// logState is the state of one log.
type logState struct {
	Origin   events.Origin `json:"origin"`
	Records  uint64        `json:"records"`
	Root     events.Hash   `json:"root"`  // RFC 6962 root hash over the records' headers
	State    string        `json:"state"` // "open", "full", or "ended" for an epoch that is over
	Free     uint64        `json:"free"`  // bytes until it is full
	Headroom uint64        `json:"headroom"`
}

func (c *call) siteState() (siteState, error) {
	site := c.cfg.Site
	s := siteState{
		ID: site.ID(), Name: site.Name(), Version: c.cfg.Version, Started: c.cfg.Started.UTC(), Listen: c.cfg.Listen,
		HostKey: fingerprints([]string{site.HostKey()})[0], Sealed: site.Sealer().Sealed(),
		Logs: c.logs(), Projections: site.Views().Status(),
	}
	now := site.Commands().Now()
	site.Commands().View(func(a *aggregate.State) {
		s.Sessions = a.CountSessions(site.ID(), func(*aggregate.Session) bool { return true })
		for _, r := range a.Requests() {
			if a.Overdue(r, now) {
				s.Overdue++
			}
			if a.Standing(r, now).State == aggregate.Pending {
				s.Pending++
			}
		}
	})
	if s.State = s.trouble(); s.State == "ok" {
		if err := site.Views().Trouble(); err != nil {
			s.State = "the views are not kept up to date: " + oneLine(err.Error())
		}
	}
	var err error
	s.Process, err = c.cfg.Process()
	return s, err
}

// logs are the states of all epochs of the site's logs.
func (c *call) logs() []logState {
	var all []logState
	for _, h := range c.cfg.Site.Histories() {
		for _, log := range h.Logs() {
			l := logState{Origin: log.Origin(), State: "ended"}
			l.Records, l.Root = log.Size()
			if space := log.Space(); log.Origin() == h.Log().Origin() {
				l.State, l.Free, l.Headroom = "open", space.Free, space.Headroom
				if space.Full {
					l.State = "full"
				}
			}
			all = append(all, l)
		}
	}
	return all
}

// trouble names what keeps the site from doing all that it should.
func (s *siteState) trouble() string {
	for _, l := range s.Logs {
		if l.State == "full" {
			return "no space left to record in the " + string(l.Origin.Kind) + " log"
		}
	}
	if s.Sealed {
		return "sealed: it records, and opens no credential (vault unseal)"
	}
	for _, p := range s.Projections {
		if p.Failed != "" {
			return oneLine(p.Failed)
		}
	}
	return "ok"
}
