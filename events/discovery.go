package events

// FoundAccount is an account as a target shows it: what it says of itself,
// bounded, valid UTF-8, and no more to be believed than the target.
type FoundAccount struct {
	Name   string   `json:"name"`
	ID     string   `json:"id,omitempty"`     // the target's own: uid, role's oid, user's host, DN
	Login  bool     `json:"login,omitempty"`  // somebody could log in as it
	Keys   []string `json:"keys,omitempty"`   // fingerprints of what its authorized_keys let in
	Rights []string `json:"rights,omitempty"` // what it may do beyond its own, in the target's words
}

// AccountsSought records that the site is about to log in to a target to read
// which accounts it has, durable before anything is dialled. Its stream is the
// target.
type AccountsSought struct {
	Via AccountID `json:"via"` // that logs in
}

var _ = define[AccountsSought]("target.accounts_sought", 1)

// AccountsFound says which accounts a target showed. Its stream is the target;
// it replaces what was found before.
type AccountsFound struct {
	Via      AccountID      `json:"via"`
	Accounts []FoundAccount `json:"accounts,omitempty"`
	Cut      bool           `json:"cut,omitempty"` // the target has more
}

var _ = define[AccountsFound]("target.accounts_found", 1)
