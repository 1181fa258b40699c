package console

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-pam/holdfast/commands"
	"github.com/holdfast-pam/holdfast/events"
	"github.com/holdfast-pam/holdfast/events/seal"
	"github.com/holdfast-pam/holdfast/events/store"
	"github.com/holdfast-pam/holdfast/gateway"
	"github.com/holdfast-pam/holdfast/gateway/sshwire"
	"github.com/holdfast-pam/holdfast/site"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is a real site in a temporary directory, with a console and a person
// of each role. It listens nowhere.
type world struct {
	*testing.T
	site    *site.Site
	cfg     site.Config
	console *Console
	scanned []string // addresses that were scanned
	silent  bool     // targets answer no discovery
	damage  []*store.VerifyReport

	admin, auditor, operator Person
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg := site.Defaults()
	cfg.Site.Data, cfg.Site.Name = filepath.Join(t.TempDir(), "data"), "test"
	cfg.Log.SegmentSize, cfg.Log.Headroom = 8<<20, 1<<20
	w := &world{T: t}
	w.open(cfg)
	t.Cleanup(w.close)
	w.admin = w.addUser("ada", events.Admin)
	w.auditor = w.addUser("aud", events.Auditor)
	w.operator = w.addUser("opal", events.Operator)
	return w
}

// open opens the site and its console.
func (w *world) open(cfg site.Config) {
	w.Helper()
	s, err := site.Open(w.Context(), cfg, "v0.0.0-test", slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	w.site, w.cfg = s, cfg
	w.console = New(Config{
		Site: s, Version: Version{Version: "v0.0.0-test", Go: "go"}, Started: time.Unix(0, 0), Listen: "127.0.0.1:2222",
		Log: slog.New(slog.DiscardHandler),
		Scan: func(_ context.Context, addr string) ([]ssh.PublicKey, error) {
			w.scanned = append(w.scanned, addr)
			return []ssh.PublicKey{publicKey("scanned")}, nil
		},
		Process: func() (Process, error) {
			return Process{Goroutines: 42, Descriptors: 21, Memory: 64 << 20}, nil
		},
		Discover: w.discover,
		Verify:   func(context.Context) ([]*store.VerifyReport, error) { return w.damage, nil },
	})
}

func (w *world) close() {
	w.Helper()
	if err := w.site.Close(); err != nil {
		w.Error(err)
	}
}

// restart closes the site, changes what its data directory holds, and opens it again.
func (w *world) restart(change func(data string)) {
	w.Helper()
	w.close()
	change(w.cfg.Site.Data)
	w.open(w.cfg)
}

// publicKey is a key made from a name.
func publicKey(name string) ssh.PublicKey {
	seed := sha256.Sum256([]byte(name))
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return signer.PublicKey()
}

func keyText(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(publicKey(name))))
}

func (w *world) addUser(name string, role events.Role) Person {
	w.Helper()
	by := events.SiteActor(w.site.ID())
	if !w.admin.ID.IsZero() {
		by = w.admin.actor()
	}
	records, err := w.site.Commands().Do(w.Context(), by, commands.AddUser{Name: name, Role: role, Key: keyText(name)})
	if err != nil {
		w.Fatal(err)
	}
	return Person{ID: events.UserID{UUID: records[0].Header.Stream}, Login: name, Source: "192.0.2.1:4242", Fingerprint: ssh.FingerprintSHA256(publicKey(name))}
}

// result is what a call gave.
type result struct {
	out, err string
	exit     Exit
}

func (w *world) run(p Person, line, stdin string) result {
	w.Helper()
	var out, err bytes.Buffer
	exit := w.console.Run(w.Context(), &Request{Person: p, Line: line, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &err})
	return result{out.String(), err.String(), exit}
}

// must runs lines of the administrator that have to succeed.
func (w *world) must(lines ...string) {
	w.Helper()
	for _, line := range lines {
		if r := w.run(w.admin, line, "hunter2\n"); r.exit != Done {
			w.Fatalf("%s: exit %d\n%s%s", line, r.exit, r.out, r.err)
		}
	}
}

// furnish adds a target with an account, and lets the operator use it.
func (w *world) furnish() {
	w.Helper()
	w.must(
		"target add web1 --addr web1.example.net:22 --host-key '"+keyText("web1")+"'",
		"account add root+web1 --password-stdin",
		"grant add opal root+web1",
		"target add db1 --addr 192.0.2.7:2222 --scan",
		"account add postgres+db1 --password-stdin",
	)
}

var (
	someUUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)
	someTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	someHash = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	someHLC  = regexp.MustCompile(`"hlc":"\d+"`)
	someFree = regexp.MustCompile(`"free":\d+`)
)

