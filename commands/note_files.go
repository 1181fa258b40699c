package commands

import (
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
)

// NoteFiles says what a running session did to files, given by the site.
type NoteFiles struct {
	Session events.SessionID
	Files   []events.SessionFileAccessed // in the order of their serials
}

var _ = register[NoteFiles]("NoteFiles", bySite)

// maxFilePath bounds a path in an event, in bytes.
const maxFilePath = 1024

// Decide refuses a session that is not running.
func (c NoteFiles) Decide(s *aggregate.State, by events.Actor, env Env) ([]events.Draft, error) {
	n, err := findSession(s, c.Session)
	if err != nil {
		return nil, err
	}
	d := newDecision(by, env)
	for _, e := range c.Files {
		if max(len(e.Path), len(e.Target)) > maxFilePath {
			e.Path, e.Target = bounded(e.Path, maxFilePath), bounded(e.Target, maxFilePath)
			e.Note = "a name is cut; " + e.Note
		}
		e.Detail, e.Status, e.Note = bounded(e.Detail, maxText), bounded(e.Status, maxText), bounded(e.Note, maxText)
		d.add(n.ID.UUID, e)
	}
	return d.done()
}
