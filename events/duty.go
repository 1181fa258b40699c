package events

import "github.com/google/uuid"

// What a site began, it carries out: rotations of the accounts that it added,
// the uses of requests that were made there, the codes of second factors that
// were enrolled there. These are its duties. They can move to another site (rule
// R13); the stream of the events is the site that began them.

// DutiesTaken moves the duties of a site that is gone to the site that writes
// it. Of several the highest term counts, of one term the least log.
type DutiesTaken struct {
	Term    uint64     `json:"term"`
	From    SiteID     `json:"from"`              // who carried them out before, as far as known
	Targets []TargetID `json:"targets,omitempty"` // only what is about these; empty for all
	Reason  string     `json:"reason"`

	Scheduled bool      `json:"scheduled,omitempty"` // only the rotations: requests and second factors stay where they are
	Lease     uuid.UUID `json:"lease,omitzero"`      // the naming of a successor by which it was taken; zero where a person did
}

var _ = define[DutiesTaken]("duty.taken", 1)

// DutiesGiven moves duties from the site that writes it to another one.
type DutiesGiven struct {
	Term    uint64     `json:"term"`
	To      SiteID     `json:"to"`
	Epoch   uint32     `json:"epoch"` // of the log in which that site decides
	Targets []TargetID `json:"targets,omitempty"`
	Reason  string     `json:"reason"`

	Scheduled bool `json:"scheduled,omitempty"` // as in [DutiesTaken]
}

var _ = define[DutiesGiven]("duty.given", 1)

// DutiesYielded is the word of a site that it has learned of duties which
// others took from it, and carries them out no more.
type DutiesYielded struct {
	Term uint64    `json:"term"`
	To   SiteID    `json:"to"`
	By   uuid.UUID `json:"by"` // the event that moved them
}

var _ = define[DutiesYielded]("duty.yielded", 1)
