package aggregate

import (
	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// requesting is the part of the state that is about asking for access.
type requesting struct {
	policies       map[events.PolicyID]*Policy
	policiesByName index[string, events.PolicyID]
	requests       map[events.RequestID][]*Request // one each, unless a site betrays
	requestsOf     map[events.UserID]map[events.AccountID][]*Request
	proposals      map[uuid.UUID]*GlassProposal // by stream
	glass          map[events.UserID][]glassWord
	keyHolders     map[string]map[events.UserID][]*Mark // by fingerprint: whoever has or had the key, by what said so
}

func newRequesting() requesting {
	return requesting{
		policies:       map[events.PolicyID]*Policy{},
		policiesByName: index[string, events.PolicyID]{},
		requests:       map[events.RequestID][]*Request{},
		requestsOf:     map[events.UserID]map[events.AccountID][]*Request{},
		proposals:      map[uuid.UUID]*GlassProposal{},
		glass:          map[events.UserID][]glassWord{},
		keyHolders:     map[string]map[events.UserID][]*Mark{},
	}
}
