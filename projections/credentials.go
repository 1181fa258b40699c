package projections

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var _ = register(projection{
	name:    "credentials",
	version: 4,
	reads:   events.Ctl,
	schema: `
CREATE TABLE credentials (
	id BLOB PRIMARY KEY,
	set_stamp BLOB, account BLOB, kind TEXT NOT NULL DEFAULT '', added INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_account ON credentials (account);
CREATE TABLE credentials_versions (
	credential BLOB, version BLOB,
	stage_stamp BLOB, staged INTEGER, public TEXT NOT NULL DEFAULT '',
	apply_stamp BLOB, applied INTEGER, applied_how TEXT NOT NULL DEFAULT '',
	verify_stamp BLOB, verified INTEGER, verified_how TEXT NOT NULL DEFAULT '', verified_session BLOB,
	sent_stamp BLOB, sent INTEGER, refuse_stamp BLOB, refused INTEGER, unknown_stamp BLOB, unknown INTEGER,
	recover_stamp BLOB, recovered INTEGER, recovered_public TEXT NOT NULL DEFAULT '', reject_stamp BLOB, rejected INTEGER, retire_stamp BLOB, retired INTEGER,
	rotation BLOB, single_copy INTEGER NOT NULL DEFAULT 0, sent_alone INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (credential, version)
) STRICT, WITHOUT ROWID;`,
	on: []handler{
		on(credentialAdded), onHeader(secretStaged), on(secretApplied), on(secretVerified), on(secretSent), on(secretRefused),
		on(secretUnknown), on(secretRejected), on(secretRetired), on(secretRecovered),
	},
})

var (
	setCredential = keepLast("credentials", "id", "set_stamp", "account", "kind", "added")
	stageSecret   = keepLast("credentials_versions", "credential, version", "stage_stamp", "staged", "public", "rotation", "single_copy")
	applySecret   = keepLast("credentials_versions", "credential, version", "apply_stamp", "applied", "applied_how")
	verifySecret  = keepLast("credentials_versions", "credential, version", "verify_stamp", "verified", "verified_how", "verified_session")
)

func credentialAdded(w *writer, r *record, e events.CredentialAdded) error {
	return w.exec(setCredential, r.stream(), r.stamp(), blob(e.Account.UUID), string(e.Kind), r.Header.Wall)
}

// secretStaged takes note that a version exists; the sealed secret itself stays
// in the log.
func secretStaged(w *writer, r *record, e events.SecretStaged) error {
	return w.exec(stageSecret, r.stream(), r.Header.ID[:], r.stamp(), r.Header.Wall, e.Public, blob(e.Rotation.UUID), e.SingleCopy)
}

func secretApplied(w *writer, r *record, e events.SecretApplied) error {
	return w.exec(applySecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall, string(e.How))
}

func secretVerified(w *writer, r *record, e events.SecretVerified) error {
	return w.exec(verifySecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall, string(e.How), blob(e.Session.UUID))
}

// Credential is what the gateway presents for an account; never its secret.
// Its current version is the one that was applied or verified last, before any
// that is only staged: what the target holds is known where Verified is set.
type Credential struct {
	ID        events.CredentialID `json:"id"`
	Account   string              `json:"account"` // ACCOUNT+TARGET
	AccountID events.AccountID    `json:"account_id"`
	Kind      events.SecretKind   `json:"kind"`
	State     string              `json:"state"`            // of the current version: "none", "staged", "applied" or "verified"
	Version   events.SecretID     `json:"version,omitzero"` // the current one
	Public    string              `json:"public,omitempty"` // its public half, for a private key
	Versions  int                 `json:"versions"`         // how many there are
	Added     time.Time           `json:"added,omitzero"`
	Staged    time.Time           `json:"staged,omitzero"`   // the current version: its age counts from here
	Applied   time.Time           `json:"applied,omitzero"`  //
	Verified  time.Time           `json:"verified,omitzero"` // last time that the target accepted it
}

const selectCredential = `SELECT c.id, c.account, COALESCE(a.name, ''), a.target, COALESCE(t.name, ''), c.kind, c.added,
	v.version, COALESCE(NULLIF(v.public, ''), v.recovered_public, ''), v.staged, v.applied, v.verified,
	(SELECT count(*) FROM credentials_versions n WHERE n.credential = c.id)
	FROM credentials c LEFT JOIN accounts a ON a.id = c.account LEFT JOIN targets t ON t.id = a.target
	LEFT JOIN credentials_versions v ON v.credential = c.id AND v.version = (
		SELECT b.version FROM credentials_versions b WHERE b.credential = c.id
		ORDER BY max(COALESCE(b.apply_stamp, x''), COALESCE(b.verify_stamp, x'')) DESC, b.stage_stamp DESC LIMIT 1)`

// Credentials lists credentials by target and account. Of the filter it uses
// Since and Until (added), Target and Limit.
func (p *Projections) Credentials(ctx context.Context, f Filter) (all []Credential, err error) {
	err = p.read(ctx, func(q *query) error {
		var w where
		w.span("c.added", f)
		if f.Live {
			w.add("a.removed IS NULL AND t.removed IS NULL")
		}
		if f.Target != "" {
			_, ids, err := q.lookup(targetNoun, f.Target)
			if err != nil {
				return err
			}
			w.among("a.target", ids)
		}
		all, err = q.credentials(w, f.limit())
		return err
	}, "credentials", "accounts", "targets")
	return all, err
}

// Credential finds one credential by its id, or by its account as
// ACCOUNT+TARGET.
func (p *Projections) Credential(ctx context.Context, ref string) (c Credential, err error) {
	err = p.read(ctx, func(q *query) error {
		w, err := q.credentialBy(ref)
		if err != nil {
			return err
		}
		all, err := q.credentials(w, 1)
		if err == nil && len(all) == 0 {
			return &NotFoundError{"credential", ref}
		}
		if err == nil {
			c = all[0]
		}
		return err
	}, "credentials", "accounts", "targets")
	return c, err
}

func (q *query) credentialBy(ref string) (w where, err error) {
	id, bad := uuid.Parse(ref)
	if strings.Contains(ref, "+") || bad != nil {
		if id, err = q.account(ref); err != nil {
			return w, err
		}
		w.add("c.id = (SELECT credential FROM accounts WHERE id = ?)", id[:])
		return w, nil
	}
	w.among("c.id", []uuid.UUID{id})
	return w, nil
}

func (q *query) credentials(w where, limit int) ([]Credential, error) {
	return list(q, scanCredential, selectCredential+w.String()+" ORDER BY t.name, a.name, c.id LIMIT ?", append(slices.Clone(w.args), limit)...)
}

func scanCredential(row scanner) (c Credential, err error) {
	var account, target string
	var targetID uuid.UUID
	var added, staged, applied, verified sql.NullInt64
	err = row.Scan(&c.ID, &c.AccountID, &account, &targetID, &target, &c.Kind, &added, &c.Version, &c.Public, &staged, &applied, &verified, &c.Versions)
	c.Account = accountName(account, c.AccountID.UUID, target, targetID)
	c.Added, c.Staged, c.Applied, c.Verified = at(added), at(staged), at(applied), at(verified)
	switch {
	case verified.Valid:
		c.State = "verified"
	case applied.Valid:
		c.State = "applied"
	case c.Versions > 0:
		c.State = "staged"
	default:
		c.State = "none"
	}
	return c, err
}

// accountName is ACCOUNT+TARGET, or the account's id where no name is known.
func accountName(account string, id uuid.UUID, target string, targetID uuid.UUID) string {
	if account == "" {
		return named("", id)
	}
	return account + "+" + named(target, targetID)
}
