package sshwire

import (
	"io"
	"slices"
	"strings"
)

// kexInit is KEXINIT, RFC 4253 section 7.1.
type kexInit struct {
	Cookie        [16]byte
	KeyExchanges  []string
	HostKeys      []string
	CiphersOut    []string // client to server
	CiphersIn     []string // server to client
	MACsOut       []string
	MACsIn        []string
	CompressOut   []string
	CompressIn    []string
	FollowsGuess  bool
	languages     [2][]string
	reservedField uint32
}

// maxNames bounds one name-list; real ones stay below 40.
const maxNames = 256

func (f *fields) names(what string) []string {
	b := f.bytes(what)
	if len(b) == 0 {
		return nil
	}
	list := strings.Split(string(b), ",")
	if len(list) > maxNames {
		f.fail(what + " of too many names")
		return nil
	}
	return list
}

func parseKexInit(packet []byte) (*kexInit, error) {
	f := open(packet, MsgKexInit)
	k := &kexInit{}
	for i := range k.Cookie {
		k.Cookie[i] = f.byte("cookie")
	}
	k.KeyExchanges = f.names("key exchange list")
	k.HostKeys = f.names("host key list")
	k.CiphersOut = f.names("cipher list")
	k.CiphersIn = f.names("cipher list")
	k.MACsOut = f.names("MAC list")
	k.MACsIn = f.names("MAC list")
	k.CompressOut = f.names("compression list")
	k.CompressIn = f.names("compression list")
	k.languages[0] = f.names("language list")
	k.languages[1] = f.names("language list")
	k.FollowsGuess = f.bool("first_kex_packet_follows")
	k.reservedField = f.uint32("reserved field")
	return k, f.err("KEXINIT")
}

func (k *kexInit) append(dst []byte) []byte {
	dst = append(append(dst, MsgKexInit), k.Cookie[:]...)
	for _, list := range [][]string{k.KeyExchanges, k.HostKeys, k.CiphersOut, k.CiphersIn,
		k.MACsOut, k.MACsIn, k.CompressOut, k.CompressIn, k.languages[0], k.languages[1]} {
		dst = appendString(dst, strings.Join(list, ","))
	}
	return appendUint32(appendBool(dst, k.FollowsGuess), k.reservedField)
}

// offer is what we put in every KEXINIT of a connection.
type offer struct{ KeyExchanges, HostKeys, Ciphers, MACs []string }

// kexInit makes a KEXINIT of the offer; extras are the names that only the first one carries.
func (o *offer) kexInit(random io.Reader, extras []string) (*kexInit, error) {
	k := &kexInit{
		KeyExchanges: slices.Concat(o.KeyExchanges, extras),
		HostKeys:     o.HostKeys,
		CiphersOut:   o.Ciphers, CiphersIn: o.Ciphers,
		MACsOut: o.MACs, MACsIn: o.MACs,
		CompressOut: []string{"none"}, CompressIn: []string{"none"},
	}
	_, err := io.ReadFull(random, k.Cookie[:])
	return k, err
}

// fit leaves out what a client of theirs shall not choose since it has better: other ciphers than AES-GCM, NIST curves.
func (o *offer) fit(theirs *kexInit) {
	gcm := slices.DeleteFunc(slices.Clone(o.Ciphers), func(n string) bool {
		return !slices.Contains(gcmCiphers, n) || !slices.Contains(theirs.CiphersOut, n) || !slices.Contains(theirs.CiphersIn, n)
	})
	if len(gcm) > 0 {
		o.Ciphers = gcm
	}
	better := slices.DeleteFunc(slices.Clone(o.KeyExchanges), func(n string) bool { return slices.Contains(nistCurves, n) })
	if _, shared := first(theirs.KeyExchanges, better); shared {
		o.KeyExchanges = better
	}
}

// agree works out the algorithms of a key exchange: RFC 4253 section 7.1. clientOut and serverOut name the
// protection of what the client and the server send.
func agree(client, server *kexInit) (kex, hostKey string, clientOut, serverOut DirectionAlgorithms, err error) {
	pick := func(what string, c, s []string) string {
		n, ok := first(c, s)
		if !ok && err == nil {
			err = &ProtocolError{ReasonKeyExchangeFailed, &NoCommonError{what, c, s}}
		}
		return n
	}
	kex = pick("key exchange", realKeyExchanges(client), realKeyExchanges(server))
	hostKey = pick("host key algorithm", client.HostKeys, server.HostKeys)
	clientOut.Cipher = pick("cipher", client.CiphersOut, server.CiphersOut)
	serverOut.Cipher = pick("cipher", client.CiphersIn, server.CiphersIn)
	if !ciphers[clientOut.Cipher].aead {
		clientOut.MAC = pick("MAC", client.MACsOut, server.MACsOut)
	}
	if !ciphers[serverOut.Cipher].aead {
		serverOut.MAC = pick("MAC", client.MACsIn, server.MACsIn)
	}
	pick("compression", client.CompressOut, server.CompressOut)
	pick("compression", client.CompressIn, server.CompressIn)
	return kex, hostKey, clientOut, serverOut, err
}

// realKeyExchanges leaves out the names that only signal something, so that two peers can't agree on one.
func realKeyExchanges(k *kexInit) []string {
	return slices.DeleteFunc(slices.Clone(k.KeyExchanges), func(n string) bool {
		return n == strictClient || n == strictServer || n == extInfoClient || n == "ext-info-s"
	})
}

// guessedWrong says whether the packet that peer sends after its KEXINIT on a guess is to be dropped.
func guessedWrong(peer, own *kexInit) bool {
	if !peer.FollowsGuess {
		return false
	}
	return !sameFirst(peer.KeyExchanges, own.KeyExchanges) || !sameFirst(peer.HostKeys, own.HostKeys)
}

func sameFirst(a, b []string) bool { return len(a) > 0 && len(b) > 0 && a[0] == b[0] }
