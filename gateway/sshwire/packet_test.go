package sshwire

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// testKeysFor makes fixed keys, so that a fuzzer's finding can be repeated.
func testKeysFor(cipher, mac string) keys {
	fixed := func(n int) []byte { return bytes.Repeat([]byte{0x5a}, n) }
	return keys{Cipher: cipher, MAC: mac, IV: fixed(ciphers[cipher].iv), Key: fixed(ciphers[cipher].key), MACKey: fixed(macs[mac].key)}
}

// ends gives a sender and a receiver (of src) under the same keys.
func ends(t testing.TB, k keys, src io.Reader) (*sender, *receiver) {
	s, r := &sender{}, &receiver{src: src, buf: make([]byte, smallBuffer), maxPayload: preAuthMaxPayload}
	if k.Cipher == "" {
		s.use(plain{})
		r.use(plain{})
		return s, r
	}
	if err := errors.Join(s.install(k, true), r.install(k, true)); err != nil {
		t.Fatal(err)
	}
	return s, r
}

func everyKeys() (all []keys) {
	for _, p := range protections(append([]string{"hmac-sha1", "hmac-sha1-96"}, defaultMACs...)) {
		all = append(all, testKeysFor(p.cipher, p.mac))
	}
	return all
}

func TestPacketsComeBackInAnyFragmentation(t *testing.T) {
	for _, k := range append(everyKeys(), keys{}) {
		t.Run(k.Cipher+k.MAC, rapid.MakeCheck(func(t *rapid.T) {
			var wire bytes.Buffer
			s, _ := ends(nil, k, nil)
			payloads := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 5000), 1, 12).Draw(t, "payloads")
			for i, p := range payloads {
				s.seal(p, []int{0, secretBlock}[i%2])
			}
			wire.Write(*s.pending)
			var src io.Reader = &wire
			if rapid.Bool().Draw(t, "one byte at a time") {
				src = iotest.OneByteReader(src)
			}
			_, r := ends(nil, k, src)
			for i, want := range payloads {
				got, err := r.next()
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("payload %d: %d bytes of %d, %v", i, len(got), len(want), err)
				}
			}
			if _, err := r.next(); err != io.EOF {
				t.Fatalf("at the end: %v", err)
			}
			if s.Sequence != r.Sequence || s.Bytes != r.Bytes || s.Packets != r.Packets {
				t.Fatal("the two ends count differently")
			}
		}))
	}
}

// Flipping any bit of a packet must keep it, and whatever follows it, from being delivered.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	for _, k := range everyKeys() {
		t.Run(k.Cipher+k.MAC, func(t *testing.T) {
			s, _ := ends(t, k, nil)
			s.seal([]byte("pay no attention"), 0)
			wire := bytes.Clone(*s.pending)
			for bit := range len(wire) * 8 {
				bad := bytes.Clone(wire)
				bad[bit/8] ^= 1 << (bit % 8)
				_, r := ends(t, k, bytes.NewReader(append(bad, make([]byte, 70000)...)))
				p, err := r.next()
				var breach *ProtocolError
				if !errors.As(err, &breach) || p != nil {
					t.Fatalf("bit %d: delivered %q (%v)", bit, p, err)
				}
			}
		})
	}
}

// Two nodes that seal the same payloads under the same keys must make the same bytes, as a standby must.
func TestSealingIsDeterministic(t *testing.T) {
	for _, k := range everyKeys() {
		a, _ := ends(t, k, nil)
		b, _ := ends(t, k, nil)
		for n := range 100 {
			p := bytes.Repeat([]byte{7}, n+1)
			a.seal(p, 0)
			b.seal(p, 0)
		}
		if !bytes.Equal(*a.pending, *b.pending) {
			t.Errorf("%s %s: two senders differ", k.Cipher, k.MAC)
		}
	}
}

func TestSequenceNumbersWrap(t *testing.T) {
	for _, k := range everyKeys() {
		s, _ := ends(t, k, nil)
		s.Sequence = 0xfffffffe
		for i := range 4 {
			s.seal([]byte{MsgIgnore, byte(i)}, 0)
		}
		_, r := ends(t, k, bytes.NewReader(*s.pending))
		r.Sequence = 0xfffffffe
		for i := range 4 {
			if p, err := r.next(); err != nil || p[1] != byte(i) {
				t.Fatalf("%s %s: packet %d: %v %v", k.Cipher, k.MAC, i, p, err)
			}
		}
		if r.Sequence != 2 {
			t.Errorf("sequence number is %d", r.Sequence)
		}
	}
}

