package aggregate

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-pam/holdfast/events"
)

// What a log says beyond where it counts has no effect. But a target may have been
// sent a secret by then, and hold it: such a version must not be lost (rule R14). A
// site that holds a copy of that part says so in its own log (secret.recovered), since
// others may hold another branch, or nothing.

// maxTail is how many versions of a credential are kept of one site's logs: one that is
// not trusted must not have others test as many as it likes.
const maxTail = 3

// tail names what a site says about the versions of one credential beyond where its logs
// count. What is here depends on what of those logs is: it is no part of what sites
// agree on.
type tail struct {
	site       events.SiteID
	credential events.CredentialID
}

// Recovery is a version that a target may hold, and of which nothing that counts
// says so.
type Recovery struct {
	Credential events.CredentialID
	Version    events.SecretID
	Sealed     []byte
	Public     string
	Key        uuid.UUID // zero for the credential's first one
	Log        events.Origin
	Position   uint64 // of the first event that says that it was sent, or of its staging

	sent     bool
	last     bool              // that was staged there
	rotation events.RotationID // by which it was
	over     bool              // that has ended
}

// mayBeHeld reports whether the target may hold a version. The last one that was staged
// may have been sent by what was lost of the log: it was copied to another site first,
// so that it outlives that (rule R1).
func (r *Recovery) mayBeHeld() bool { return r.sent || r.last && !r.over }

// noteTail takes note of what a record beyond where its log counts says of a secret.
func (s *State) noteTail(r *events.Record, clock events.Clock) {
	h := &r.Header
	var version events.SecretID
	var staged *events.SecretStaged
	switch h.Type {
	case "rotation.ended":
		for at, all := range s.tails {
			for _, r := range all {
				r.over = r.over || at.site == h.Site && r.rotation.UUID == h.Stream
			}
		}
		return
	case "secret.staged", "secret.sent", "secret.applied", "secret.unknown", "secret.verified", "secret.tried", "secret.rejected", "secret.unanswered":
	default:
		return
	}
	at := tail{h.Site, events.CredentialID{UUID: h.Stream}}
	e, err := r.Event()
	if err != nil || s.credentials[at.credential] == nil || s.MaskOf(h, clock) != "" {
		return
	}
	s.noteUnheard(h, e)
	switch e := e.(type) {
	case events.SecretStaged:
		version, staged = events.SecretID{UUID: h.ID}, &e
	case events.SecretSent:
		version = e.Version
	case events.SecretApplied:
		version = e.Version
	case events.SecretUnknown:
		version = e.Version
	case events.SecretVerified:
		version = e.Version
	}
	if version.IsZero() { // an alarm
		return
	}
	all := s.tails[at]
	i := slices.IndexFunc(all, func(r *Recovery) bool { return r.Version == version })
	if i < 0 {
		if len(all) == maxTail {
			all = slices.Delete(all, 0, 1)
		}
		i, all = len(all), append(all, &Recovery{Credential: at.credential, Version: version, Log: h.Origin()})
	}
	if v := all[i]; staged != nil {
		for _, r := range all {
			r.last = r == v
		}
		v.Sealed, v.Public, v.Key, v.rotation, v.Position = staged.Sealed, staged.Public, staged.Key, staged.Rotation, h.Position
	} else if !v.sent {
		v.sent, v.Position = true, h.Position
	}
	if s.tails == nil {
		s.tails = map[tail][]*Recovery{}
	}
	s.tails[at] = all
}

// Recoverable lists the versions that a target may hold, and of which only parts of
// logs say so that do not count, by version.
func (s *State) Recoverable() (all []Recovery) {
	for _, of := range s.tails {
		for _, r := range of {
			c := s.credentials[r.Credential]
			if !r.mayBeHeld() {
				continue
			}
			out := *r
			if v := c.versions[r.Version]; v != nil && v.Sealed != nil {
				if v.possible() != nil {
					continue
				}
				if out.Sealed, out.Public, out.Key = v.Sealed, v.Public, v.Key; out.Key == c.ID.UUID {
					out.Key = uuid.Nil
				}
			}
			if len(out.Sealed) > 0 {
				all = append(all, out)
			}
		}
	}
	slices.SortFunc(all, func(a, b Recovery) int { return bytes.Compare(a.Version.UUID[:], b.Version.UUID[:]) })
	return slices.CompactFunc(all, func(a, b Recovery) bool { return a.Version == b.Version })
}

var _ = fold(func(s *State, at *Mark, e events.SecretRecovered) bool {
	c, v := s.version(at, e.Version, Unknown)
	if c == nil {
		return false
	}
	if v.Staged == nil || v.Staged == v.recovered && at.Compare(v.recovered) < 0 {
		v.stage(s, c, at, e.Sealed, e.Public, e.Key)
	}
	if v.recovered == nil || at.Compare(v.recovered) < 0 {
		v.recovered = at
	}
	if key := cmp.Or(e.Key, c.ID.UUID); c.revived[key] == nil || at.Compare(c.revived[key]) < 0 {
		if c.revived == nil {
			c.revived = map[uuid.UUID]*Mark{}
		}
		c.revived[key] = at
	}
	v.held = later(v.held, at)
	c.branches = append(c.branches, head[events.SecretID]{at, e.Version})
	return true
})

// stage says with what a version was staged.
func (v *Version) stage(s *State, c *Credential, at *Mark, sealed []byte, public string, key uuid.UUID) {
	v.Sealed, v.Public, v.Staged, v.Key = sealed, public, at, key
	if v.Key == uuid.Nil {
		v.Key = c.ID.UUID
	} else {
		s.dataKeys.add(v.Key, c.ID)
	}
}
