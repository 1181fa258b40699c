package events

import "github.com/google/uuid"

// A site can name another one that takes its scheduled work over by itself when
// nothing is heard of it for long enough (rule R13). Its own scheduled work then
// goes on only while the successor says that it hears the site: under a lease.
// Each site names its own successor, since it is who has to stop in time.

// SuccessorNamed names the successor of the site that writes it, in place of
// one that it named before.
type SuccessorNamed struct {
	Successor SiteID `json:"successor"` // zero for nobody any more
	Yield     uint64 `json:"yield"`     // milliseconds without an answer of the successor after which the site stops
	Take      uint64 `json:"take"`      // milliseconds without a word of the site after which the successor takes over
	Reason    string `json:"reason,omitempty"`
}

var _ = define[SuccessorNamed]("site.successor_named", 1)

// SuccessionEnded is the word of a site that it goes by no naming of an earlier
// time any more: from then on the other site need not wait for it by those.
type SuccessionEnded struct {
	Of SiteID    `json:"of"` // that had named it
	By uuid.UUID `json:"by"` // the naming that took the place of those
}

var _ = define[SuccessionEnded]("site.succession_ended", 1)
