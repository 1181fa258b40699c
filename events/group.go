package events

import "github.com/google/uuid"

// GroupID names a group.
type GroupID struct{ uuid.UUID }

// IsZero reports whether the id names nothing.
func (id GroupID) IsZero() bool { return id.UUID == uuid.Nil }

// GroupAdded makes a group of users, which grants and policies may name.
type GroupAdded struct {
	Name string `json:"name"`
}

var _ = define[GroupAdded]("group.added", 1)

// GroupMemberAdded takes a user into a group.
type GroupMemberAdded struct {
	User UserID `json:"user"`
}

var _ = define[GroupMemberAdded]("group.member_added", 1)

// GroupMemberRemoved takes a user out of a group. It wins over an addition
// that did not know of it (rule R8).
type GroupMemberRemoved struct {
	User   UserID `json:"user"`
	Reason string `json:"reason,omitempty"`
}

var _ = define[GroupMemberRemoved]("group.member_removed", 1)

// GroupRemoved dissolves a group for good, and with it all that it may do.
type GroupRemoved struct {
	Reason string `json:"reason,omitempty"`
}

var _ = define[GroupRemoved]("group.removed", 1)
