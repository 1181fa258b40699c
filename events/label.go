package events

// TargetLabelSet gives a target a label, in place of the value before. Labels
// decide which selectors take the target's accounts in, so they give rights.
type TargetLabelSet struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

var _ = define[TargetLabelSet]("target.label_set", 1)

// TargetLabelRemoved takes a label away. It wins over a setting that did not
// know of it (rule R8).
type TargetLabelRemoved struct {
	Key string `json:"key"`
}

var _ = define[TargetLabelRemoved]("target.label_removed", 1)
