package site

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/evidence"
	"github.com/holdfast-pam/holdfast/events/mesh"
	"github.com/holdfast-pam/holdfast/events/store"
)

// askTime is how long a member that starts waits for the others to say what they
// hold of its logs. Who is out of reach is asked when it is met.
const askTime = 2 * time.Second

func (d data) peers() string { return filepath.Join(d.dir, "peers.json") }

// keepPeers notes who the members are, for the next start: before its logs are
// read.
func (d data) keepPeers(all []mesh.Peer) error {
	var peers []mesh.WirePeer
	for _, p := range all {
		for _, addr := range p.Addrs {
			peers = append(peers, mesh.WirePeer{Site: p.Site, Identity: p.Identity, Addr: addr})
		}
	}
	b, err := json.Marshal(peers)
	if err == nil {
		err = writeDurable(d.peers(), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("note who the members are: %w", err)
	}
	return nil
}

// loadPeers reads the other members that can be dialled, once for each address of
// theirs; none where there are none.
func (d data) loadPeers(self events.SiteID) ([]mesh.WirePeer, error) {
	b, err := os.ReadFile(d.peers())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var peers []mesh.WirePeer
	if err == nil {
		err = json.Unmarshal(b, &peers)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; it is made anew when it is removed", d.peers(), err)
	}
	return slices.DeleteFunc(peers, func(p mesh.WirePeer) bool { return p.Site == self || p.Addr == "" }), nil
}

// openOwnLogs opens the logs, and sets them aside and opens others where peers hold
// more of them, or they are damaged and peers can be asked for what is lost.
func (s *Site) openOwnLogs(ctx context.Context) error {
	if err := s.settleDoubt(ctx); err != nil {
		return err
	}
	peers, err := s.data.loadPeers(s.who.ID)
	if err != nil {
		return err
	}
	why := ""
	switch err := s.openLogs(ctx); {
	case errors.Is(err, store.ErrDamaged) && len(peers) > 0:
		s.log.Error("a log of this site is damaged; it goes on in another one, and asks its peers for what is lost", "error", err)
		why = "one of its logs is damaged: " + err.Error()
	case err != nil:
		return err
	default:
		if why, err = s.askPeers(ctx, peers); err != nil {
			return err
		}
	}
	if why == "" {
		return nil
	}
	if err := s.data.writeDoubt(doubt{Why: why}); err != nil {
		return err
	}
	if err := s.closeLogs(); err != nil && !errors.Is(err, store.ErrDamaged) {
		return err
	}
	s.source, s.order, s.ctl, s.rec, s.others = nil, nil, nil, nil, newOthers()
	if err := s.settleDoubt(ctx); err != nil {
		return err
	}
	return s.openLogs(ctx)
}

// askPeers tells why this disk is an old one, if a peer proves that it is.
func (s *Site) askPeers(ctx context.Context, peers []mesh.WirePeer) (why string, err error) {
	if len(peers) == 0 {
		return "", nil
	}
	identity, err := s.readMeshIdentity()
	if err != nil {
		return "", err
	}
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answers := make([][]evidence.Head, len(peers))
	var asked sync.WaitGroup
	for i, p := range peers {
		asked.Go(func() {
			var err error
			if answers[i], err = mesh.AskHeld(asking, mesh.Member{Site: p.Site, Identity: p.Identity}, p.Addr, identity, s.who.ID); err != nil {
				s.log.Info("a member could not be asked what it holds of this site's logs", "site", p.Site.String(), "addr", p.Addr, "error", err)
			}
		})
	}
	asked.Wait()
	for i, heads := range answers {
		for _, h := range heads {
			known, err := s.holds(ctx, h)
			if err != nil {
				return "", err
			}
			if !known {
				return fmt.Sprintf("site %s holds %d records of %s, which are not here", peers[i].Site, h.Size, h.Origin), nil
			}
		}
	}
	return "", nil
}

// holds reports whether this site holds what a head covers, or has set it aside:
// then the missing part is on its way.
func (s *Site) holds(ctx context.Context, h evidence.Head) (bool, error) {
	for _, history := range s.Histories() {
		for _, log := range history.Logs() {
			if log.Origin() != h.Origin {
				continue
			}
			size, _ := log.Size()
			if size < h.Size {
				return false, nil
			}
			tree, err := store.TreeAt(ctx, log, h.Size)
			return err == nil && tree.Root() == h.Root, err
		}
	}
	return slices.ContainsFunc(s.OtherLogs(), func(log store.Log) bool { return log.Origin() == h.Origin }), nil
}

// readMeshIdentity reads the key that the site's links answer to.
func (s *Site) readMeshIdentity() (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(s.data.meshKey())
	if err != nil {
		return nil, fmt.Errorf("mesh identity: %w", err)
	}
	key, err := ssh.ParseRawPrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("mesh identity %s: %w", s.data.meshKey(), err)
	}
	private, ok := key.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("mesh identity %s is no Ed25519 key", s.data.meshKey())
	}
	return *private, nil
}

// coverAside makes the logs that were set aside such that they can be given to
// peers, as far as these lack something of them.
func (s *Site) coverAside(ctx context.Context) error {
	for _, log := range s.OtherLogs() {
		o := log.Origin()
		path := filepath.Join(s.data.other(o), "key")
		if _, err := os.Stat(path); o.Site != s.who.ID || errors.Is(err, fs.ErrNotExist) {
			continue // it came from peers, with its heads
		}
		key, err := evidence.LoadKey(path, o)
		if err == nil {
			err = mesh.Cover(ctx, log, s.data.other(o), s.mesh.identity, key)
		}
		if err != nil {
			return fmt.Errorf("sign for log %s, which was set aside: %w", o, err)
		}
	}
	return nil
}

// returnPause is how long nothing more of a log that was set aside has to come
// before what was open in it counts as lost.
const returnPause = 5 * time.Second

// endReturned ends sessions of former lives of this site whose start came back from
// peers, until ctx ends: what comes back of their recordings is all that there is.
func (s *Site) endReturned(ctx context.Context) {
	sizes := func() (all []uint64) {
		for _, log := range s.OtherLogs() {
			if log.Origin().Site == s.who.ID {
				size, _ := log.Size()
				all = append(all, size)
			}
		}
		return all
	}
	for last := sizes(); sleep(ctx, returnPause) == nil; {
		if now := sizes(); !slices.Equal(now, last) {
			last = now
			continue
		}
		if len(last) == 0 {
			continue
		}
		if err := s.endLostSessions(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("sessions that came back from peers could not be ended", "error", err)
		}
	}
}
