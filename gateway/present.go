package gateway

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/lockout"
	"github.com/holdfast-pam/holdfast/commands/vault"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
)

// reach logs in at the target and makes that an event. Where it is not settled which version of the secret the target
// takes, the likeliest ones are presented within the account's lock-out budget, and what was accepted settles it. A
// certificate is made for this session alone, so there is nothing to choose from.
func (s *Server) reach(ctx context.Context, o *opened) error {
	if o.started.Secret.Kind == events.UserCertificate {
		_, err := s.present(ctx, o, o.started.Secret)
		return err
	}
	return s.cfg.Keeper.Login(ctx, o.started.Session, o.started.Secret.Credential, func(v vault.Sealed) (lockout.Result, error) {
		return s.present(ctx, o, v)
	})
}

// present logs in at the target with one version of the secret, and records what was accepted.
func (s *Server) present(ctx context.Context, o *opened, v vault.Sealed) (lockout.Result, error) {
	started := o.started
	started.Secret = v
	t := &targetLogin{
		sealer: s.cfg.Sealer, started: &started, config: s.cfg.SSH, limits: s.cfg.Limits, dial: s.cfg.Dial,
		permits: o.permits, now: s.cfg.Now, site: s.cfg.Site,
		issue: func(c events.CertificateIssued) error {
			_, err := s.cfg.Dispatcher.Do(ctx, s.actor, commands.IssueCertificate{Session: o.started.Session, Issued: c})
			return err
		},
	}
	target, conn, err := t.run(ctx)
	if err != nil {
		return t.result(err), err
	}
	o.target = target
	algorithms := conn.Algorithms()
	say := commands.ConnectSession{
		Session: o.started.Session, Server: string(conn.ServerVersion()), HostKey: ssh.FingerprintSHA256(t.proven),
		Cipher: algorithms.Out.Cipher, KeyExchange: algorithms.KeyExchange,
	}
	if v.Version != o.started.Secret.Version {
		say.Secret = v.Version
	}
	_, err = s.cfg.Dispatcher.Do(ctx, s.actor, say)
	return lockout.Accepted, err
}

// result tells what the target made of the secret when the login failed.
func (t *targetLogin) result(err error) lockout.Result {
	var auth *sshwire.AuthError
	refused := errors.As(err, &auth) || errors.Is(err, errNotAccepted)
	presented := t.tried
	if t.started.Secret.Kind == events.PrivateKey {
		presented = len(t.secrets) > 0 || auth != nil && slices.Contains(auth.Tried, "publickey")
	}
	switch {
	case t.vault != nil, !presented:
		return lockout.NotPresented
	case refused:
		return lockout.Rejected
	}
	return lockout.Unanswered
}
