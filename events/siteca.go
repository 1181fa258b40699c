package events

import "time"

// CARotated gives a site another key to vouch for the names of its targets. The
// ones before are believed until Until and sign until then, since people learn
// of the new one meanwhile; from then on the new one signs. Its stream is the
// site's, as that of ca.user_created.
type CARotated struct {
	Key         string    `json:"key"` // public key, authorized_keys form
	Fingerprint string    `json:"fingerprint"`
	Until       time.Time `json:"until"` // end of those before
	Reason      string    `json:"reason,omitempty"`
}

var _ = define[CARotated]("ca.rotated", 1)

// UserCACreated gives a site the key that signs the user certificates which it
// presents to targets. The private half is sealed: a sealed site signs none.
type UserCACreated struct {
	Authority   CAID      `json:"authority"` // also the id of the data key that the private half is sealed under
	Key         string    `json:"key"`       // public key, authorized_keys form
	Fingerprint string    `json:"fingerprint"`
	Sealed      []byte    `json:"sealed"`         // the private half
	Until       time.Time `json:"until,omitzero"` // end of those before
	Reason      string    `json:"reason,omitempty"`
}

var _ = define[UserCACreated]("ca.user_created", 1)

// CertificateIssued says that a session got a user certificate for its login at
// the target. It is durable before the certificate is presented. Its stream is
// the session's.
type CertificateIssued struct {
	Authority   CAID      `json:"authority"`
	Serial      uint64    `json:"serial"`
	KeyID       string    `json:"key_id"`
	Principal   string    `json:"principal"`
	Fingerprint string    `json:"fingerprint"` // of the certified key, made for this one login
	Before      time.Time `json:"before"`      // first moment after its validity
	Source      string    `json:"source,omitempty"`
	Extensions  []string  `json:"extensions,omitempty"`
}

var _ = define[CertificateIssued]("ca.certificate_issued", 1)
