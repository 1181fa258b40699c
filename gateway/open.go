package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/gateway/relay"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// opened is a session whose target has accepted the login and whose client does not know it yet.
type opened struct {
	started commands.Started
	began   time.Time
	key     *seal.DataKey
	target  *leg
	live    *live
	permits permits
}

// failure is why a session that was started came to nothing: a reason and detail for the log, a text for the person.
// Neither holds anything secret.
type failure struct {
	reason events.EndReason
	detail string
	text   string
	stop   *stop // somebody asked for the end
}

func (f *failure) Error() string { return f.text }

// open takes a proven identity to a target: authorise, reserve, connect, log in. The session's start is durable before
// anything goes out to the target, and its end is recorded whatever becomes of it.
func (s *Server) open(ctx context.Context, l *login, m sshwire.Meta, to route) (*opened, error) {
	space := s.cfg.RecLog.Space()
	if space.Err != nil {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.NoSpace, Detail: plain(space.Err.Error())})
		return nil, text("this gateway can't record sessions now; tell its administrator")
	}
	if space.Full {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.NoSpace, Detail: "the rec log is full"})
		return nil, text("this gateway has no space left to record sessions; tell its administrator")
	}
	if s.cfg.Sealer.Sealed() {
		l.deny(ctx, m.RemoteAddr(), commands.DenyAccess{Reason: events.SiteSealed})
		return nil, text("this gateway is sealed and can't open credentials; tell its administrator")
	}
	began := time.Now()
	started, err := s.cfg.Dispatcher.StartSession(ctx, events.UserActor(l.identity.user), commands.StartSession{
		User: l.identity.user, Fingerprint: l.identity.fingerprint, Account: to.account, Target: to.target,
		Login: l.name, Source: m.RemoteAddr().String(), Client: string(m.ClientVersion()),
		Jump: l.jump, Certificate: l.identity.certificate, Factor: l.identity.factor,
	})
	if err != nil {
		return nil, s.refusal(err)
	}
	o := &opened{started: started, began: began, permits: l.identity.permits}
	o.live = s.admit(o, l, m)
	if err := s.connect(ctx, o, m); err != nil {
		s.abandon(o, err)
		return nil, text(err.Error())
	}
	return o, nil
}

// refusal gives the person's text for a session that was not started.
func (s *Server) refusal(err error) error {
	var r *commands.Refusal
	if errors.As(err, &r) && r.Cause == nil {
		return text(r.Error())
	}
	s.log.Error("a session could not be started", "error", err)
	return text("the gateway can't start sessions now; tell its administrator")
}

// admit makes the session known to whoever may end it.
func (s *Server) admit(o *opened, l *login, m sshwire.Meta) *live {
	e := &live{LiveSession: LiveSession{
		ID: o.started.Session, User: l.identity.user, UserName: l.identity.name, Account: o.started.Account,
		Target: o.started.TargetName, Grant: o.started.Grant, Source: m.RemoteAddr().String(), Started: s.cfg.Now(),
		target: o.started.Target, fingerprint: l.identity.fingerprint, certificate: l.identity.certificate,
	}}
	if start, err := o.started.Event.Event(); err == nil {
		e.account = start.(events.SessionStarted).Account
	}
	s.enlist(e)
	s.expire(e)
	return e
}

// connect makes the data key durable, logs in at the target and records that. An end that was asked for meanwhile
// stops it.
func (s *Server) connect(ctx context.Context, o *opened, m sshwire.Meta) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o.live.mu.Lock()
	o.live.cancel = cancel
	o.live.mu.Unlock()
	s.check(o.live, uuid.Nil)            // between the decision and now
	if why := o.live.why(); why != nil { // it may have come before there was anything to cancel
		return stopped(why)
	}
	key, err := s.cfg.Sealer.NewKey(ctx, o.started.Session.UUID)
	if err != nil && o.live.why() == nil {
		return &failure{
			reason: events.EndedByStorage, detail: err.Error(),
			text: "this gateway can't record the session; tell its administrator",
		}
	}
	o.key = key
	if err == nil && s.cfg.KeysHeld != nil {
		s.cfg.KeysHeld()
	}
	if err == nil {
		err = s.reach(ctx, o)
	}
	if why := o.live.why(); why != nil {
		return stopped(why)
	}
	if err != nil {
		return s.targetFailure(ctx, o, err)
	}
	return m.Banner(fmt.Sprintf("holdfast: this session is recorded (session %s)\r\n", o.started.Session))
}

func stopped(why *stop) *failure {
	return &failure{reason: why.reason, detail: why.detail, text: why.text, stop: why}
}

