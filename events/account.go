package events

// AccountAdded makes an account: a login that exists on a target, with the
// credential that the gateway presents for it.
type AccountAdded struct {
	Name       string       `json:"name"` // login name on the target
	Target     TargetID     `json:"target"`
	Credential CredentialID `json:"credential"`
	Via        AccountID    `json:"via,omitzero"`     // privileged account on the same target that may change this one
	Params     []Param      `json:"params,omitempty"` // sorted by name
}

var _ = define[AccountAdded]("account.added", 1)

// AccountViaSet replaces the privileged account that may change an account.
type AccountViaSet struct {
	Via AccountID `json:"via,omitzero"` // zero for none
}

var _ = define[AccountViaSet]("account.via_set", 1)

// AccountParamsSet replaces all parameters of an account.
type AccountParamsSet struct {
	Params []Param `json:"params,omitempty"` // sorted by name
}

var _ = define[AccountParamsSet]("account.params_set", 1)

// AccountRemoved retires an account. Its history stays.
type AccountRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[AccountRemoved]("account.removed", 1)

// AccountRestored takes back the removals of an account that its site knew of. Grants
// and requests of before do not come back.
type AccountRestored struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[AccountRestored]("account.restored", 1)
