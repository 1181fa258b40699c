package projections

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

var (
	sendSecret   = keepLast("credentials_versions", "credential, version", "sent_stamp", "sent", "sent_alone")
	refuseSecret = keepLast("credentials_versions", "credential, version", "refuse_stamp", "refused")
	doubtSecret  = keepLast("credentials_versions", "credential, version", "unknown_stamp", "unknown")
	rejectSecret = keepLast("credentials_versions", "credential, version", "reject_stamp", "rejected")
	bringSecret  = keepLast("credentials_versions", "credential, version", "recover_stamp", "recovered", "recovered_public")
	retireSecret = keepLast("credentials_versions", "credential, version", "retire_stamp", "retired")
)

func secretSent(w *writer, r *record, e events.SecretSent) error {
	return w.exec(sendSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall, e.Alone)
}

func secretRefused(w *writer, r *record, e events.SecretRefused) error {
	return w.exec(refuseSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall)
}

func secretUnknown(w *writer, r *record, e events.SecretUnknown) error {
	if e.Version.IsZero() { // the alarm is a matter of the rotation
		return nil
	}
	return w.exec(doubtSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall)
}

func secretRejected(w *writer, r *record, e events.SecretRejected) error {
	if e.Locked { // says nothing about the version
		return nil
	}
	return w.exec(rejectSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall)
}

func secretRecovered(w *writer, r *record, e events.SecretRecovered) error {
	return w.exec(bringSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall, e.Public)
}

func secretRetired(w *writer, r *record, e events.SecretRetired) error {
	return w.exec(retireSecret, r.stream(), e.Version.UUID[:], r.stamp(), r.Header.Wall)
}

// Version is one version of a credential's secret; never the secret itself.
type Version struct {
	ID         events.SecretID     `json:"id"`
	Credential events.CredentialID `json:"credential"`
	State      string              `json:"state"`             // "staged", "sent", "refused", "unknown", "applied" or "verified"
	Current    bool                `json:"current,omitempty"` // the one that is held to be true
	Public     string              `json:"public,omitempty"`  // its public half, for a private key
	Staged     time.Time           `json:"staged,omitzero"`
	Sent       time.Time           `json:"sent,omitzero"`         // last time that the target was asked to take it
	Refused    time.Time           `json:"refused,omitzero"`      // last time that it did not
	Unknown    time.Time           `json:"unknown,omitzero"`      // last time that nobody could tell
	Applied    time.Time           `json:"applied,omitzero"`      // last time that the target said so, or a person
	Verified   time.Time           `json:"verified,omitzero"`     // last time that the target accepted it
	Recovered  time.Time           `json:"recovered,omitzero"`    // when it came to light beyond where a log counts
	Rejected   time.Time           `json:"rejected,omitzero"`     // last time that the target turned it down
	Retired    time.Time           `json:"retired,omitzero"`      // when the target was made to refuse it
	Rotation   events.RotationID   `json:"rotation,omitzero"`     // that made it; zero if it was entered
	SingleCopy bool                `json:"single_copy,omitempty"` // no other site was known to hold it when the target was last asked to take it
	KnownTo    []Disclosure        `json:"known_to"`              // who was shown it
}

const selectVersions = `SELECT v.version, v.credential, COALESCE(NULLIF(v.public, ''), v.recovered_public), v.staged, v.sent, v.refused, v.unknown, v.applied, v.verified, v.recovered, v.rejected,
	v.retired, v.rotation, v.single_copy OR v.sent_alone, max(COALESCE(v.apply_stamp, x''), COALESCE(v.verify_stamp, x'')) FROM credentials_versions v`

// Versions lists the versions of a credential, the newest first. The credential
// is named by its id or by its account as ACCOUNT+TARGET.
func (p *Projections) Versions(ctx context.Context, ref string) (all []Version, err error) {
	err = p.read(ctx, func(q *query) error {
		by, err := q.credentialBy(ref)
		if err != nil {
			return err
		}
		owner, err := q.credentials(by, 1)
		if err == nil && len(owner) == 0 {
			err = &NotFoundError{"credential", ref}
		}
		if err != nil {
			return err
		}
		var w where
		w.among("v.credential", []uuid.UUID{owner[0].ID.UUID})
		if all, err = list(q, scanVersion, selectVersions+w.String()+" ORDER BY v.version DESC", w.args...); err != nil {
			return err
		}
		shown, err := q.disclosures(owner[0].ID)
		for i := range all {
			v := &all[i]
			v.Current = v.ID == owner[0].Version && !v.Applied.IsZero() || v.ID == owner[0].Version && !v.Verified.IsZero()
			v.KnownTo = []Disclosure{}
			for _, d := range shown {
				if d.Version == v.ID {
					v.KnownTo = append(v.KnownTo, d)
				}
			}
		}
		return err
	}, "credentials", "accounts", "targets", "disclosures", "users")
	return all, err
}

func scanVersion(row scanner) (v Version, err error) {
	var staged, sent, refused, unknown, applied, verified, recovered, rejected, retired sql.NullInt64
	var stamp []byte
	err = row.Scan(&v.ID, &v.Credential, &v.Public, &staged, &sent, &refused, &unknown, &applied, &verified, &recovered, &rejected, &retired,
		&v.Rotation, &v.SingleCopy, &stamp)
	v.Staged, v.Sent, v.Refused, v.Unknown = at(staged), at(sent), at(refused), at(unknown)
	v.Applied, v.Verified, v.Rejected, v.Retired = at(applied), at(verified), at(rejected), at(retired)
	v.Recovered = at(recovered)
	switch {
	case verified.Valid:
		v.State = "verified"
	case applied.Valid:
		v.State = "applied"
	case unknown.Valid, recovered.Valid:
		v.State = "unknown"
	case refused.Valid:
		v.State = "refused"
	case sent.Valid:
		v.State = "sent"
	default:
		v.State = "staged"
	}
	return v, err
}
