package events

// RecordingCopiesSet says at how many sites each recording is kept, the one where it
// ran included; 0 stands for all. Its stream is the site that founded the mesh.
type RecordingCopiesSet struct {
	Copies uint32 `json:"copies"`
}

var _ = define[RecordingCopiesSet]("recording.copies_set", 1)

// SiteKeeping says whether a site keeps recordings of other sites, or only their
// headers. Until it says so, it keeps them. Its stream is the site.
type SiteKeeping struct {
	Recordings bool `json:"recordings"`
}

var _ = define[SiteKeeping]("site.keeping", 1)
