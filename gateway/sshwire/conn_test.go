package sshwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// combination is one choice of algorithms.
type combination struct{ kex, cipher, mac string }

func (c combination) String() string { return c.kex + "/" + c.cipher + "/" + c.mac }

func (c combination) config() Config {
	cfg := Config{KeyExchanges: []string{c.kex}, Ciphers: []string{c.cipher}}
	if c.mac != "" {
		cfg.MACs = []string{c.mac}
	}
	return cfg
}

// protections is every cipher with every MAC that it needs.
func protections(macNames []string) (all []combination) {
	for _, c := range defaultCiphers {
		if ciphers[c].aead {
			all = append(all, combination{cipher: c})
			continue
		}
		for _, m := range macNames {
			all = append(all, combination{cipher: c, mac: m})
		}
	}
	return all
}

// combinations crosses key exchanges with protections; a sample takes each of them once.
func combinations(kexes, macNames []string) (all []combination) {
	for i, p := range protections(macNames) {
		for j, k := range kexes {
			if full || i == 0 || j == i%len(kexes) {
				all = append(all, combination{k, p.cipher, p.mac})
			}
		}
	}
	return all
}

func TestEveryAlgorithmCarriesPackets(t *testing.T) {
	kexes := append([]string{"ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256",
		"diffie-hellman-group14-sha1"}, defaultKeyExchanges...)
	for _, c := range combinations(kexes, append([]string{"hmac-sha1", "hmac-sha1-96"}, defaultMACs...)) {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			client, server := testClient(), testServer()
			client.Config, server.Config = c.config(), c.config()
			a, b := pair(t, client, server)
			if got := a.Algorithms(); got.KeyExchange != c.kex || got.In.Cipher != c.cipher || got.Out.MAC != c.mac || !got.Strict {
				t.Fatalf("agreed on %+v", got)
			}
			if !bytes.Equal(a.SessionID(), b.SessionID()) || a.User() != "ann" || b.User() != "ann" {
				t.Fatal("the two ends disagree about the session")
			}
			for _, n := range []int{0, 1, 7, 8, 15, 16, 100, 32768, 200000} {
				exchangeOne(t, a, b, randomBytes(n))
				exchangeOne(t, b, a, randomBytes(n))
			}
		})
	}
}

func exchangeOne(t *testing.T, from, to *Conn, data []byte) {
	t.Helper()
	want := ChannelData{1, data}.Append(nil)
	go func() {
		_ = from.WritePacket(want)
		_ = from.Flush()
	}()
	got, err := to.ReadPacket()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("packet of %d bytes came as %d bytes (%v)", len(want), len(got), err)
	}
}

func TestExecOverOwnEnds(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	go echoServer(b)
	data := randomBytes(3 << 20)
	got, status, err := runExec(a, "cat", data)
	if err != nil || status != 0 || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes of %d, status %d, %v", len(got), len(data), status, err)
	}
	if a.BytesIn() < 3<<20 || a.BytesOut() < 3<<20 {
		t.Errorf("counted %d in, %d out", a.BytesIn(), a.BytesOut())
	}
}

func TestReadReadyNeverPromisesWhatWouldBlock(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	a.mu.Lock()
	for i := range 3 {
		a.out.seal(appendString([]byte{MsgIgnore}, "chaff"), 0)
		a.out.seal(ChannelEOF{uint32(i)}.Append(nil), 0)
		a.out.seal(appendString([]byte{MsgIgnore}, "chaff"), 0)
	}
	a.mu.Unlock()
	if err := a.Flush(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		p, err := b.ReadPacket()
		if err != nil {
			t.Fatal(err)
		}
		ready := b.ReadReady()
		if m, err := ParseChannelEOF(p); err != nil || m.Recipient != uint32(i) {
			t.Fatalf("packet %d is %+v (%v); ReadReady must not disturb it", i, m, err)
		}
		if want := i < 2; ready != want {
			t.Fatalf("after packet %d ReadReady is %v", i, ready)
		}
	}
}

func TestDisconnectReachesThePeer(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	// Unread input at b must not destroy the message on its way to a.
	if err := errors.Join(a.WritePacket(ChannelEOF{1}.Append(nil)), a.Flush()); err != nil {
		t.Fatal(err)
	}
	go b.Disconnect(ReasonByApplication, "ended by an administrator")
	_, err := a.ReadPacket()
	var d *DisconnectError
	if !errors.As(err, &d) || d.Reason != ReasonByApplication || d.Text != "ended by an administrator" {
		t.Fatalf("peer saw %v", err)
	}
	if err := a.WritePacket(ChannelEOF{1}.Append(nil)); err == nil {
		t.Error("a packet could be written after the end")
	}
}

func TestEndOfStream(t *testing.T) {
	a, b := pair(t, testClient(), testServer())
	a.Close()
	if _, err := b.ReadPacket(); err != io.EOF {
		t.Errorf("after a plain close: %v", err)
	}
	if _, err := b.ReadPacket(); err != io.EOF {
		t.Errorf("and again: %v", err)
	}
}

func TestWritePacketRefusesOtherLayersAndLength(t *testing.T) {
	a, _ := pair(t, testClient(), testServer())
	for _, p := range [][]byte{nil, {MsgIgnore}, {MsgNewKeys}, {MsgUserauthRequest}, {128}, make([]byte, 0)} {
		if a.WritePacket(p) == nil {
			t.Errorf("%v was sent", p)
		}
	}
	if a.WritePacket(append([]byte{MsgChannelData}, make([]byte, DefaultMaxPacket)...)) == nil {
		t.Error("an oversized packet was sent")
	}
}

func TestConfigRefusesWhatItDoesNotKnow(t *testing.T) {
	for i, c := range []Config{
		{Ciphers: []string{"aes128-cbc"}}, {MACs: []string{"none"}}, {KeyExchanges: []string{strictServer}},
		{Ciphers: []string{}}, {Version: "SSH-1.5-x"}, {Version: "SSH-2.0-x\ny"}, {MaxPacket: 1000},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			if _, err := c.withDefaults(); err == nil {
				t.Errorf("%+v was accepted", c)
			}
		})
	}
}
