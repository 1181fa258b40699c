package events

// VaultSealed says that the site let its private key go: from then on it records
// and opens nothing. Its stream is the site's, as that of all events here.
type VaultSealed struct {
	Provider string `json:"provider"` // kind that held the key: "file", "passphrase", "credential", "shares", "pkcs11"
	Reason   string `json:"reason,omitempty"`
}

var _ = define[VaultSealed]("site.sealed", 1)

// VaultUnsealed says that the site holds its private key again.
type VaultUnsealed struct {
	Provider string `json:"provider"`
	Key      uint32 `json:"key"` // id of the site's key
}

var _ = define[VaultUnsealed]("site.unsealed", 1)

// UnsealFailed says that somebody tried to unseal the site and could not. Tries
// are limited in rate, and so are these.
type UnsealFailed struct {
	Provider string `json:"provider"`
	Detail   string `json:"detail"` // never with what was entered
}

var _ = define[UnsealFailed]("site.unseal_failed", 1)

// UnsealShareGiven says that somebody entered shares of the site's key, and that
// more are needed.
type UnsealShareGiven struct {
	Given  int `json:"given"` // in all, since the site was sealed
	Needed int `json:"needed"`
}

var _ = define[UnsealShareGiven]("site.unseal_share_given", 1)

// RekeyBegan publishes the key that the site is going to have next. Data keys are
// wrapped to it as well from now on.
type RekeyBegan struct {
	From       uint32 `json:"from"` // id of the site's key
	To         uint32 `json:"to"`
	Provider   string `json:"provider"`    // kind that holds the next key
	SealingKey []byte `json:"sealing_key"` // its public half
}

var _ = define[RekeyBegan]("site.rekey_began", 1)

// RekeyAbandoned takes the next key back.
type RekeyAbandoned struct {
	To uint32 `json:"to"`
}

var _ = define[RekeyAbandoned]("site.rekey_abandoned", 1)

// SiteRekeyed makes the next key the site's. It opens everything that the one
// before opened.
type SiteRekeyed struct {
	From       uint32 `json:"from"`
	To         uint32 `json:"to"`
	Provider   string `json:"provider"`
	SealingKey []byte `json:"sealing_key"`
	DataKeys   int    `json:"data_keys"`          // that were wrapped anew
	Unopened   int    `json:"unopened,omitempty"` // that the old key did not open either
}

var _ = define[SiteRekeyed]("site.rekeyed", 1)

// SiteKeyDestroyed says that the private half of a former key is gone from this
// site. Backups from before hold what it opens, and may hold it.
type SiteKeyDestroyed struct {
	Key      uint32 `json:"key"`
	Provider string `json:"provider"` // kind that held it
}

var _ = define[SiteKeyDestroyed]("site.key_destroyed", 1)
