package lock

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/holdfast-pam/holdfast/events/seal"
)

// Sharing says how a lock's secret was shared. The commitments tell a false
// share from a true one and nothing about the secret.
type Sharing struct {
	Set         uint32   `json:"set"` // tells this sharing's shares from those of others
	Threshold   int      `json:"threshold"`
	Count       int      `json:"count"`
	Commitments [][]byte `json:"commitments"`
}

// MaxShares bounds how many people may hold a share.
const MaxShares = 64

// CheckSharing reports why a key can't be shared so, nil if it can. One share
// that is enough alone would be no sharing.
func CheckSharing(threshold, count int) error {
	if threshold < 2 || count < threshold || count > MaxShares {
		return fmt.Errorf("%d of %d shares is out of range: at least 2 must be needed, at most all, and at most %d can be made",
			threshold, count, MaxShares)
	}
	return nil
}

var curve = group.Ristretto255

// ByShares locks a key's scalar under a random secret and gives the shares of
// that secret, in order. They are in no other place.
func ByShares(at For, scalar seal.Secret, threshold, count int) (*Lock, []Share, error) {
	if err := CheckSharing(threshold, count); err != nil {
		return nil, nil, err
	}
	set := make([]byte, 4)
	_, _ = rand.Read(set)
	secret := curve.RandomNonZeroScalar(rand.Reader)
	defer secret.SetUint64(0)
	sharing := secretsharing.New(rand.Reader, uint(threshold-1), secret)
	l := &Lock{Shares: &Sharing{Set: binary.BigEndian.Uint32(set), Threshold: threshold, Count: count}}
	for _, c := range sharing.CommitSecret() {
		b, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil, nil, fmt.Errorf("share the site's key: %w", err)
		}
		l.Shares.Commitments = append(l.Shares.Commitments, b)
	}
	raw, err := secret.MarshalBinary()
	if err != nil {
		return nil, nil, fmt.Errorf("share the site's key: %w", err)
	}
	defer clear(raw)
	if err := l.close(at, scalar, raw); err != nil {
		return nil, nil, err
	}
	var shares []Share
	for i, s := range sharing.Share(uint(count)) { //nolint:gosec // at most MaxShares
		value, err := s.Value.MarshalBinary()
		if err != nil {
			return nil, nil, fmt.Errorf("share the site's key: %w", err)
		}
		shares = append(shares, Share{Set: l.Shares.Set, Index: i + 1, value: seal.NewSecret(value)})
	}
	return l, shares, nil
}

// Check reports what is wrong with a share for this lock: made for another key,
// or false.
func (l *Lock) Check(s Share) error {
	_, err := l.verified(s)
	return err
}

func (l *Lock) verified(s Share) (secretsharing.Share, error) {
	var none secretsharing.Share
	switch {
	case l.Shares == nil:
		return none, errors.New("this key is not locked by shares")
	case s.Set != l.Shares.Set:
		return none, fmt.Errorf("share %d is of another key: it was made at an earlier or a later rekey, or at another site", s.Index)
	case s.Index > l.Shares.Count:
		return none, fmt.Errorf("there is no share %d: %d were made", s.Index, l.Shares.Count)
	}
	value := curve.NewScalar()
	if err := value.UnmarshalBinary(s.value.Bytes()); err != nil {
		return none, fmt.Errorf("share %d is false: it is not a number that was ever dealt", s.Index)
	}
	var commitments []group.Element
	for _, b := range l.Shares.Commitments {
		e := curve.NewElement()
		if err := e.UnmarshalBinary(b); err != nil {
			return none, fmt.Errorf("the stored commitments of the shares are damaged: %w", err)
		}
		commitments = append(commitments, e)
	}
	share := secretsharing.Share{ID: curve.NewScalar().SetUint64(uint64(s.Index)), Value: value} //nolint:gosec // 1 to MaxShares
	if !secretsharing.Verify(uint(l.Shares.Threshold-1), share, commitments) {                   //nolint:gosec // at least 1
		return none, fmt.Errorf("share %d is false: it does not belong to what was shared", s.Index)
	}
	return share, nil
}

// ErrTooFew says that more shares are needed.
var ErrTooFew = errors.New("more shares are needed")

