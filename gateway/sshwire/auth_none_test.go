package sshwire

import (
	"errors"
	"testing"
)

// A server that takes "none" decides on it as on any method; one that doesn't take it refuses it, whatever it is asked.
func TestNoneLogin(t *testing.T) {
	onlyAnn := func(m Meta) error {
		if m.User() != "ann" {
			return errors.New("no")
		}
		return nil
	}
	for _, tt := range []struct {
		name, user string
		none       func(Meta) error
		in         bool
	}{
		{"let in", "ann", onlyAnn, true},
		{"refused by the callback", "bob", onlyAnn, false},
		{"not offered", "ann", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := testServer()
			server.Auth.None = tt.none
			client := testClient()
			client.User, client.Auth = tt.user, nil
			_, s, cerr, serr := tryLogin(t, client, server)
			if in := cerr == nil && serr == nil; in != tt.in {
				t.Fatalf("client: %v; server: %v", cerr, serr)
			}
			if tt.in && s.User() != tt.user {
				t.Errorf("logged in as %q", s.User())
			}
		})
	}
}

func TestServerNeedsAMethod(t *testing.T) {
	server := testServer()
	server.Auth = ServerAuth{}
	if server.check() == nil {
		t.Error("a server without a method is taken")
	}
	server.Auth.None = func(Meta) error { return nil }
	if err := server.check(); err != nil {
		t.Error(err)
	}
}
