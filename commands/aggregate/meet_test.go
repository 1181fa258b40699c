package aggregate

import (
	"reflect"
	"testing"

	"github.com/holdfast-pam/holdfast/events"
)

// What two terms both allow is never more than one of them does, in any field:
// one that is added has to be thought of here.
func TestMeetIsNeverWider(t *testing.T) {
	wide := events.Terms{
		Allow: []events.Way{events.Local, events.Agent}, To: []string{"a:1", "b:2"}, Listen: []string{"c:3"},
	}
	narrow := events.Terms{
		Allow: []events.Way{events.Local}, To: []string{"a:1"}, MaxTime: 10, Idle: 5, MaxSessions: 1, Services: []events.Service{events.ExecService},
		Deny: []events.Transfer{events.Upload},
	}
	for _, m := range []events.Terms{meet(wide, narrow), meet(narrow, wide)} {
		if !reflect.DeepEqual(normal(m), normal(narrow)) {
			t.Errorf("%+v, want %+v", m, narrow)
		}
	}
	none := meet(events.Terms{Services: []events.Service{events.ExecService}}, events.Terms{Services: []events.Service{events.ShellService}})
	if len(none.Services) == 0 {
		t.Error("terms that have no service in common allow all of them")
	}
	known := map[string]bool{"Allow": true, "To": true, "Listen": true, "MaxTime": true, "Idle": true, "MaxSessions": true, "Services": true, "Deny": true}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[events.Terms]()) {
		if !known[f.Name] {
			t.Errorf("meet has to say what %s of two terms is: the stricter one", f.Name)
		}
	}
}

func normal(t events.Terms) events.Terms {
	if len(t.Listen) == 0 {
		t.Listen = nil
	}
	return t
}