// OpenShares opens what ByShares made. It names a share that is false, of another
// key, or given twice; ErrTooFew if there are not enough.
func (l *Lock) OpenShares(at For, given []Share) (*seal.PrivateKey, error) {
	if l.Shares == nil {
		return nil, errors.New("this key is not locked by shares")
	}
	if err := CheckSharing(l.Shares.Threshold, l.Shares.Count); err != nil {
		return nil, err
	}
	var shares []secretsharing.Share
	seen := map[int]bool{}
	for _, s := range given {
		if seen[s.Index] {
			return nil, fmt.Errorf("share %d was given twice", s.Index)
		}
		seen[s.Index] = true
		v, err := l.verified(s)
		if err != nil {
			return nil, err
		}
		shares = append(shares, v)
	}
	if len(shares) < l.Shares.Threshold {
		return nil, fmt.Errorf("%d of %d: %w", len(shares), l.Shares.Threshold, ErrTooFew)
	}
	secret, err := secretsharing.Recover(uint(l.Shares.Threshold-1), shares) //nolint:gosec // at least 1
	if err != nil {
		return nil, fmt.Errorf("put the shares together: %w", err)
	}
	defer secret.SetUint64(0)
	raw, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("put the shares together: %w", err)
	}
	defer clear(raw)
	return l.open(at, raw)
}

// Share is one of the shares. Its written form is
//
//	3-XXXXX-XXXXX-...
//
// where 3 is the share's number and the rest is base32 without the letters I, L,
// O and U: version (1 byte), set (4), number (1), value (32), checksum (4, of
// SHA-256 over what is before it). So a share that was mistyped is named before
// anything is done with it.
type Share struct {
	Set   uint32
	Index int
	value seal.Secret
}

const (
	shareVersion = 1
	shareBody    = 1 + 4 + 1 + 32
	shareSum     = 4
	shareGroup   = 5
)

var shareText = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// Text writes the share for the person who keeps it.
func (s Share) Text() seal.Secret {
	b := []byte{shareVersion}
	b = binary.BigEndian.AppendUint32(b, s.Set)
	b = append(b, byte(s.Index))
	b = append(b, s.value.Bytes()...)
	b = append(b, sumOf(b)...)
	defer clear(b)
	plain := make([]byte, shareText.EncodedLen(len(b)))
	shareText.Encode(plain, b)
	defer clear(plain)
	out := make([]byte, 0, 128)
	out = strconv.AppendInt(out, int64(s.Index), 10)
	for i, c := range plain {
		if i%shareGroup == 0 {
			out = append(out, '-')
		}
		out = append(out, c)
	}
	return seal.NewSecret(out)
}

func sumOf(body []byte) []byte {
	sum := sha256.Sum256(append([]byte("holdfast share\x00"), body...))
	return sum[:shareSum]
}

// Wipe overwrites the share's value.
func (s Share) Wipe() { s.value.Wipe() }

// ParseShare reads a share as Text wrote it; spaces, dashes and the case of
// letters don't matter. The error says which share was mistyped and never what
// was typed.
func ParseShare(text []byte) (Share, error) {
	number, rest, ok := bytes.Cut(bytes.TrimSpace(text), []byte("-"))
	index, err := strconv.Atoi(string(number))
	if !ok || err != nil || index < 1 || index > MaxShares || len(rest) > 256 {
		return Share{}, errors.New("it is not a share: a share begins with its number and a dash, such as 3-")
	}
	plain := make([]byte, 0, 256)
	defer func() { clear(plain[:cap(plain)]) }()
	for _, c := range bytes.ToUpper(rest) {
		switch {
		case c == '-' || c == ' ' || c == '\t':
			continue
		case c == 'O':
			c = '0'
		case c == 'I' || c == 'L':
			c = '1'
		case strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", c) < 0:
			return Share{}, fmt.Errorf("share %d is mistyped: it has a character that shares don't have", index)
		}
		plain = append(plain, c)
	}
	if n := shareText.EncodedLen(shareBody + shareSum); len(plain) != n {
		return Share{}, fmt.Errorf("share %d is mistyped: it has %d characters behind its number, not %d", index, len(plain), n)
	}
	b := make([]byte, shareBody+shareSum)
	defer clear(b)
	if _, err := shareText.Decode(b, plain); err != nil {
		return Share{}, fmt.Errorf("share %d is mistyped: its checksum does not match", index)
	}
	body, sum := b[:shareBody], b[shareBody:]
	switch {
	case !bytes.Equal(sumOf(body), sum), int(body[5]) != index:
		return Share{}, fmt.Errorf("share %d is mistyped: its checksum does not match", index)
	case body[0] != shareVersion:
		return Share{}, fmt.Errorf("share %d is of a newer holdfast", index)
	}
	return Share{Set: binary.BigEndian.Uint32(body[1:]), Index: index, value: seal.NewSecret(bytes.Clone(body[6:]))}, nil
}
