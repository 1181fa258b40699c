package events

// AccountAdded makes an account: a login that exists on a target, with the
// credential that the gateway presents for it.
type AccountAdded struct {
	Name       string       `json:"name"` // login name on the target
	Target     TargetID     `json:"target"`
	Credential CredentialID `json:"credential"`
}

var _ = define[AccountAdded]("account.added", 1)

// AccountRemoved retires an account. Its history stays.
type AccountRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[AccountRemoved]("account.removed", 1)