// targetFailure says what went wrong on the way to the target, to the person and to the log.
func (s *Server) targetFailure(ctx context.Context, o *opened, err error) *failure {
	name := o.started.TargetName
	f := &failure{reason: events.EndedByTargetLogin, detail: plain(err.Error())}
	var changed *hostKeyError
	var auth *sshwire.AuthError
	var strange *sshwire.NoCommonError
	var netErr net.Error
	var spent *lockout.SpentError
	switch {
	case errors.As(err, &spent):
		f.text = "logins at " + name + " are paused until " + spent.Until.UTC().Format(time.RFC3339) +
			", since one more wrong one could lock the account; tell the administrator of this gateway"
	case errors.Is(err, lockout.ErrNoCandidate):
		f.text = "this gateway holds no secret that " + name + " may take; tell the administrator of this gateway"
	case errors.As(err, &changed):
		f.text = name + " proved another host key than the one on record, so nothing was sent to it; tell the administrator of this gateway"
		s.refuseHostKey(ctx, o, changed)
	case errors.Is(err, seal.ErrSealed):
		f.text = "this gateway is sealed and can't open credentials; tell its administrator"
	case errors.Is(err, errPrompt):
		f.text = name + " asks for more than the password that this gateway keeps for it; tell the administrator of this gateway"
	case errors.As(err, &auth), errors.Is(err, errNotAccepted):
		f.text = name + " did not accept the credential that this gateway keeps for it; tell the administrator of this gateway"
	case errors.As(err, &strange):
		f.text = name + " and this gateway have no " + strange.Kind + " in common; its administrator may allow older ones (target allow)"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		f.text = name + " did not answer in time"
	case errors.As(err, new(*net.OpError)):
		f.text = name + " can't be reached from this gateway"
	default:
		f.text = "the login at " + name + " failed; tell the administrator of this gateway"
	}
	return f
}

func (s *Server) refuseHostKey(ctx context.Context, o *opened, changed *hostKeyError) {
	_, err := s.cfg.Dispatcher.Do(context.WithoutCancel(ctx), s.actor, commands.RefuseHostKey{
		Target: o.started.Target, Session: o.started.Session, Presented: authorizedKey(changed.presented),
	})
	if err != nil {
		s.log.Error("a changed host key could not be recorded", "target", o.started.Target.String(), "error", err)
	}
}

func authorizedKey(key ssh.PublicKey) string {
	line := ssh.MarshalAuthorizedKey(key)
	return string(line[:len(line)-1])
}

// abandon ends a session that never relayed.
func (s *Server) abandon(o *opened, err error) {
	f := &failure{reason: events.EndedByClient, detail: "the client left while it logged in"}
	if why := o.live.why(); why != nil {
		f = &failure{reason: why.reason, detail: why.detail, stop: why}
	} else if err != nil && !errors.As(err, &f) {
		f.detail = plain(err.Error())
	}
	if o.target != nil {
		_ = o.target.Disconnect(sshwire.ReasonByApplication, "the session did not start")
	}
	s.finish(o, events.SessionEnded{Reason: f.reason, Detail: f.detail, Complete: true})
}

// relay runs the session on an accepted connection until it ends.
func (s *Server) relay(o *opened, client *leg) {
	run := &session{
		scribe: scribe{session: o.started.Session, actor: s.actor, key: o.key},
		legs:   [2]*leg{client, o.target},
		refuse: func(ctx context.Context, e events.SessionRefused) error {
			_, err := s.cfg.Dispatcher.Do(ctx, s.actor, commands.RefuseInSession{
				Session: o.started.Session, Direction: e.Direction, Number: e.Number, What: e.What, Detail: e.Detail,
			})
			return err
		},
		note: func(ctx context.Context, changes []events.Event) error {
			_, err := s.cfg.Dispatcher.Do(ctx, s.actor, commands.NoteChannels{Session: o.started.Session, Changes: changes})
			return err
		},
		relay:   relay.New(o.permits.limit(policyOf(o.started.Terms)), relay.Limits{Channels: s.cfg.Limits.Channels}),
		started: o.began,
	}
	run.allowance.most, run.allowance.idle = allowanceOf(o.started.Terms)
	run.files = &fileReader{
		trail: trail{more: make(chan struct{}, 1), room: &s.kept}, log: s.cfg.RecLog, key: o.key, session: o.started.Session,
		note: func(ctx context.Context, files []events.SessionFileAccessed) error {
			_, err := s.cfg.Dispatcher.Do(ctx, s.actor, commands.NoteFiles{Session: o.started.Session, Files: files})
			return err
		},
	}
	run.keep = run.files.keep
	run.init(submitTo(s.cfg.Rec, run.files.add, s.cfg.Release), s.cfg.Rec.Crowded, s.cfg.Limits.StoragePause)
	o.live.run(run)
	ended := run.run()
	if left := run.leftOpen(); len(left) > 0 {
		if err := run.note(context.Background(), left); err != nil {
			s.log.Error("the end of forwarded channels could not be recorded", "session", o.started.Session.String(), "error", err)
		}
	}
	var err error
	if ended.Files, err = run.files.finish(); err != nil {
		s.log.Error("what a session did to files could not be told", "session", o.started.Session.String(), "error", err)
	}
	s.finish(o, ended)
}

// finish records the session's end and forgets it. The record may use the log's head-room; if even that fails, the
// site's next start finds the session open and says that it was lost.
func (s *Server) finish(o *opened, ended events.SessionEnded) {
	end := commands.EndSession{
		Session: o.started.Session, Reason: ended.Reason, Detail: ended.Detail,
		In: ended.In, Out: ended.Out, Complete: ended.Complete,
		Forwards: ended.Forwards, Files: ended.Files,
	}
	if why := o.live.why(); why != nil {
		end.Because = why.because
	}
	if _, err := s.cfg.Dispatcher.Do(context.Background(), s.actor, end); err != nil {
		s.log.Error("the end of a session could not be recorded", "session", o.started.Session.String(), "error", err)
	}
	s.lives.remove(o.live)
	if o.key != nil {
		o.key.Release()
	}
}