// plain replaces what differs from run to run by what does not, of the same
// width: ids are numbered as they come.
func plain(text string) string {
	seen := map[string]string{}
	text = someUUID.ReplaceAllStringFunc(text, func(id string) string {
		if seen[id] == "" {
			seen[id] = "id-" + strings.Repeat("0", 32) + string(rune('a'+len(seen)))
		}
		return seen[id]
	})
	text = someTime.ReplaceAllString(text, "2026-01-02T03:04:05Z")
	text = someHLC.ReplaceAllString(text, `"hlc":"1"`)
	text = someFree.ReplaceAllString(text, `"free":1`)
	return someHash.ReplaceAllString(text, strings.Repeat("h", 64))
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from what it was; if that is meant, run go test -update\n--- got\n%s--- want\n%s", name, got, want)
	}
}

// record makes a session of the operator on root+web1 whose recording holds
// the given output, and ends it. It needs furnish.
func (w *world) record(p Person, output ...string) events.SessionID {
	w.Helper()
	started, err := w.site.Commands().StartSession(w.Context(), p.actor(), commands.StartSession{
		User: p.ID, Fingerprint: p.Fingerprint, Account: "root", Target: "web1", Login: "root+web1", Source: p.Source,
		Client: "SSH-2.0-\x1b[2Jevil",
	})
	if err != nil {
		w.Fatal(err)
	}
	key, err := w.site.Sealer().NewKey(w.Context(), started.Session.UUID)
	if err != nil {
		w.Fatal(err)
	}
	defer key.Release()
	in := [][]byte{
		sshwire.ChannelOpen{Type: "session", Sender: 7, Window: 1 << 20, MaxPacket: 1 << 15}.Append(nil),
		sshwire.ChannelRequest{Recipient: 9, Type: "exec", WantReply: true, Payload: sshwire.ExecRequest{Command: "date"}.Append(nil)}.Append(nil),
		sshwire.ChannelData{Recipient: 9, Data: []byte("typed")}.Append(nil),
	}
	out := [][]byte{
		sshwire.ChannelOpenConfirmation{Recipient: 7, Sender: 9, Window: 1 << 20, MaxPacket: 1 << 15}.Append(nil),
		sshwire.ChannelSuccess{Recipient: 7}.Append(nil),
	}
	for _, text := range output {
		out = append(out, sshwire.ChannelData{Recipient: 7, Data: []byte(text)}.Append(nil))
	}
	out = append(out, sshwire.ChannelExtendedData{Recipient: 7, Type: 1, Data: []byte("oops")}.Append(nil))
	w.append(started.Session, key, events.In, 0, in[:1])
	w.append(started.Session, key, events.Out, 0, out[:1])
	w.append(started.Session, key, events.In, 1, in[1:])
	w.append(started.Session, key, events.Out, 1, out[1:])
	_, err = w.site.Commands().Do(w.Context(), events.SiteActor(w.site.ID()), commands.EndSession{
		Session: started.Session, Reason: events.EndedByClient, Complete: true,
		In: events.Cursors{Received: 3, Committed: 3, Delivered: 3, Bytes: 5}, Out: events.Cursors{Received: 4, Committed: 4, Delivered: 4, Bytes: 9},
	})
	if err != nil {
		w.Fatal(err)
	}
	return started.Session
}

func (w *world) append(id events.SessionID, key *seal.DataKey, d events.Direction, first uint64, packets [][]byte) {
	w.Helper()
	var block []byte
	for _, p := range packets {
		block = events.AppendPacket(block, 0, 0, p)
	}
	sealed, err := key.Seal(nil, block, seal.Binding{Purpose: gateway.PacketsPurpose(d), ID: id.UUID, Number: first})
	if err != nil {
		w.Fatal(err)
	}
	draft, err := events.NewDraft(id.UUID, events.SiteActor(w.site.ID()), "", events.SessionPackets{
		Direction: d, First: first, Count: uint64(len(packets)), Sealed: sealed,
	})
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.site.Histories()[1].Writer().Append(w.Context(), draft); err != nil {
		w.Fatal(err)
	}
}

// audited lists the events of a type that the log holds.
func (w *world) audited(eventType string) []events.Record {
	w.Helper()
	var found []events.Record
	for located, err := range w.site.Histories()[0].Read(w.Context(), events.Clock{}) {
		if err != nil {
			w.Fatal(err)
		}
		r, err := events.DecodeEntry(located.Entry)
		if err != nil {
			w.Fatal(err)
		}
		if r.Header.Type == eventType {
			found = append(found, r)
		}
	}
	return found
}

var _ io.Writer = (*failing)(nil)

// failing is a stream whose other end is gone.
type failing struct{}

func (*failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
