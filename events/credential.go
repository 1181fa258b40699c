package events

import "github.com/google/uuid"

// SecretKind is the sort of secret that a credential holds.
type SecretKind string

const (
	// Password is presented by password or keyboard-interactive login.
	Password SecretKind = "password"
	// PrivateKey is an SSH private key in OpenSSH or PEM form.
	PrivateKey SecretKind = "private_key"
	// UserCertificate is no secret that is kept: each session gets an SSH user
	// certificate of its own, signed by the site. Such a credential has no versions.
	UserCertificate SecretKind = "certificate"
)

// CredentialAdded makes a credential of one account.
type CredentialAdded struct {
	Account AccountID  `json:"account"`
	Kind    SecretKind `json:"kind"`

	Principal string `json:"principal,omitempty"` // for a certificate: whom it names
	// Probe proves the data key where no version does: nothing, sealed under it.
	Probe []byte `json:"probe,omitempty"`
}

var _ = define[CredentialAdded]("credential.added", 1)

// SecretStaged adds a version of the secret. The version's id is the id of
// this event; versions are only ever added (rules R1, R5). The secret is
// sealed under a data key of the credential before it gets here: the first one,
// until a site that may open that one goes (rule R13).
type SecretStaged struct {
	Sealed []byte `json:"sealed"`
	Public string `json:"public,omitempty"` // for a private key: its public half, authorized_keys form

	Key uuid.UUID `json:"key,omitzero"` // names the data key; zero for the first one, which has the credential's id

	Rotation   RotationID `json:"rotation,omitzero"`     // that made it; zero if it was entered
	SingleCopy bool       `json:"single_copy,omitempty"` // of old: see SecretSent.Alone
}

var _ = define[SecretStaged]("secret.staged", 1)

// SecretHow says on what ground a version is held to be true.
type SecretHow string

const (
	// ByEntry means that an administrator said so.
	ByEntry SecretHow = "entered"
	// ByLogin means that a login with it succeeded.
	ByLogin SecretHow = "login"
	// ByTarget means that the target said that it holds it.
	ByTarget SecretHow = "target"
)

// SecretApplied says that the target was given this version, or is said to
// hold it.
type SecretApplied struct {
	Version  SecretID   `json:"version"`
	How      SecretHow  `json:"how"`
	Rotation RotationID `json:"rotation,omitzero"`
	Try      TryID      `json:"try,omitzero"` // the secret.sent that it answers
}

var _ = define[SecretApplied]("secret.applied", 1)

// SecretVerified says that the target accepted this version.
type SecretVerified struct {
	Version  SecretID   `json:"version"`
	How      SecretHow  `json:"how"`
	Session  SessionID  `json:"session,omitzero"`
	Rotation RotationID `json:"rotation,omitzero"`
	Try      TryID      `json:"try,omitzero"` // the secret.tried that it answers
}

var _ = define[SecretVerified]("secret.verified", 1)
