package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"github.com/holdfast-pam/holdfast/events"
)

// ErrKeyExposed says that others than the owner may read a private key's file.
var ErrKeyExposed = errors.New("private key can be read by others")

// Key is the Ed25519 key that signs the heads of one log epoch. Printing it
// shows the public half only.
type Key struct {
	origin events.Origin
	signer note.Signer
	public string
}

// OriginLine names a log in heads and keys: holdfast/SITE/EPOCH/KIND.
func OriginLine(o events.Origin) string { return "holdfast/" + o.String() }

// ParseOriginLine is the reverse of [OriginLine].
func ParseOriginLine(line string) (events.Origin, error) {
	var o events.Origin
	parts := strings.Split(line, "/")
	if len(parts) != 4 || parts[0] != "holdfast" {
		return o, fmt.Errorf("%q does not name a log; want holdfast/SITE/EPOCH/KIND", line)
	}
	site, err := uuid.Parse(parts[1])
	if err != nil {
		return o, fmt.Errorf("site in log name %q: %w", line, err)
	}
	epoch, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return o, fmt.Errorf("epoch in log name %q: %w", line, err)
	}
	o = events.Origin{Site: events.SiteID{UUID: site}, Epoch: uint32(epoch), Kind: events.Kind(parts[3])}
	if o.Epoch == 0 || !o.Kind.Valid() || OriginLine(o) != line {
		return events.Origin{}, fmt.Errorf("%q does not name a log; want holdfast/SITE/EPOCH/KIND", line)
	}
	return o, nil
}

// CreateKey makes the key of a log and stores it in a new file that only the
// owner may read. The file appears whole or not at all and is durable when
// CreateKey returns; an existing file is never replaced.
func CreateKey(path string, origin events.Origin, rand io.Reader) (*Key, error) {
	private, _, err := note.GenerateKey(rand, OriginLine(origin))
	if err != nil {
		return nil, fmt.Errorf("make key of log %s: %w", origin, err)
	}
	k, err := parseKey(private, origin)
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, []byte(private+"\n")); err != nil {
		return nil, fmt.Errorf("store key of log %s: %w", origin, err)
	}
	return k, nil
}

// LoadKey reads the key of a log. It returns [ErrKeyExposed] when the file's
// mode lets others than the owner at it.
func LoadKey(path string, origin events.Origin) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key of log %s: %w", origin, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key of log %s: %w", origin, err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o; make it 0600 and consider the key known to others", ErrKeyExposed, path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fmt.Errorf("read key of log %s: %w", origin, err)
	}
	k, err := parseKey(strings.TrimSuffix(string(b), "\n"), origin)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// parseKey reads the signer form PRIVATE+KEY+NAME+ID+BASE64(1, seed). Its
// errors never hold the text.
func parseKey(private string, origin events.Origin) (*Key, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, fmt.Errorf("key of log %s is not a signed-note private key", origin)
	}
	if signer.Name() != OriginLine(origin) {
		return nil, fmt.Errorf("key of log %s is for %q", origin, signer.Name())
	}
	seed, err := base64.StdEncoding.DecodeString(strings.SplitN(private, "+", 5)[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, fmt.Errorf("key of log %s is not an Ed25519 key", origin)
	}
	public := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, fmt.Errorf("key of log %s: %w", origin, err)
	}
	return &Key{origin: origin, signer: signer, public: vkey}, nil
}

// Origin is the log whose heads the key signs.
func (k *Key) Origin() events.Origin { return k.origin }

// Public is the C2SP verifier key: NAME+ID+BASE64.
func (k *Key) Public() string { return k.public }

// String gives the public key.
func (k *Key) String() string { return k.public }

// GoString gives the public key, so that %#v shows no secret.
func (k *Key) GoString() string { return k.public }

// Format gives the public key for every verb.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.public) }
