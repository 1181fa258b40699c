package site

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/commands/aggregate"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/mesh"
)

// ticket is an invitation as a person carries it from a member to a newcomer.
type ticket struct {
	Invitation events.InvitationID `json:"i"`
	Secret     []byte              `json:"s"`
	Member     []byte              `json:"k"` // identity of the member that invites
	Addrs      []string            `json:"a"` // where it can be reached, tried in this order
	Name       string              `json:"n"` // of the newcomer
}

// tokenPrefix begins every token, so that one is known when it is seen.
const tokenPrefix = "holdfast-join-1."

func (t *ticket) String() string {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // it has no type that could fail
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

func parseTicket(text string) (*ticket, error) {
	bad := &commands.Refusal{Code: commands.Invalid, Message: "this is no invitation", Hint: "give the whole token that `mesh invite` printed"}
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(body) > 4096 {
		return nil, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	var t ticket
	if err != nil || json.Unmarshal(b, &t) != nil || len(t.Member) != ed25519.PublicKeySize || len(t.Secret) == 0 || len(t.Addrs) == 0 {
		return nil, bad
	}
	return &t, nil
}

// Invite makes an invitation for one site, and a mesh first where there is none.
// addr is an address under which the newcomer reaches this site's mesh port. It
// gives the token and the event.
func (s *Site) Invite(ctx context.Context, by events.Actor, c commands.InviteSite, addr string) (string, events.Record, error) {
	if s.mesh.addr == "" {
		return "", events.Record{}, &commands.Refusal{Code: commands.Conflict, Message: ErrNoMeshPort.Error(),
			Hint: "start it with --mesh-listen ADDRESS:PORT"}
	}
	if err := commands.CheckAddr(addr); err != nil {
		return "", events.Record{}, fmt.Errorf("--addr, where the newcomer reaches this site's mesh port: %w", err)
	}
	s.mesh.turn.Lock()
	defer s.mesh.turn.Unlock()
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", events.Record{}, err
	}
	hash := sha256.Sum256(secret)
	c.Site, c.SecretHash = s.who.ID, hash[:]
	records, err := s.commands.Do(ctx, by, c)
	if err != nil {
		return "", events.Record{}, err
	}
	keys := s.siteKeys()
	if anyHost(keys.Addr) {
		keys.Addr = addr
	}
	if _, err := s.commands.Do(ctx, s.actor(), commands.FoundMesh{Keys: keys}); err != nil {
		return "", events.Record{}, err
	}
	if err := s.startMesh(); err != nil {
		return "", events.Record{}, err
	}
	t := ticket{
		Invitation: events.InvitationID{UUID: records[0].Header.Stream}, Secret: secret, Name: c.Name,
		Member: s.mesh.identity.Public().(ed25519.PublicKey), Addrs: addrs(addr, s.MeshAddr()),
	}
	return t.String(), records[0], nil
}

// admit answers a newcomer at the mesh port. While this site joins another mesh it takes
// nobody in: they would be members of one that is no more.
func (s *Site) admit(ctx context.Context, r mesh.JoinRequest) (mesh.JoinAnswer, error) {
	s.mesh.door.Lock()
	defer s.mesh.door.Unlock()
	moves := s.mesh.joining
	if j := s.mesh.joined.Load(); j != nil { // the state is still of before where it could not be built anew
		s.commands.View(func(state *aggregate.State) { moves = moves || state.Founder() != j.Mesh })
	}
	if moves {
		return mesh.JoinAnswer{}, &commands.Refusal{Code: commands.Conflict, Message: fmt.Sprintf("site %q is joining another mesh itself, and takes nobody in", s.who.Name),
			Hint: "see where it is then (mesh status); in that mesh an invitation of a steward is good"}
	}
	ctx = commands.WithClient(ctx, commands.Client{Login: r.Name, Source: r.Source})
	if host, _, err := net.SplitHostPort(r.Source); err == nil && anyHost(r.Addr) { // it knows none of its addresses, and one was seen
		r.Addr = net.JoinHostPort(host, r.Addr[strings.LastIndexByte(r.Addr, ':')+1:])
	}
	_, err := s.commands.Do(ctx, s.actor(), commands.AdmitSite{
		Invitation: r.Invitation, Secret: r.Secret, Before: entries(r.Holds),
		Keys: commands.SiteKeys{Site: r.Site, Name: r.Name, Identity: r.Identity, Addr: r.Addr, SealingKey: r.SealingKey, HostKey: r.HostKey},
	})
	if err != nil {
		return mesh.JoinAnswer{}, err
	}
	answer := mesh.JoinAnswer{}
	s.commands.View(func(state *aggregate.State) {
		answer.Mesh = state.Founder()
		for _, m := range state.MeshSites() {
			if gone := state.Left(m.Site) || state.Fenced(m.Site); gone && !m.Founder {
				continue // of it the newcomer hears by the logs
			} else if gone {
				m.Addr = "" // its log comes from others, and it is spoken to no more
			}
			answer.Members = append(answer.Members, mesh.WirePeer{Site: m.Site, Identity: m.Identity, Addr: m.Addr, Name: m.Name})
			if m.Site == r.Site {
				answer.Before = holdings(m.Before.Entries())
			}
		}
	})
	s.log.Info("a site was admitted to the mesh", "site", r.Site.String(), "name", r.Name)
	return answer, nil
}

// ErrInMesh says that the site can't join another mesh.
var ErrInMesh = errors.New("this site is in a mesh already")

// arrival is how long a newcomer waits for the decisions of the mesh before it
// says that it has joined: until they are here, nobody is let in.
const arrival = 10 * time.Second

// Join redeems an invitation. From then on the identities that the site had made
// by itself do not count any more; those of the mesh do. It returns once they are
// here, or after [arrival].
func (s *Site) Join(ctx context.Context, by events.Actor, text string) (events.SiteID, error) {
	founder, err := s.join(ctx, by, text)
	if err != nil {
		return founder, err
	}
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	for ctx.Err() == nil {
		_, moved := s.commands.Applied(events.Origin{})
		admitted := false
		s.commands.View(func(state *aggregate.State) { _, admitted = state.MeshSite(s.who.ID) })
		if admitted { // which comes after all that the member knew that took it in
			break
		}
		select {
		case <-moved:
		case <-ctx.Done():
		}
	}
	return founder, nil
}

func (s *Site) join(ctx context.Context, by events.Actor, text string) (events.SiteID, error) {
	var none events.SiteID
	t, err := parseTicket(text)
	if err != nil {
		return none, err
	}
	s.mesh.turn.Lock()
	defer s.mesh.turn.Unlock()
	s.setJoining(true) // before it looks whether it is alone: from then on it stays so
	defer s.setJoining(false)
	inMesh, left := s.mesh.joined.Load() != nil, false
	s.commands.View(func(state *aggregate.State) {
		inMesh = inMesh || len(state.MeshSites()) > 1
		left = state.Left(s.who.ID)
	})
	if left {
		return none, errLeft(s.who.Name)
	}
	if inMesh {
		return none, &commands.Refusal{Code: commands.Conflict, Message: ErrInMesh.Error()}
	}
	if t.Name != s.who.Name {
		return none, &commands.Refusal{Code: commands.Conflict,
			Message: fmt.Sprintf("the invitation is for site %q, this is %q", t.Name, s.who.Name), Hint: "ask for one: mesh invite " + s.who.Name}
	}
	keys := s.siteKeys()
	ask := mesh.JoinRequest{
		Invitation: t.Invitation, Secret: t.Secret, Site: keys.Site, Name: keys.Name, Addr: keys.Addr,
		SealingKey: keys.SealingKey, HostKey: keys.HostKey,
	}
	for _, log := range append(s.ctl.Logs(), s.OtherLogs()...) { // logs that were set aside, too
		if o := log.Origin(); o.Site == s.who.ID && o.Kind == events.Ctl {
			size, root := log.Size()
			ask.Holds = append(ask.Holds, mesh.Holding{Origin: o, Size: size, Root: root})
		}
	}
	var answer mesh.JoinAnswer
	var failed []error
	for _, addr := range t.Addrs {
		if answer, err = mesh.AskToJoin(ctx, addr, t.Member, s.mesh.identity, ask); err == nil {
			for i, m := range answer.Members {
				if bytes.Equal(m.Identity, t.Member) {
					answer.Members[i].Addr = addr // it is reached there, whatever others call it
				}
			}
			break
		}
		failed = append(failed, err)
	}
	if err != nil {
		return none, &commands.Refusal{Code: commands.Unavailable, Message: "the mesh did not take this site in: " + errors.Join(failed...).Error(),
			Hint: "look at the member's log; the invitation may be used once, until it is over", Cause: err}
	}
	s.log.Info("this site has joined a mesh", "mesh", answer.Mesh.String(), "by", by.ID.String())
	before := answer.Before // of the first time that it asked, where an answer was lost
	if len(before) == 0 {
		before = ask.Holds
	}
	return answer.Mesh, s.becomeMember(ctx, answer, entries(before))
}

func (s *Site) setJoining(joining bool) {
	s.mesh.door.Lock()
	defer s.mesh.door.Unlock()
	s.mesh.joining = joining
}

// becomeMember makes the membership durable, builds the state anew without the
// identities of before, and starts the links.
func (s *Site) becomeMember(ctx context.Context, answer mesh.JoinAnswer, before []events.ClockEntry) error {
	j := &joined{Mesh: answer.Mesh, Members: answer.Members, Before: before}
	b, err := json.MarshalIndent(j, "", "  ")
	if err == nil {
		err = writeDurable(s.data.meshJoined(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note that the site has joined: %w", err)
	}
	s.mesh.joined.Store(j)
	ctx = context.WithoutCancel(ctx)
	if err = s.commands.Rebuild(ctx, func() (*aggregate.State, error) { return s.load(ctx) }); err != nil {
		return fmt.Errorf("build the state anew: %w", err)
	}
	if err := s.changeMesh(); err != nil {
		return err
	}
	s.counted.look()
	return nil
}