func TestSecretsArePaddedAlike(t *testing.T) {
	for _, k := range everyKeys() {
		sizes := map[int]bool{}
		for n := range 20 {
			s, _ := ends(t, k, nil)
			s.seal(bytes.Repeat([]byte{1}, 50+n), secretBlock)
			sizes[len(*s.pending)] = true
		}
		if len(sizes) != 1 {
			t.Errorf("%s: messages of 50 to 69 bytes have %d sizes on the wire", k.Cipher, len(sizes))
		}
	}
}

// An idle session's buffer must become small again, without losing what is in it.
func TestReceiveBufferGrowsAndShrinks(t *testing.T) {
	k := testKeysFor("aes128-gcm@openssh.com", "")
	s, _ := ends(t, k, nil)
	src := &pieces{}
	_, r := ends(t, k, src)
	check := func(n int) {
		s.seal(append([]byte{MsgIgnore}, make([]byte, n)...), 0)
		src.add(*s.pending)
		*s.pending = (*s.pending)[:0]
	}
	for range 40 {
		check(30000)
	}
	src.joined = true
	for range 40 {
		must(r.next())
	}
	grown := len(r.buf)
	src.joined = false
	for range 200 {
		check(10)
		must(r.next())
	}
	if grown < 4*smallBuffer || len(r.buf) != smallBuffer {
		t.Errorf("buffer of %d under load, %d when idle", grown, len(r.buf))
	}
}

// pieces gives back what was added, one piece a read or all at once.
type pieces struct {
	rest   [][]byte
	joined bool
}

func (p *pieces) add(b []byte) { p.rest = append(p.rest, bytes.Clone(b)) }

func (p *pieces) Read(b []byte) (int, error) {
	n := 0
	for len(p.rest) > 0 {
		m := copy(b[n:], p.rest[0])
		n += m
		if p.rest[0] = p.rest[0][m:]; len(p.rest[0]) > 0 {
			break
		}
		p.rest = p.rest[1:]
		if !p.joined {
			break
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// FuzzPackets feeds unauthenticated garbage to the reader under every protection, after one good packet.
func FuzzPackets(f *testing.F) {
	all := append(everyKeys(), keys{})
	for i, k := range all {
		s, _ := ends(f, k, nil)
		s.seal([]byte("hello"), 0)
		s.seal([]byte("world"), 0)
		f.Add(byte(i), []byte(*s.pending))
	}
	f.Fuzz(func(t *testing.T, which byte, wire []byte) {
		k := all[int(which)%len(all)]
		_, r := ends(t, k, bytes.NewReader(wire))
		for {
			p, err := r.next()
			if err != nil {
				return
			}
			if len(p) == 0 || len(p) > preAuthMaxPayload+255 {
				t.Fatalf("delivered %d bytes", len(p))
			}
		}
	})
}

func FuzzVersionLine(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Add([]byte("hello\nSSH-1.99-y z\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		_, r := ends(t, keys{}, bytes.NewReader(sent))
		line, err := r.line(maxVersionLine)
		if err != nil {
			return
		}
		if v, err := checkVersion(line); err == nil && (!printable(v) || len(v) > maxVersionLine) {
			t.Fatalf("took %q", v)
		}
	})
}

func FuzzKexInit(f *testing.F) {
	o := offer{defaultKeyExchanges, defaultHostKeyAlgorithms, defaultCiphers, defaultMACs}
	ours := must(o.kexInit(rand.Reader, []string{extInfoClient, strictClient}))
	f.Add(ours.append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		theirs, err := parseKexInit(p)
		if err != nil {
			return
		}
		if again, err := parseKexInit(theirs.append(nil)); err != nil || fmt.Sprint(again) != fmt.Sprint(theirs) {
			t.Fatalf("%+v came back as %+v (%v)", theirs, again, err)
		}
		kex, _, in, out, err := agree(theirs, ours)
		if err != nil {
			return
		}
		if _, ok := exchanges[kex]; !ok || ciphers[in.Cipher].make == nil || ciphers[out.Cipher].make == nil {
			t.Fatalf("agreed on %q, %v, %v", kex, in, out)
		}
	})
}
