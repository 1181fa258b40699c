//go:build cgo

package main

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/holdfast-pam/holdfast/events/seal/token"
)

// problem is an error that the other side tells apart.
type problem struct {
	status token.Status
	text   string
}

func (p *problem) Error() string { return p.text }

// session is a login at a token.
type session struct {
	module *pkcs11.Ctx
	handle pkcs11.SessionHandle
	open   bool
}

func (s *session) answer(op token.Op, f [][]byte) ([]byte, error) {
	need := map[token.Op]int{token.Login: 3, token.Create: 2, token.Public: 1, token.Derive: 2, token.Destroy: 1}
	switch n, known := need[op]; {
	case !known || n != len(f):
		return nil, fmt.Errorf("request %d with %d fields is not known", op, len(f))
	case (op == token.Login) == s.open:
		return nil, errors.New("the first request, and only that, is the login")
	}
	switch op {
	case token.Login:
		return nil, s.login(string(f[0]), string(f[1]), f[2])
	case token.Create:
		return s.create(f[0], f[1])
	case token.Public:
		return s.public(f[0])
	case token.Derive:
		return s.derive(f[0], f[1])
	}
	return s.destroy(f[0])
}

func (s *session) login(module, label string, pin []byte) error {
	if s.module = pkcs11.New(module); s.module == nil {
		return fmt.Errorf("load %s: it is not a PKCS#11 library", module)
	}
	if err := s.module.Initialize(); err != nil {
		return fmt.Errorf("initialise %s: %w", module, err)
	}
	slot, err := s.slot(label)
	if err != nil {
		return err
	}
	if s.handle, err = s.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return fmt.Errorf("open a session at token %q: %w", label, err)
	}
	s.open = true
	err = s.module.Login(s.handle, pkcs11.CKU_USER, unsafe.String(unsafe.SliceData(pin), len(pin))) // no copy that could not be cleared
	switch {
	case err == nil || errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)):
		return nil
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)):
		return &problem{token.Locked, "the PIN is locked"}
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)), errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LEN_RANGE)),
		errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INVALID)):
		return &problem{token.BadPIN, "the PIN is wrong"}
	}
	return fmt.Errorf("log in at token %q: %w", label, err)
}

// slot finds the one token of a label.
func (s *session) slot(label string) (uint, error) {
	slots, err := s.module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("list the tokens: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := s.module.GetTokenInfo(slot)
		if err == nil && strings.TrimRight(info.Label, " \x00") == label {
			found = append(found, slot)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, &problem{token.NoToken, fmt.Sprintf("no token is labelled %q", label)}
	}
	return 0, &problem{token.NoToken, fmt.Sprintf("%d tokens are labelled %q", len(found), label)}
}

var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07} // OBJECT IDENTIFIER prime256v1

func (s *session) create(id, label []byte) ([]byte, error) {
	if old, err := s.find(pkcs11.CKO_PRIVATE_KEY, id); err != nil || len(old) > 0 {
		return nil, errors.Join(errors.New("a key of that id exists"), err)
	}
	public := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	private := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	handle, _, err := s.module.GenerateKeyPair(s.handle, mechanism, public, private)
	if err != nil {
		return nil, fmt.Errorf("make a P-256 key: %w", err)
	}
	return s.point(handle)
}

func (s *session) public(id []byte) ([]byte, error) {
	handle, err := s.one(pkcs11.CKO_PUBLIC_KEY, id)
	if err != nil {
		return nil, err
	}
	return s.point(handle)
}

// point reads a public key. The standard wraps the point in an OCTET STRING, and
// some tokens don't.
func (s *session) point(handle pkcs11.ObjectHandle) ([]byte, error) {
	got, err := s.module.GetAttributeValue(s.handle, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	raw := got[0].Value
	var inner []byte
	if rest, err := asn1.Unmarshal(raw, &inner); err == nil && len(rest) == 0 {
		raw = inner
	}
	return bytes.Clone(raw), nil
}

// derive asks the token for one ECDH. The result is an object of this session
// that is read and destroyed; the key itself stays.
func (s *session) derive(id, peer []byte) ([]byte, error) {
	key, err := s.one(pkcs11.CKO_PRIVATE_KEY, id)
	if err != nil {
		return nil, err
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
	derived, err := s.exchange(key, peer, template)
	if err != nil { // some tokens want the point as an OCTET STRING
		wrapped, bad := asn1.Marshal(peer)
		if bad != nil {
			return nil, bad
		}
		var again error
		if derived, again = s.exchange(key, wrapped, template); again != nil {
			return nil, fmt.Errorf("derive: %w", err)
		}
	}
	got, err := s.module.GetAttributeValue(s.handle, derived, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err = errors.Join(err, s.module.DestroyObject(s.handle, derived)); err != nil {
		return nil, fmt.Errorf("read what was derived: %w", err)
	}
	return got[0].Value, nil
}

func (s *session) exchange(key pkcs11.ObjectHandle, point []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	params := pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, point)
	return s.module.DeriveKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, params)}, key, template)
}

// destroy destroys both halves of a key.
func (s *session) destroy(id []byte) ([]byte, error) {
	was := []byte{0}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		handles, err := s.find(class, id)
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			if err := s.module.DestroyObject(s.handle, h); err != nil {
				return nil, fmt.Errorf("destroy a key: %w", err)
			}
			was[0] = 1
		}
	}
	return was, nil
}

func (s *session) one(class uint, id []byte) (pkcs11.ObjectHandle, error) {
	found, err := s.find(class, id)
	if err == nil && len(found) != 1 {
		err = &problem{token.NoKey, fmt.Sprintf("%d keys of id %x", len(found), id)}
	}
	if err != nil {
		return 0, err
	}
	return found[0], nil
}

func (s *session) find(class uint, id []byte) ([]pkcs11.ObjectHandle, error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_ID, id)}
	if err := s.module.FindObjectsInit(s.handle, template); err != nil {
		return nil, fmt.Errorf("find a key: %w", err)
	}
	found, _, err := s.module.FindObjects(s.handle, 8)
	if err = errors.Join(err, s.module.FindObjectsFinal(s.handle)); err != nil {
		return nil, fmt.Errorf("find a key: %w", err)
	}
	return found, nil
}

func (s *session) close() {
	if s.open {
		_ = s.module.Logout(s.handle) // the process ends next
		_ = s.module.CloseSession(s.handle)
	}
	if s.module != nil {
		_ = s.module.Finalize()
		s.module.Destroy()
	}
}
