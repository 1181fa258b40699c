package events

// CACreated records the key by which a site vouches for the names of its
// targets towards people who jump through it. Its stream is the site's.
type CACreated struct {
	Key         string `json:"key"`         // public key, authorized_keys form
	Fingerprint string `json:"fingerprint"` // "SHA256:..."
}

var _ = define[CACreated]("ca.created", 1)

// CATrusted makes a certificate authority whose user certificates say who
// somebody is: a certificate's principals are names of users.
type CATrusted struct {
	Name        string `json:"name"`
	Key         string `json:"key"`         // authorized_keys form without options and comment
	Fingerprint string `json:"fingerprint"` // "SHA256:..."
	Comment     string `json:"comment,omitempty"`
}

var _ = define[CATrusted]("ca.trusted", 1)

// CADistrusted ends the trust in an authority and what was opened by its
// certificates.
type CADistrusted struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[CADistrusted]("ca.distrusted", 1)

// CertificateRevoked takes the word back for some certificates of an
// authority: those with the serial number, the key id or the key that is set.
// Exactly one of them is.
type CertificateRevoked struct {
	Serial      uint64 `json:"serial,omitempty"`
	KeyID       string `json:"key_id,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // of the certified key
	Reason      string `json:"reason,omitempty"`
}

var _ = define[CertificateRevoked]("ca.certificate_revoked", 1)

// Certificate is the user certificate by which somebody proved who they are.
type Certificate struct {
	CA     CAID   `json:"ca"`
	Serial uint64 `json:"serial"`
	KeyID  string `json:"key_id"` // as the authority wrote it, bounded
}

// IsZero reports whether there was no certificate; it is what omitzero asks.
func (c Certificate) IsZero() bool { return c == Certificate{} }
